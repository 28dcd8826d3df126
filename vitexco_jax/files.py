"""Files: written whole or not at all, and read without trust in them."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitexco_jax.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
  """A file or folder that comes with the program, such as `weights/small`.

  Installed, it is inside the package; in a checkout it is next to it.
  """
  inside = _PACKAGE / name
  return inside if inside.exists() else _PACKAGE.parent / name


def write(path: Path, content: str | bytes | memoryview) -> None:
  """Writes a file in one piece: whoever reads sees the old or the new.

  It grows beside its place under a hidden name, and is not left there where
  writing fails, which raises OSError.
  """
  if isinstance(content, str):
    content = content.encode()
  partial = path.with_name(f'.{path.name}.partial')
  try:
    partial.write_bytes(content)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
  """Returns when a file, or all files of a folder, are on the disk."""
  for one in path.iterdir() if path.is_dir() else [path]:
    handle = os.open(one, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)


def sha256(path: Path) -> str:
  """Hash of a file's content, as `sha256sum` prints it."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def sha256_of_all(paths: Iterable[Path]) -> str:
  """Hash of the names and contents of files, in their order."""
  lines = hashlib.sha256()
  for path in paths:
    lines.update(f'{sha256(path)}  '.encode() + os.fsencode(path.name) + b'\n')
  return lines.hexdigest()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
  """Hands out a hidden folder beside `path`, which becomes it when whole.

  Nothing is left of it where the body fails.
  """
  path = path.absolute()
  partial = path.with_name(f'.{path.name}.partial')
  shutil.rmtree(partial, ignore_errors=True)
  try:
    partial.mkdir(parents=True)
    yield partial
    partial.rename(path)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def explained(flag: str, path: Path) -> Iterator[None]:
  """Turns what the system says into a sentence that names the flag."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f'cannot write {flag}={path}: {error.strerror or error}'
    ) from error


def make_folder(flag: str, folder: Path) -> None:
  """Makes a folder where it is missing, and tries whether it can be written.

  Raises:
    UserError: it cannot; names the flag that it is the value of.
  """
  with explained(flag, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
