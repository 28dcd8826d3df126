"""Locks of folders and files, which keep other processes away.

On Linux and macOS a folder itself is locked. On Windows, and on NFS, which locks only
files that are open for writing, a hidden file next to it is locked instead.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from vitexco_jax import files

try:
  import fcntl
except ImportError:  # Windows.
  import msvcrt

_PAUSE = 0.2  # Seconds between two attempts.


@contextlib.contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
  """Locks an existing folder until the end of the block.

  Yields:
    Whether it worked; False: another process has the lock, or removes the folder.
  """
  if 'fcntl' in globals():
    handle = os.open(folder, os.O_RDONLY)
    try:
      locked = _lock_itself(handle, folder)
      if locked is not None:
        yield locked
        return
    finally:
      os.close(handle)
  place = files.sibling(folder, '.', '.lock')
  handle = os.open(place, os.O_RDWR | os.O_CREAT)
  locked = False
  try:
    locked = _lock_file(handle, place)
    yield locked and folder.is_dir()
  finally:
    if locked and 'fcntl' in globals():  # Windows does not remove open files.
      place.unlink(missing_ok=True)
    os.close(handle)
    if 'fcntl' not in globals():
      with contextlib.suppress(OSError):  # Another process has opened it.
        place.unlink()


@contextlib.contextmanager
def wait(path: Path) -> Iterator[None]:
  """Locks a file until the end of the block; waits for other processes.

  Args:
    path: of the file, which is created if necessary and stays.
  """
  handle = os.open(path, os.O_RDWR | os.O_CREAT)
  try:
    while not _lock_file(handle, path):
      time.sleep(_PAUSE)
    yield
  finally:
    os.close(handle)


def _lock_itself(handle: int, folder: Path) -> bool | None:
  """Locks an open folder; None: its file system cannot do that."""
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # The other process may have removed the folder at its end.
    return os.path.samestat(os.fstat(handle), os.stat(folder))
  except (BlockingIOError, FileNotFoundError):
    return False
  except OSError as error:
    if error.errno == errno.EBADF:
      return None
    raise


def _lock_file(handle: int, path: Path) -> bool:
  """Locks an open file, unless it was removed or another process has it."""
  try:
    if 'fcntl' in globals():
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return os.path.samestat(os.fstat(handle), os.stat(path))
    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
  except OSError:
    return False
  return True
