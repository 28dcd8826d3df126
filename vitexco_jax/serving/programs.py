"""Compiled programs: those for one video at a time stay in memory.

Programs for the size of a video take 100 MB and up to a minute to compile. The jobs of
a user need the same ones: trials of pictures, of frames, and the whole video.
"""

from pathlib import Path

import jax

_video: tuple[Path, int] | None = None  # The last one, with its time stamp.


def keep_only(path: Path) -> None:
  """Frees the programs that were not compiled for a video."""
  global _video
  video = path, path.stat().st_mtime_ns
  if video != _video:
    jax.clear_caches()
  _video = video
