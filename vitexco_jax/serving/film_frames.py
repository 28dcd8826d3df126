"""Single frames of an uploaded video, to look at and to color by hand."""

import collections
from collections.abc import Sequence
from pathlib import Path

from vitexco_jax.errors import UserError
from vitexco_jax.inference.plan import Survey
from vitexco_jax.media.sandbox import Sandbox
from vitexco_jax.serving import drawings

_AHEAD = 6  # Frames that are read at once, as starting a child takes time.
_CACHED = 36  # Frames in memory, 100 KB each.


class FilmFrames:
  """Reads frames of a video in child processes.

  Attributes:
    path: of the video.
  """

  def __init__(self, path: Path):
    """Reads nothing yet; `path` is absolute."""
    self.path = path
    self._cache: collections.OrderedDict[int, bytes] = collections.OrderedDict()

  def forget(self) -> None:
    """Forgets all frames, as the video is another one."""
    # A thread may still add frames to the old cache.
    self._cache = collections.OrderedDict()

  def read(self, surveyed: Survey, number: int) -> bytes:
    """Returns a frame to show, as JPEG.

    Args:
      surveyed: of the video.
      number: of the frame, from 0.

    Raises:
      UserError: the video has no such frame, or cannot be read.
    """
    _check(surveyed, number)
    cache = self._cache
    if number not in cache:
      times = surveyed.seconds[number : number + _AHEAD]
      with Sandbox() as sandbox:
        pictures: Sequence[bytes] = sandbox.call(
          drawings.previews,
          self.path,
          number,
          times,
          surveyed.interlaced > 0,
          about=self.path,
        )
      cache.update(enumerate(pictures, number))
      while len(cache) > _CACHED:
        cache.popitem(last=False)
    return cache[number]

  def read_still(
    self, surveyed: Survey, number: int, sandbox: Sandbox
  ) -> bytes:
    """Returns a frame as PNG.

    Args:
      surveyed: of the video.
      number: of the frame, from 0.
      sandbox: opens the video.

    Raises:
      UserError: the video has no such frame, or cannot be read.
    """
    _check(surveyed, number)
    time, deinterlace = surveyed.seconds[number], surveyed.interlaced > 0
    arguments = self.path, number, time, deinterlace
    return sandbox.call(drawings.still, *arguments, about=self.path)


def _check(surveyed: Survey, number: int) -> None:
  if not 0 <= number < surveyed.plan.frames:
    raise UserError(f'there is no frame {number}')
