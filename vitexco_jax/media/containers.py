"""Media containers: opening within limits, choice of streams, time stamps."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import av

from vitexco_jax.errors import UserError
from vitexco_jax.media import mxf
from vitexco_jax.media.frames import Format

# By default FFmpeg searches 5 MB and 5 s for streams. It searches that far only where
# a file does not list its streams.
_PROBE = {'probesize': str(2**27), 'analyzeduration': str(600 * 10**6)}


class Bounds(NamedTuple):
  """Limits on the files that this process opens.

  Attributes:
    pixels: maximum size of a picture, limited by memory.
    streams: maximum number of streams of a media file, with attached fonts.
    threads: number of threads that decode a video; 0: one per core.
    formats: allowed demuxers, FFmpeg's names with commas; None: all.
    codecs: allowed decoders, in the same form.
  """

  pixels: int = 2**27
  streams: int = 128
  threads: int = 0
  formats: str | None = None
  codecs: str | None = None


_bounds = Bounds()


def bound(bounds: Bounds) -> None:
  """Sets the limits of this process."""
  global _bounds
  _bounds = bounds


def bounds() -> Bounds:
  """Returns the limits of this process."""
  return _bounds


def open_input(
  path: str | os.PathLike[str], thorough: bool = False
) -> av.container.InputContainer:
  """Opens a media file within the limits of this process.

  FFmpeg decodes a little of every stream while it opens a file, so the limits must
  be set before. `decoding_options` sets them for decoding.

  Args:
    path: the file.
    thorough: whether to search further for audio that starts late.

  Raises:
    UserError: the file has too many streams, or its kind is not allowed.
    av.FFmpegError: the file cannot be opened.
  """
  sentence = (
    f'{path} has more than {_bounds.streams} streams, or its header needs more '
    'memory than is available'
  )
  options = decoding_options() | {'max_streams': str(_bounds.streams + 1)}
  if thorough:
    options |= _PROBE
  if _bounds.formats is not None:
    options['format_whitelist'] = _bounds.formats
    options['protocol_whitelist'] = 'file'
  try:
    # Without "file:", the name a:b.mp4 would select the protocol a.
    container = av.open(
      f'file:{path}', metadata_errors='ignore', options=options
    )
  except av.MemoryError as error:
    raise UserError(sentence) from error
  except av.FFmpegError as error:
    if _bounds.formats is None:
      raise
    raise UserError(
      f'{path} is damaged or not a supported video: use MP4, MOV, MKV, WebM, '
      'AVI, or MPEG'
    ) from error
  if len(container.streams) > _bounds.streams:
    container.close()
    raise UserError(sentence)
  return container


def decoding_options() -> dict[str, str]:
  """Returns FFmpeg's options that limit a decoder of this process."""
  options = {'max_pixels': str(_bounds.pixels)}
  if _bounds.codecs is not None:
    options['codec_whitelist'] = _bounds.codecs
  return options


def main_stream(
  container: av.container.InputContainer,
) -> av.video.stream.VideoStream | None:
  """Returns the video stream that players show, or None; never a cover."""
  streams = _video_tracks(container)
  best = container.streams.best('video')
  return best if best in streams else next(iter(streams), None)


def other_tracks(container: av.container.InputContainer) -> list[str]:
  """Describes the video tracks that are not read."""
  main = main_stream(container)
  names = []
  for stream in _video_tracks(container):
    if stream != main:
      coder = stream.codec_context
      kind = (
        f'{coder.name}, {coder.width}x{coder.height}' if coder else 'unknown'
      )
      names.append(f'video track {stream.index} ({kind})')
  return names


def _video_tracks(
  container: av.container.InputContainer,
) -> list[av.video.stream.VideoStream]:
  return [
    stream
    for stream in container.streams.video
    if not stream.disposition & av.stream.Disposition.attached_pic
  ]


def container_tick(suffix: str, form: Format) -> Fraction:
  """Returns the seconds per tick of time stamps in a container.

  Args:
    suffix: of the file, which determines the container.
    form: of the video.
  """
  if suffix == mxf.SUFFIX:
    return 1 / mxf.frame_rate(form.frame_rate)
  coarse = {'.mkv': Fraction(1, 1000), '.avi': 1 / form.frame_rate}
  return coarse.get(suffix, form.tick)


def container_options(suffix: str, tick: Fraction) -> dict[str, str]:
  """Returns the options of FFmpeg's muxer for a container."""
  if suffix in ('.mkv', '.avi', mxf.SUFFIX):
    return {}
  # By default, the start is rounded to milliseconds.
  return {'movie_timescale': str(tick.denominator)}


def rising(stamps: Iterable[int | Fraction], ratio: Fraction) -> Iterator[int]:
  """Scales time stamps to other ticks, and keeps them strictly increasing."""
  previous = None
  for stamp in stamps:
    scaled = round(stamp * ratio)
    previous = scaled if previous is None else max(scaled, previous + 1)
    yield previous
