"""Random access to the frames of the input."""

import functools
from collections.abc import Iterator
from pathlib import Path

from vitexco_jax.media import sandbox, video
from vitexco_jax.stages import DECODE, stage

_PREFETCH = 16  # Frames that are decoded in advance.


class Source:
  """Reads a video from any frame; opens it again only to go back."""

  def __init__(
    self,
    opener: sandbox.Direct | sandbox.Sandbox,
    path: Path,
    deep: bool = False,
    deinterlace: bool = False,
  ):
    self._open = functools.partial(opener.open, path, deep, deinterlace)
    # Opened for the first frame.
    self._reader: video.VideoReader | sandbox.Reader | None = None
    self._position = 0
    self._last: video.Frame | None = None  # The frame before the position.

  def frames(self, start: int, stop: int) -> Iterator[video.Frame]:
    """Yields frames start to stop - 1."""
    return video.prefetch(self._read(start, stop), _PREFETCH)

  def _read(self, start: int, stop: int) -> Iterator[video.Frame]:
    # A stretch may begin with the last frame of the previous one.
    if start == self._position - 1 and self._last is not None:
      yield self._last
      start += 1
    reader = self._reader
    if reader is None or start < self._position:
      self.close()
      self._reader = reader = self._open()
      self._position = 0
    reader.skip(start - self._position)
    self._position = start
    while self._position < stop:
      with stage(DECODE):
        frame = next(reader, None)
      if frame is None:
        return
      self._last = frame
      self._position += 1
      yield frame

  def close(self) -> None:
    """Closes the source."""
    if self._reader is not None:
      self._reader.close()
