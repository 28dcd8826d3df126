"""Reading of frames from a video, a folder of images, or an image file."""

import collections
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

from vitexco_jax.errors import UserError
from vitexco_jax.media import animations, containers, image_kinds, images
from vitexco_jax.media.ffmpeg_errors import explained
from vitexco_jax.media.frames import Format, Frame
from vitexco_jax.media.image_sources import AnimationSource, ImageSource
from vitexco_jax.media.video_source import VideoSource


class Source(Protocol):
  """An open file or folder; see `VideoReader` for the attributes."""

  kind: str
  format: Format
  num_frames: int | None
  lost: int
  damaged: list[int]
  other_tracks: list[str]
  interlaced: int

  def frames(self) -> Iterator[Callable[[], Frame]]:
    """Yields a function per frame that converts it, which takes time."""

  def close(self) -> None:
    """Closes the file."""


class VideoReader:
  """Iterates over the frames of a video, a folder of images, or an image file.

  A context manager, and an iterator that can be used once. Time stamps increase
  from frame to frame: those of the file, or the previous one plus the duration of a
  frame if they are missing or decrease. A truncated or damaged video yields the
  frames that can be decoded.

  Attributes:
    path: the file or folder.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    deep: bool = False,
    deinterlace: bool = False,
  ):
    """Opens a file or folder.

    Args:
      path: the file or folder.
      deep: whether to return frames as uint16.
      deinterlace: whether to deinterlace the frames of a video: those marked as
        interlaced, or all of them if the first one is not marked.

    Raises:
      UserError: the path cannot be read as pictures, or their size is not
        supported.
    """
    self.path = Path(path)
    self._lock = Lock()  # Closing waits for a frame that is being decoded.
    with explained('read', self.path):
      self._source = _open(self.path, deep, deinterlace)
    self._frames: Iterator[Callable[[], Frame]] = self._source.frames()

  @property
  def kind(self) -> str:
    """'video', 'folder', 'image', or 'animation', an image with several frames."""
    return self._source.kind

  @property
  def format(self) -> Format:
    """Size, frame rate, time base, and other properties for a writer."""
    return self._source.format

  @property
  def num_frames(self) -> int | None:
    """Number of frames that a file states, if any; exact for images."""
    return self._source.num_frames

  @property
  def lost(self) -> int:
    """Number of missing frames of a broken video.

    Known after the last frame. An estimate unless the file stores `num_frames`.
    """
    return self._source.lost

  @property
  def damaged(self) -> list[int]:
    """Indices of damaged frames, and of frames next to missing ones.

    Known after the last frame, as far as FFmpeg detects damage.
    """
    return self._source.damaged

  @property
  def other_tracks(self) -> list[str]:
    """Descriptions of the video tracks that are not read."""
    return self._source.other_tracks

  @property
  def interlaced(self) -> int:
    """Number of frames so far that the file marks as interlaced."""
    return self._source.interlaced

  def __iter__(self) -> Self:
    return self

  def __next__(self) -> Frame:
    with self._lock, explained('read', self.path):
      return next(self._frames)()

  def skip(self, count: int) -> None:
    """Skips frames, faster than by reading them.

    Raises:
      UserError: the frames cannot be read.
    """
    with self._lock, explained('read', self.path):
      collections.deque(itertools.islice(self._frames, count), 0)

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    self.close()

  def close(self) -> None:
    """Closes the file; there are no more frames."""
    with self._lock:
      self._frames = iter(())
      self._source.close()


def _open(path: Path, deep: bool, deinterlace: bool) -> Source:
  if path.is_dir():
    return ImageSource('folder', path, images.image_files(path), deep)
  if not path.exists():
    raise UserError(f'{path} does not exist')
  if not _is_image_file(path):
    return VideoSource(path, deep, deinterlace)
  data = path.read_bytes()
  image = image_kinds.open_header(data, path)
  if image is None or len(animations.frame_numbers(image)) == 1:
    return ImageSource('image', path, [path], deep)
  return AnimationSource(path, data, image, deep)


def _is_image_file(path: Path) -> bool:
  if path.suffix.lower() in images.IMAGE_SUFFIXES:
    return True
  # If the kinds of video are limited, other files are not allowed.
  unlimited = containers.bounds().formats is None
  return unlimited and path.is_file() and image_kinds.may_be_animated(path)
