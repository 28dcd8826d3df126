"""The folder of compiled programs, which saves most of the time of a start."""

import contextlib
import os
from pathlib import Path

_VARIABLE = 'JAX_COMPILATION_CACHE_DIR'
_MOST_BYTES = 10**9


def set_up() -> None:
  """Chooses a folder of compiled programs, unless the user has; before importing JAX.

  JAX writes a file for each program to `~/.cache/vitexco`. If there are too many, those
  that were not used for the longest time are removed. JAX can do this itself
  (`jax_compilation_cache_max_size`), but it needs another package for it, and a
  process that is killed while it writes makes it fail for all later programs.
  """
  # A start runs a hundred programs, most of which compile in less than a second.
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
  if _VARIABLE in os.environ:
    return
  folder = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache'))
  folder /= 'vitexco'
  os.environ[_VARIABLE] = str(folder)
  trim(folder, _MOST_BYTES)


def trim(folder: Path, most_bytes: int) -> None:
  """Removes programs that were not used for the longest time.

  Other processes may use the folder at the same time: they compile what they miss.

  Args:
    folder: of compiled programs; it may be missing.
    most_bytes: total size of the programs that remain.
  """
  used = []
  for path in folder.rglob('*-cache'):
    with contextlib.suppress(OSError):  # Another process has removed it.
      status = path.stat()
      # Some file systems do not record the time of reading.
      last = max(status.st_atime, status.st_mtime)
      used.append((last, status.st_size, path))
  total = 0
  for _, size, path in sorted(used, reverse=True):
    total += size
    if total > most_bytes:
      with contextlib.suppress(OSError):  # As above, or it is read-only.
        path.unlink()
