"""Copying of the packets of one stream into another container."""

import re
from collections.abc import Iterator
from fractions import Fraction

import av
from av.stream import AttachmentStream

_PCM = {  # By the format of decoded samples; 24 bits are decoded to s32.
  'u8': 'pcm_s16le',
  's16': 'pcm_s16le',
  's32': 'pcm_s24le',
  'flt': 'pcm_f32le',
  'dbl': 'pcm_f64le',
}
OVERLAP = Fraction(1, 50)  # Allowed overlap of audio packets, in seconds.

# Tags that describe the old container or its contents.
_OWN_TAGS = re.compile(
  r'(major_brand|minor_version|compatible_brands|encoder|vendor_id|rotate|BPS.*'
  r'|DURATION.*|NUMBER_OF_.*|_STATISTICS_.*|creation_time|handler_name|duration|timecode)',
  re.IGNORECASE,
)


def copied_tags(tags: dict[str, str]) -> dict[str, str]:
  """Returns the tags that are also valid for a copy."""
  return {
    name: text for name, text in tags.items() if not _OWN_TAGS.fullmatch(name)
  }


def pcm_encoder(stream: av.stream.Stream) -> str | None:
  """Returns the PCM encoder that stores uncompressed audio without loss."""
  context = stream.codec_context
  if not isinstance(context, av.AudioCodecContext) or not context.format:
    return None
  if not context.name.startswith('pcm_') and context.name != 's302m':
    return None
  if context.name.startswith('pcm_s32'):
    return 'pcm_s32le'
  return _PCM.get(context.format.packed.name)


class StreamCopy:
  """A stream of the output and the stream of the source that it copies.

  Attributes:
    overlap: dropped audio, in seconds.
  """

  def __init__(
    self,
    out: av.container.OutputContainer,
    stream: av.stream.Stream,
    encoder: str | None,
  ):
    """Adds the stream to an output.

    Args:
      out: the output, before anything is written.
      stream: of the source.
      encoder: to convert audio; None: packets are copied.

    Raises:
      ValueError, av.FFmpegError: the container refuses the stream.
    """
    self._is_sound = stream.type == 'audio'
    self._encoder: av.AudioStream | None = None  # Of audio to be converted.
    self._last: int | None = (
      None  # Previous packet's time stamp, in output ticks.
    )
    self._next = 0  # Time stamp for a packet without one.
    self.overlap = Fraction(0)
    self._target: av.stream.Stream
    context = stream.codec_context
    if encoder is not None and isinstance(context, av.AudioCodecContext):
      audio = out.add_stream(
        encoder, rate=context.sample_rate, layout=context.layout
      )
      assert isinstance(audio, av.AudioStream)
      self._target = self._encoder = audio
    elif isinstance(stream, AttachmentStream):
      self._target = _attach(out, stream)
    elif context is None:
      raise ValueError('unknown to this FFmpeg')
    else:
      if out.format.name == 'avi' and stream.type == 'video':
        raise ValueError('AVI does not support covers')
      self._target = out.add_stream_from_template(stream, opaque=True)
      _name_channels(stream, self._target)
    self._target.metadata.update(copied_tags(stream.metadata))
    self._target.disposition = stream.disposition

  def convert(self, packet: av.Packet, origin: Fraction) -> Iterator[av.Packet]:
    """Yields the output packets for a packet of the source.

    Args:
      packet: of the source; is changed.
      origin: second of the source that becomes zero.

    Raises:
      av.FFmpegError: audio to be converted cannot be decoded.
    """
    tick = self._target.time_base or Fraction(1)  # Known once it is open.
    length = (packet.duration or 0) * packet.time_base
    place = self._place(packet, origin, tick, length)
    if place is None:
      self.overlap += length
      return
    if self._encoder is None:
      yield self._placed(packet, place, round(length / tick))
      return
    done = Fraction(0)
    for frame in packet.decode():
      assert isinstance(frame, av.AudioFrame)
      frame.pts = None
      seconds = Fraction(frame.samples, frame.sample_rate)
      for part in self._encoder.encode(frame):
        at = place + round(done / tick)
        yield self._placed(part, at, round(seconds / tick))
      done += seconds

  def _place(
    self, packet: av.Packet, origin: Fraction, tick: Fraction, length: Fraction
  ) -> int | None:
    """Returns a packet's output time, in ticks; None if it overlaps."""
    stamp = packet.dts if packet.pts is None else packet.pts
    if stamp is None:
      return self._next
    place = round((stamp * packet.time_base - origin) / tick)
    if not self._is_sound:
      place = max(0, place)
    if self._last is None or place > self._last:
      return place
    late = (self._last - place) * tick
    if self._is_sound and late > max(OVERLAP, length):
      return None
    return self._last + 1

  def _placed(self, packet: av.Packet, place: int, length: int) -> av.Packet:
    """Assigns a packet to the output at a time and with a duration, in ticks."""
    packet.pts = packet.dts = self._last = place
    packet.duration = length
    self._next = place + max(1, length)
    packet.time_base = self._target.time_base or Fraction(1)
    packet.stream = self._target
    return packet


def _name_channels(source: av.stream.Stream, target: av.stream.Stream) -> None:
  """Sets a channel layout, which AVI does not store and MP4 requires for PCM."""
  if not isinstance(source, av.AudioStream):
    return
  if source.layout.name.endswith(' channels'):
    assert isinstance(target, av.AudioStream)
    target.codec_context.layout = f'{source.channels}c'


def _attach(
  out: av.container.OutputContainer, stream: AttachmentStream
) -> AttachmentStream:
  if out.format.name != 'matroska':
    raise ValueError('only Matroska supports attachments')
  return out.add_attachment(
    stream.name or 'attachment',
    stream.mimetype or 'application/octet-stream',
    stream.data,
  )
