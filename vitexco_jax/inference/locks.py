"""Locks of folders, which keep other processes away.

On Linux and macOS the folder itself is locked. On Windows a hidden file next to it is
locked instead.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vitexco_jax import files

try:
  import fcntl
except ImportError:  # Windows.
  import msvcrt


@contextlib.contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
  """Locks an existing folder until the end of the block.

  Yields:
    Whether it worked; False: another process has the lock, or removes the folder.
  """
  if 'fcntl' in globals():
    handle = os.open(folder, os.O_RDONLY)
    try:
      yield _lock_folder(handle, folder)
    finally:
      os.close(handle)
    return
  place = files.sibling(folder, '.', '.lock')
  handle = os.open(place, os.O_RDWR | os.O_CREAT)
  try:
    yield _lock_file(handle) and folder.is_dir()
  finally:
    os.close(handle)
    with contextlib.suppress(OSError):  # Another process has opened it.
      place.unlink()


def _lock_folder(handle: int, folder: Path) -> bool:
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # The other process may have removed the folder at its end.
    return os.path.samestat(os.fstat(handle), os.stat(folder))
  except (BlockingIOError, FileNotFoundError):
    return False


def _lock_file(handle: int) -> bool:
  try:
    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
  except OSError:
    return False
  return True
