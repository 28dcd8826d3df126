"""Decoding of video files: damage, time stamps, and interlacing."""

import errno
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from vitexco_jax.errors import UserError
from vitexco_jax.media import (
  containers,
  cut_files,
  images,
  interlacing,
  rgb_conversion,
  time_codes,
)
from vitexco_jax.media.frames import DEFAULT_FRAME_RATE, Format, Frame
from vitexco_jax.media.timeline import Timeline

_LONGEST = 60  # Maximum duration of the last frame, in seconds.


class VideoSource:
  """The frames of a video file; see `reader.Source`."""

  kind = 'video'

  def __init__(self, path: Path, deep: bool, deinterlace: bool):
    """Opens a file and decodes its first frame.

    Args:
      path: the file.
      deep: whether to return uint16.
      deinterlace: whether to deinterlace the frames; see `VideoReader`.

    Raises:
      UserError: the file is not a readable video.
      av.FFmpegError, OSError: the file cannot be read.
    """
    self.lost = 0
    self.damaged: list[int] = []
    self.interlaced = 0
    self._path = path
    self._end: Fraction | None = None  # Of all packets so far, in seconds.
    self._container = _open(path)
    try:
      self._start(deep, deinterlace)
    except BaseException:
      self.close()
      raise

  def close(self) -> None:
    """Closes the file."""
    self._container.close()

  def _start(self, deep: bool, deinterlace: bool) -> None:
    container, path = self._container, self._path
    self._stream = stream = _main_stream(container, path)
    self.other_tracks = containers.other_tracks(container)
    if stream.width:  # Some files store it only with the first frame.
      images.check_size(path, stream.height, stream.width)
    stream.thread_type = 'AUTO'
    stream.codec_context.thread_count = containers.bounds().threads
    # A stream may change its size; larger pictures are then not decoded.
    stream.codec_context.options = containers.decoding_options()
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_FRAME_RATE
    self.num_frames = (
      stream.frames or round(_seconds(container, stream) * rate) or None
    )

    self._first_dts: int | None = None
    pictures = self._decode()
    first = next(pictures, None)
    if first is None:
      raise UserError(
        f'{path}: not one frame can be decoded; it is damaged or cut short'
      )
    to_rgb = rgb_conversion.ToRgb(first, path, deep)
    images.check_size(path, to_rgb.height, to_rgb.width)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    self.format = Format(
      to_rgb.height,
      to_rgb.width,
      rate,
      stream.time_base,
      1 / aspect if to_rgb.is_turned else aspect,
      **to_rgb.tags,
      time_code=time_codes.of(container),
    )
    # AVI stores no time stamps; FFmpeg's guess is late by a frame or two.
    late = 0
    if container.format.name == 'avi' and first.pts is not None:
      late = first.pts - (self._first_dts or 0)
    order = interlacing.field_order(first)
    pictures = itertools.chain([first], pictures)
    if deinterlace:
      pictures = interlacing.deinterlaced(pictures, only_marked=bool(order))
    elif to_rgb.is_upright and to_rgb.height % 2 == 0:
      self.format = self.format._replace(field_order=order)
    self._pictures = self._stamped(pictures, late)
    self._to_rgb = to_rgb

  def frames(self) -> Iterator[Callable[[], Frame]]:
    """Yields a function per frame that converts it to RGB."""
    for picture, pts, duration in self._pictures:
      yield functools.partial(self._convert, picture, pts, duration)

  def _convert(self, picture: av.VideoFrame, pts: int, duration: int) -> Frame:
    return Frame(self._to_rgb.convert(picture), pts, duration=duration)

  def _decode(self) -> Iterator[av.VideoFrame]:
    """Yields the pictures up to the end of the file; records damage."""
    errors = count = 0
    for packet in self._packets():
      if packet is None:
        errors += 1
        self.damaged.append(count)
      try:
        pictures = self._stream.decode(packet)
      except av.FFmpegError:
        errors += 1
        self.damaged.append(count)
        continue
      for picture in pictures:
        if picture.is_corrupt:
          self.damaged.append(count)
        self.interlaced += picture.interlaced_frame
        count += 1
        yield picture
    if self._ends_early():
      errors += 1
      self.damaged.append(count)
    cut = cut_files.is_cut(self._path, self._container.format.name)
    if cut and count not in self.damaged:
      self.damaged.append(count)
    if errors or cut:
      self.lost = max((self.num_frames or 0) - count, errors)

  def _packets(self) -> Iterator[av.Packet | None]:
    """Yields the packets of the stream; None where the file is damaged."""
    packets = self._container.demux()
    timeline = Timeline(self._container)
    while True:
      try:
        packet = next(packets)
      except StopIteration:
        return
      except (av.FFmpegError, OSError):
        yield None  # Flushes the decoder.
        continue
      if packet.pts is not None:
        end = (packet.pts + (packet.duration or 0)) * packet.time_base
        self._end = end if self._end is None else max(self._end, end)
      timeline.correct(packet)
      if packet.stream is self._stream:
        if self._first_dts is None:
          self._first_dts = packet.dts or 0
        yield packet

  def _ends_early(self) -> bool:
    """Whether the packets end before the duration that the file claims.

    In some containers, a truncated file causes no error.
    """
    container = self._container
    if self._end is None or not container.duration:
      return False
    start = Fraction(container.start_time or 0, av.time_base)
    missing = start + Fraction(container.duration, av.time_base) - self._end
    return missing * (self._stream.average_rate or DEFAULT_FRAME_RATE) > 3

  def _stamped(
    self, pictures: Iterable[av.VideoFrame], late: int
  ) -> Iterator[tuple[av.VideoFrame, int, int]]:
    """Yields pictures with increasing time stamps and their durations.

    Args:
      pictures: at least one.
      late: ticks to subtract from the time stamps of the file.
    """
    pictures = iter(pictures)
    previous = next(pictures)
    pts = 0 if previous.pts is None else previous.pts - late
    for picture in pictures:
      last = pts
      stamp = None if picture.pts is None else picture.pts - late
      if stamp is None or stamp < pts:
        pts += self.format.ticks
      else:
        pts = max(stamp, pts + 1)
      yield previous, last, pts - last
      previous = picture
    yield previous, pts, self._last_duration(previous, pts)

  def _last_duration(self, picture: av.VideoFrame, pts: int) -> int:
    """Returns the duration of the last frame, in ticks."""
    stream = self._stream
    if 'mp4' in self._container.format.name and not self.damaged:
      # MP4 stores the duration of the frame that was coded last.
      rest = (stream.start_time or 0) + (stream.duration or 0) - pts
      if 0 < rest * self.format.tick < _LONGEST:
        return rest
    return picture.duration or self.format.ticks


