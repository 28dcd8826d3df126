"""MXF: files of one constant frame rate with PCM sound that has no gaps.

FFmpeg's muxer accepts only the frame rates of television and film, ignores time
stamps, and ends the pictures where a sound track ends. Therefore pictures that are
shown longer are repeated, and gaps of the sound are filled with silence.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import av

from vitexco_jax.media.frames import Format

SUFFIX = '.mxf'
_NTSC = Fraction(1000, 1001)
_RATES = [Fraction(x) for x in (24, 25, 30, 48, 50, 60)]
_RATES += [x * _NTSC for x in _RATES if x % 25]
_NEAR = 1e-3  # Largest relative difference from a rate.
_SAMPLE_BYTES = {'pcm_s16le': 2, 'pcm_s24le': 3}
_SAMPLE_RATE = 48_000

_Timed = tuple[Fraction, av.Packet]  # The time is in seconds.


class UnfitError(ValueError):
  """MXF cannot hold a stream or a video."""


def check_format(form: Format) -> None:
  """Raises UnfitError if a file cannot hold a video."""
  frame_rate(form.frame_rate)
  if form.pixel_aspect != 1:
    # FFmpeg's muxer would store square pixels.
    raise UnfitError(
      'MXF is written with square pixels only, but those of the video are '
      f'{form.pixel_aspect} as wide as high'
    )


def frame_rate(rate: Fraction) -> Fraction:
  """Returns the frame rate of a file, for a nearly equal rate of the video.

  Raises:
    UnfitError: MXF does not have the rate.
  """
  nearest = min(_RATES, key=lambda x: abs(x - rate))
  if abs(nearest - rate) > _NEAR * rate:
    raise UnfitError(
      'MXF has 23.976, 24, 25, 29.97, 30, 47.95, 48, 50, 59.94, or 60 frames '
      f'per second, not {float(rate):.6g}'
    )
  return nearest


def check_stream(stream: av.stream.Stream, encoder: str | None) -> None:
  """Raises UnfitError if a file cannot hold a stream.

  Args:
    stream: of the source.
    encoder: to which its sound is converted; None: it is copied.
  """
  context = stream.codec_context
  if not isinstance(context, av.AudioCodecContext):
    raise UnfitError('MXF holds only pictures and sound')
  name = encoder or context.name
  if name not in _SAMPLE_BYTES or context.sample_rate != _SAMPLE_RATE:
    raise UnfitError('MXF holds PCM of 16 or 24 bits and 48 kHz')


def fitted(
  packets: Sequence[Iterator[_Timed]],
  streams: Sequence[av.AudioStream],
  end: Fraction,
) -> list[Iterator[_Timed]]:
  """Returns the packets of a file as the muxer needs them.

  Args:
    packets: pairs of time, in seconds, and packet: of the pictures, and of the sound
      if there is any. Both start at zero.
    streams: the sound tracks of the output.
    end: of the pictures, in seconds.
  """
  pictures = [_held(packets[0])]
  return pictures + [_without_gaps(x, streams, end) for x in packets[1:]]


def _held(packets: Iterable[_Timed]) -> Iterator[_Timed]:
  """Yields each picture once for each tick that it is shown."""
  for _, packet in packets:
    data, start = bytes(packet), packet.pts or 0
    for stamp in range(start, start + (packet.duration or 1)):
      each = av.Packet(data)
      each.pts = each.dts = stamp
      each.duration, each.is_keyframe = 1, True
      each.time_base, each.stream = packet.time_base, packet.stream
      yield stamp * each.time_base, each


def _without_gaps(
  packets: Iterable[_Timed],
  streams: Sequence[av.AudioStream],
  end: Fraction,
) -> Iterator[_Timed]:
  """Fills the gaps of the sound with silence, up to `end`."""
  ends = {stream.index: 0 for stream in streams}  # In samples.
  for _, packet in packets:
    stream = packet.stream
    assert isinstance(stream, av.AudioStream)
    stamp = packet.pts or 0
    yield from _silence(stream, ends[stream.index], stamp)
    packet.pts = packet.dts = max(stamp, ends[stream.index])
    ends[stream.index] = packet.pts + packet.size // _block(stream)
    yield Fraction(packet.pts, _SAMPLE_RATE), packet
  for stream in streams:
    yield from _silence(
      stream, ends[stream.index], math.ceil(end * _SAMPLE_RATE)
    )


def _silence(stream: av.AudioStream, start: int, stop: int) -> Iterator[_Timed]:
  """Yields silence from one sample to another, in packets of up to a second."""
  for stamp in range(start, stop, _SAMPLE_RATE):
    count = min(_SAMPLE_RATE, stop - stamp)
    packet = av.Packet(bytes(count * _block(stream)))
    packet.pts = packet.dts = stamp
    packet.duration, packet.is_keyframe = count, True
    packet.time_base, packet.stream = Fraction(1, _SAMPLE_RATE), stream
    yield Fraction(stamp, _SAMPLE_RATE), packet


def _block(stream: av.AudioStream) -> int:
  """Returns the bytes of one sample of all channels."""
  context = stream.codec_context
  return _SAMPLE_BYTES[context.name] * context.channels
