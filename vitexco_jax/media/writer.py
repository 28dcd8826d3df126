"""Writing of frames to a video, a folder of images, or an image file."""

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.media import (
  containers,
  image_kinds,
  interlacing,
  output_paths,
  scans,
  time_codes,
)
from vitexco_jax.media.codecs import Coding
from vitexco_jax.media.ffmpeg_errors import explained
from vitexco_jax.media.frames import Format, Frame, check_rgb
from vitexco_jax.media.images import encode_image
from vitexco_jax.media.rgb_conversion import FromRgb
from vitexco_jax.stages import ENCODE, stage

_QUEUE = 4  # Maximum number of frames that wait to be encoded.
_DEFAULT_CODING = Coding()


class VideoWriter:
  """Writes frames to a video file, a folder of images, or an image.

  The path determines the kind (`output_paths.output_kind`). A video has the time
  stamps of the frames, as precise as its container allows: .mkv counts milliseconds,
  .avi and .mxf frames.

  Frames are encoded in another thread; `write` raises the errors of earlier frames.
  The output is written to a hidden path next to the target and replaces it at the
  end of the `with` block (or in `close`). After an exception in the block, the
  output is removed and the target is unchanged.

  Attributes:
    path: the target.
    kind: 'video', 'folder', or 'image'.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    format: Format,
    overwrite: bool = False,
    coding: Coding = _DEFAULT_CODING,
    reordered: bool = True,
  ):
    """Creates the output.

    Args:
      path: the target; missing parent folders are created.
      format: of the frames.
      overwrite: whether to replace an existing file or folder of images.
      coding: how to store the frames.
      reordered: whether video may store frames in another order than they are
        shown; .avi never does.

    Raises:
      UserError: the target exists, cannot be written, or is of an unknown kind.
    """
    self.path = Path(path)
    self.kind = output_paths.output_kind(path)
    coding.check(path)
    coding.check_format(path, format)
    self._format, self._coding = format, coding
    self._partial = output_paths.partial_path(self.path)
    self._video: _VideoFile | None = None
    self._count = 0
    self._queue: collections.deque[concurrent.futures.Future[None]]
    self._queue = collections.deque()
    self._pool: concurrent.futures.ThreadPoolExecutor | None = None
    with explained('write', path):
      output_paths.check_free(self.path, overwrite)
      self.path.parent.mkdir(parents=True, exist_ok=True)
      output_paths.remove(self._partial)  # Of a killed run.
      try:
        if self.kind == 'folder':
          self._partial.mkdir()
        elif self.kind == 'image':
          self._partial.touch()
        else:
          self._video = _VideoFile(self._partial, format, coding, reordered)
      except BaseException:
        self._discard()
        raise
    self._pool = concurrent.futures.ThreadPoolExecutor(1, 'encode')

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    if kind is None:
      self.close()
    else:
      self.abort()

  def write(self, frame: Frame) -> None:
    """Appends a frame; its array must not be changed afterwards.

    Args:
      frame: of the writer's size. Its time stamp must be larger than the previous
        one; its name, if any, is the file name in a folder.

    Raises:
      UserError: this or an earlier frame could not be written.
    """
    check_rgb(frame.rgb)
    size = self._format.height, self._format.width
    if frame.rgb.shape[:2] != size:
      raise ValueError(f'the frame is {frame.rgb.shape[:2]}, the output {size}')
    if self._pool is None:
      raise ValueError('the writer is closed')
    if len(self._queue) == _QUEUE:
      self._queue.popleft().result()
    self._queue.append(self._pool.submit(self._encode, frame))

  def close(self) -> None:
    """Finishes the output and replaces the target by it.

    Raises:
      UserError: the output could not be written, or has no frames.
    """
    if self._pool is None:
      return
    try:
      while self._queue:
        self._queue.popleft().result()
      if not self._count:
        raise UserError(f'{self.path} is not written: there was no frame')
      with explained('write', self.path):
        if self._video is not None:
          self._video.finish()
        output_paths.move(self._partial, self.path)
    finally:
      self.abort()

  def abort(self) -> None:
    """Removes an unfinished output."""
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)
      self._pool = None
      self._discard()

  def _discard(self) -> None:
    if self._video is not None:
      with contextlib.suppress(av.FFmpegError, OSError):
        self._video.close()
    output_paths.remove(self._partial)

  def _encode(self, frame: Frame) -> None:
    with explained('write', self.path), stage(ENCODE):
      if self._video is not None:
        self._video.write(frame)
      elif self.kind == 'folder':
        stem = Path(frame.name).stem if frame.name else f'{self._count:06d}'
        path = self._partial / f'{stem}{self._coding.image_suffix}'
        path.write_bytes(self._image(frame.rgb))
      elif not self._count:
        data = encode_image(self.path.suffix, frame.rgb)
        self._partial.write_bytes(data)
      else:
        raise UserError(
          f'{self.path} is one image but there are more frames: '
          'name a video or a folder'
        )
      self._count += 1

  def _image(self, rgb: np.ndarray) -> bytes:
    """Returns the content of the next image of a folder."""
    form, suffix = self._format, self._coding.image_suffix
    if suffix not in scans.SUFFIXES:
      return encode_image(suffix, rgb)
    code = time_codes.after(form.time_code, self._count, form.frame_rate)
    deep = image_kinds.with_bits(rgb, True, self.path)
    return scans.encode(suffix, deep, self._coding.depth, code, form.frame_rate)


class _VideoFile:
  """A video file that is being written."""

  def __init__(self, path: Path, form: Format, coding: Coding, reordered: bool):
    self._format, self._suffix = form, path.suffix.lower()
    self._tick = containers.container_tick(self._suffix, form)
    self._ratio = form.tick / self._tick
    self._previous = -form.ticks  # Last time stamp, in ticks of the format,
    self._stamp = -1  # and as written.
    self._durations: dict[int, int] = {}  # By time stamps of frames in flight.
    self._end = 0  # Of the encoded frames.
    self._first_dts: int | None = None
    self._shift: int | None = None
    self._container = av.open(
      f'file:{path}',
      'w',
      container_options=containers.container_options(self._suffix, self._tick),
    )
    try:
      self._open_stream(coding, reordered and self._suffix != '.avi')
    except BaseException:
      with contextlib.suppress(av.FFmpegError, OSError):
        self.close()
      raise

  def _open_stream(self, coding: Coding, reordered: bool) -> None:
    form, codec = self._format, coding.settings
    options = codec.encoder_options(coding.quality)
    if not reordered and coding.codec == 'h264':
      options['bf'] = '0'
    order = form.field_order
    if order:
      options |= interlacing.encoder_options(codec.encoder, order)
      if codec.encoder == 'libx264':
        options['x264-params'] += f':{order[0]}ff=1'
    pixels = codec.pixels_of(form)[coding.depth]
    stream = self._container.add_stream(
      codec.encoder,
      rate=form.frame_rate,
      width=form.width,
      height=form.height,
      pix_fmt=pixels,
      time_base=self._tick,
      options=options,
    )
    assert isinstance(stream, av.VideoStream)
    self._stream = stream
    self._from_rgb = FromRgb(form, stream, pixels)
    stream.thread_type = 'AUTO'
    stream.codec_context.sample_aspect_ratio = form.pixel_aspect
    if code := time_codes.after(form.time_code, 0, form.frame_rate):
      stream.metadata['timecode'] = code
    self._container.start_encoding()  # Opens the file; may fail.

  def write(self, frame: Frame) -> None:
    """Encodes a frame."""
    pts = frame.pts
    if pts is None:
      pts = self._previous + self._format.ticks
    self._previous = pts
    if self._shift is None:
      self._shift = -pts  # The output starts at zero.
    stamp = round((pts + self._shift) * self._ratio)
    self._stamp = max(stamp, self._stamp + 1)
    picture = self._from_rgb.convert(frame.rgb)
    picture.pts = self._stamp
    picture.time_base = self._tick
    ticks = frame.duration or self._format.ticks
    self._durations[self._stamp] = max(1, round(ticks * self._ratio))
    self._mux(self._stream.encode(picture))

  def finish(self) -> None:
    """Writes the frames that the encoder still holds, and closes the file."""
    self._mux(self._stream.encode(None), last=True)
    self.close()

  def close(self) -> None:
    """Closes the file."""
    self._container.close()

  def _mux(self, packets: Sequence[av.Packet], last: bool = False) -> None:
    for packet in packets:
      # Encoders set both time stamps.
      pts, dts = packet.pts or 0, packet.dts or 0
      if self._first_dts is None:
        self._first_dts = dts
      self._end = max(self._end, pts + self._durations[pts])
      packet.duration = self._durations.pop(pts)
      if last and packet is packets[-1] and self._suffix != '.mkv':
        # In MP4 the durations, in coding order, sum to that of the video.
        packet.duration = self._end - (dts - self._first_dts)
    self._container.mux(packets)
