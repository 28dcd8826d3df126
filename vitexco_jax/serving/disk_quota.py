"""Limits on the disk space that all sessions of the page share."""

import math
import os
import shutil
import time
from pathlib import Path

from vitexco_jax.errors import UserError

_RESERVE = 2 * 10**9  # Bytes that stay free for everything else.
_SECONDS = 1.0  # For which a measurement stays valid.


class FullError(UserError):
  """There is no room left."""


class DiskQuota:
  """Limits the total size of the files in a folder."""

  def __init__(self, folder: Path, limit: float = math.inf):
    """Sets the folder and its maximum size in bytes."""
    self._folder, self._limit = folder, limit
    self._measured = -math.inf
    self._used = 0

  def check(self, more: float = 0) -> None:
    """Raises FullError if this many more bytes do not fit."""
    now = time.monotonic()
    if now - self._measured > _SECONDS:
      self._used = size(self._folder)
      self._measured = now
    free = shutil.disk_usage(self._folder).free
    if self._used + more > self._limit or free - more < _RESERVE:
      raise FullError(
        'there is no room left on the disk here: come back later, or try a '
        'shorter video'
      )


def size(folder: Path) -> int:
  """Total bytes of all files below a folder; files may vanish meanwhile."""
  total = 0
  for parent, _, names in os.walk(folder):
    for name in names:
      try:
        total += os.stat(os.path.join(parent, name)).st_blocks * 512
      except OSError:  # The file was just removed.
        continue
  return total