def _open(path: Path) -> av.container.InputContainer:
  if not path.stat().st_size:
    raise UserError(f'{path} is empty: 0 bytes')
  try:
    container = containers.open_input(path)
  except av.FFmpegError as error:
    broken = av.InvalidDataError, av.EOFError
    if not isinstance(error, broken) and error.errno != errno.EIO:
      raise
    with open(path, 'rb') as file:
      if file.read(8)[4:] == b'ftyp':
        raise UserError(
          f'{path} is cut short or damaged: the index that an MP4 or MOV '
          'file often has at its end is missing, so no frame can be found'
        ) from error
    raise UserError(
      f'{path} is not a video, or its header is damaged or cut short'
    ) from error
  if container.format.name == 'tty':  # FFmpeg draws text files.
    container.close()
    raise UserError(f'{path} is a text file, not a video')
  return container


def _main_stream(
  container: av.container.InputContainer, path: Path
) -> av.video.stream.VideoStream:
  stream = containers.main_stream(container)
  if stream is None:
    raise UserError(f'{path} has no video, perhaps only audio')
  if stream.codec_context is None:
    raise UserError(f'{path} has a codec that this FFmpeg does not support')
  return stream


def _seconds(
  container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Fraction:
  """Returns the duration that the file states for a stream; 0 if none."""
  if stream.duration and stream.time_base:
    return Fraction(stream.duration * stream.time_base)
  tag = stream.metadata.get('DURATION', '')  # Of Matroska, "00:01:02.345".
  if match := re.fullmatch(r'(\d+):(\d+):(\d+(?:\.\d+)?)', tag):
    hours, minutes, seconds = map(Fraction, match.groups())
    return hours * 3600 + minutes * 60 + seconds
  return Fraction(container.duration or 0, av.time_base)
