"""A folder with the finished parts of an output and their checksums.

An *entry* is a record NAME.json about files of the folder. It has

  key      a hash of everything from which the files were computed
  files    for each file or folder of frames: [bytes, SHA-256]
  facts    other information about them for the caller

and a checksum of itself. It is written after its files are on the disk. An entry is
read only if its key and checksums match, so files of another film, of other
settings, or damaged by a crash or a bad disk are not used.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import locks
from vitexco_jax.media import video

_MAX_RECORD = 2**26  # Bytes. A plan of 2,000 shots has about 2**20.


class DamagedError(Exception):
  """A file has changed since it was written; the message names it."""


def digest(content: Any) -> str:
  """Returns SHA-256 of JSON content."""
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def write_record(path: Path, content: dict[str, Any]) -> None:
  """Writes JSON with a checksum; returns when it is on the disk."""
  record = content | {'sha256': digest([path.name, content])}
  files.write(path, json.dumps(record, indent=2))
  files.sync(path)


def read_record(path: Path) -> dict[str, Any] | None:
  """Reads what `write_record` has written; None if there is no file.

  Raises:
    DamagedError: the record has changed, or belongs to another path.
  """
  if not os.path.lexists(path):
    return None
  try:
    if _size(path) > _MAX_RECORD:
      raise DamagedError(f'{path} is damaged')
    record = json.loads(path.read_bytes())
    checksum = record.pop('sha256')
    if checksum == digest([path.name, record]):
      return record
  except OSError as error:
    raise DamagedError(f'cannot read {path}: {error.strerror}') from error
  except (ValueError, RecursionError, AttributeError, TypeError, LookupError):
    pass  # Not JSON, or not an object with a checksum.
  raise DamagedError(f'{path} is damaged')


def measure(path: Path) -> list[int | str]:
  """Returns [bytes, SHA-256] of a file or of a folder of files.

  Raises:
    DamagedError: the path is neither.
  """
  size = _size(path)
  if path.is_dir():
    return [size, files.sha256_of_all(_members(path))]
  return [size, files.sha256(path)]


def verify(path: Path, checksums: list[int | str]) -> None:
  """Raises DamagedError if a file or folder has changed."""
  try:
    size = _size(path)
    if size != checksums[0]:
      raise DamagedError(f'{path} has {size} bytes instead of {checksums[0]}')
    if measure(path) != checksums:
      raise DamagedError(f'{path} is damaged')
  except FileNotFoundError as error:
    raise DamagedError(f'{path} is missing') from error
  except OSError as error:
    raise DamagedError(f'cannot read {path}: {error.strerror}') from error


class Journal:
  """The folder. File names are relative to it.

  Attributes:
    folder: its path.
  """

  def __init__(self, folder: Path, subfolders: Iterable[str] = ()):
    """Writes nothing yet.

    Args:
      folder: its path.
      subfolders: names of folders in it that may hold files of entries.
    """
    self.folder = folder
    self._subfolders = frozenset(subfolders)

  @contextlib.contextmanager
  def opened(self, earlier: Path | None = None) -> Iterator[bool]:
    """Creates the folder if necessary and locks it against other processes.

    If the body fails before the first entry, a new folder is removed.

    Args:
      earlier: a folder that `keep` has written; it becomes this folder, unless
        this folder exists.

    Yields:
      Whether the folder was `earlier`.

    Raises:
      UserError: another process uses the folder, or it cannot be written.
    """
    with video.explained('write', self.folder):
      fresh = not self.folder.exists()
      adopted = fresh and earlier is not None and earlier.is_dir()
      if adopted and earlier is not None:
        fresh = False
        os.replace(earlier, self.folder)
      self.folder.mkdir(parents=True, exist_ok=True)
      with self._locked():
        try:
          self._tidy()
          yield adopted
        except BaseException:
          entries = self.folder.glob('[0-9]*.json')
          if fresh and not any(entries):
            self.remove()
          raise

  def path(self, name: str) -> Path:
    """Returns where to write a file; removes an existing one."""
    path = self.folder / name
    video.remove(path)
    return path

  def write(
    self, name: str, key: str, names: Iterable[str], facts: dict[str, Any]
  ) -> None:
    """Writes an entry for complete files.

    Args:
      name: of the entry.
      key: see above.
      names: of files, or of folders of files.
      facts: what JSON can hold.
    """
    checksums = {}
    for one in names:
      path = self.folder / one
      files.sync(path)
      checksums[one] = measure(path)
    content = {'key': key, 'files': checksums, 'facts': facts}
    write_record(self.folder / f'{name}.json', content)

  def read(
    self, name: str, key: str, names: Iterable[str]
  ) -> dict[str, Any] | None:
    """Checks the files of an entry and returns its facts.

    Args:
      name: of the entry.
      key: see above.
      names: of the files to check.

    Returns:
      None: there is no entry, or it has another key.

    Raises:
      DamagedError: the entry or one of the files is damaged.
    """
    record = read_record(self.folder / f'{name}.json')
    if record is None or record['key'] != key:
      return None
    for one in names:
      if one not in record['files']:
        return None
      verify(self.folder / one, record['files'][one])
    return record['facts']

  def discard(self, name: str, names: Iterable[str]) -> None:
    """Removes an entry and its files."""
    for one in (f'{name}.json', *names):
      video.remove(self.folder / one)

  def retain(self, names: Iterable[str]) -> int:
    """Removes all files except some.

    Args:
      names: of files, or of folders of files.

    Returns:
      Bytes of the disk that the remaining files take. Files that are also
      elsewhere, by a hard link, take none.
    """
    kept = {self.folder / name for name in names}
    for path in self.folder.iterdir():
      members = path.iterdir() if path.name in self._subfolders else [path]
      for member in [*members]:
        if member not in kept:
          video.remove(member)
    files_left = (x.stat() for x in self.folder.rglob('*') if x.is_file())
    return sum(x.st_size for x in files_left if x.st_nlink == 1)

  def remove(self) -> None:
    """Removes the folder with everything in it."""
    shutil.rmtree(self.folder)

  def _tidy(self) -> None:
    """Removes folders in place of files, and files in place of folders."""
    for path in self.folder.iterdir():
      is_folder = path.name in self._subfolders
      if not (path.is_dir() if is_folder else path.is_file()):
        video.remove(path)

  @contextlib.contextmanager
  def _locked(self) -> Iterator[None]:
    with locks.try_lock(self.folder) as locked:
      if not locked:
        raise UserError(
          f'{self.folder} is in use by another run: wait, or name another '
          'output'
        )
      yield


def _members(path: Path) -> list[Path]:
  return sorted(path.iterdir()) if path.is_dir() else [path]


def _size(path: Path) -> int:
  """Bytes of a file or a folder of files; DamagedError if it is neither."""
  total = 0
  for member in _members(path):
    status = member.stat()
    if not stat.S_ISREG(status.st_mode):
      raise DamagedError(f'{member} is not a file')
    total += status.st_size
  return total
