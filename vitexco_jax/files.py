"""Files: written whole or not at all, and read without trust in them."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vitexco_jax.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
_TEXT_BYTES = 2**24  # A plan of 100,000 shots has less.
_DIGITS = 18  # Of a whole number, which then fits into 64 bits.


def shipped(name: str) -> Path:
  """A file or folder that comes with the program, such as `weights/small`.

  Installed, it is inside the package; in a checkout it is next to it.
  """
  inside = _PACKAGE / name
  return inside if inside.exists() else _PACKAGE.parent / name


def name_bytes(folder: Path) -> int:
  """Returns how many bytes a name in a folder may have, or in one made there."""
  folder = folder.absolute()
  there = next(x for x in (folder, *folder.parents) if os.path.exists(x))
  return os.pathconf(there, 'PC_NAME_MAX')


def beside(path: Path, prefix: str, suffix: str) -> Path:
  """Returns a path in the same folder, its name between `prefix` and `suffix`.

  Where that is longer than the file system allows, a hash replaces the rest.
  """
  path = path.absolute()
  name = os.fsencode(path.name)
  room = name_bytes(path.parent) - len(prefix) - len(suffix)
  if len(name) > room:
    digest = hashlib.sha256(name).hexdigest()[:16]
    start = name[: room - len(digest)].decode(errors='ignore')
    return path.with_name(f'{prefix}{start}{digest}{suffix}')
  return path.with_name(f'{prefix}{path.name}{suffix}')


def check_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
  """Raises UserError if an output would replace a file or folder that is read."""
  targets = [(output, output.resolve()) for output in outputs]
  for path in _with_links(inputs):
    real = path.resolve()
    for output, target in targets:
      if real == target or (output.exists() and output.samefile(path)):
        raise UserError(
          f'the output {output} is {path}, which is read: name another output'
        )
      if target in real.parents:
        raise UserError(
          f'{path} is inside the output {output}, which would be replaced: '
          'name another output'
        )


def _with_links(paths: Iterable[Path]) -> Iterator[Path]:
  """Yields paths that exist, and the links in those that are folders."""
  for path in paths:
    if path.exists():
      yield path
    if path.is_dir():
      yield from (x for x in path.iterdir() if x.is_symlink() and x.exists())


def write(path: Path, content: str | bytes | memoryview) -> None:
  """Writes a file in one piece: whoever reads sees the old or the new.

  It grows beside its place under a hidden name, and is not left there where
  writing fails, which raises OSError.
  """
  if isinstance(content, str):
    content = content.encode()
  partial = beside(path, '.', '.partial')
  try:
    partial.write_bytes(content)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def check_regular(path: Path) -> None:
  """Checks that a file can be read to its end: no folder, pipe, or device.

  Raises:
    UserError: it is one of these, or does not exist.
  """
  try:
    mode = os.stat(path).st_mode
  except (OSError, ValueError) as error:  # Of names that cannot be.
    reason = getattr(error, 'strerror', None) or 'this cannot be a file name'
    raise UserError(f'cannot read {path}: {reason}') from error
  if stat.S_ISDIR(mode):
    raise UserError(f'cannot read {path}: it is a folder, not a file')
  if not stat.S_ISREG(mode):
    raise UserError(
      f'cannot read {path}: it is a pipe or a device; save it as a file first'
    )


def read_text(path: Path, limit: int = _TEXT_BYTES) -> str:
  """Reads a text file of any origin.

  Args:
    path: a file in UTF-8, with or without a byte order mark.
    limit: its size in bytes, at most.

  Raises:
    UserError: it is missing, too large, or not such a file.
  """
  check_regular(path)
  try:
    with open(path, 'rb') as file:
      data = file.read(limit + 1)
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror or error}') from error
  if len(data) > limit:
    raise UserError(
      f'cannot read {path}: it has more than {limit >> 20} MB, too much for a '
      'file of its kind'
    )
  try:
    text = data.decode('utf-8-sig')
    if '\0' in text:
      raise ValueError
  except ValueError as error:
    raise UserError(
      f'cannot read {path}: it is no text file in UTF-8'
    ) from error
  return text


def read_json(path: Path, limit: int = _TEXT_BYTES) -> dict[str, Any]:
  """Reads a JSON object of any origin.

  Args:
    path: a text file, see `read_text`.
    limit: its size in bytes, at most.

  Returns:
    Its fields. Numbers are finite, and whole ones fit into 64 bits.

  Raises:
    UserError: it cannot be read, or is something else.
  """
  text = read_text(path, limit)
  try:
    found = json.loads(
      text,
      parse_int=_parse_int,
      parse_float=_parse_float,
      parse_constant=_parse_float,
      object_pairs_hook=_unique,
    )
  except json.JSONDecodeError as error:
    raise UserError(
      f'{path} is no JSON: {error.msg} at line {error.lineno}, '
      f'column {error.colno}'
    ) from error
  except RecursionError as error:
    raise UserError(f'{path} is nested too deeply') from error
  except ValueError as error:
    raise UserError(f'{path} cannot be used: {error}') from error
  if not isinstance(found, dict):
    raise UserError(f'{path} must be a JSON object, in braces')
  return found


def _parse_int(text: str) -> int:
  if len(text.lstrip('-')) > _DIGITS:
    raise ValueError(f'the number {text[:_DIGITS]}... is too long')
  return int(text)


def _parse_float(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f'{text[:_DIGITS]} is no number')
  return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'"{twice[:80]}" is given twice')
  return found


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
  partial = beside(path, '.', '.partial')
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


def check_writable(path: Path) -> None:
  """Raises UserError unless a file or folder can be made at a path.

  Folders that are missing may be made as well; nothing is left there now.
  """
  limit = name_bytes(path.parent)
  if len(os.fsencode(path.name)) > limit:
    raise UserError(
      f'cannot write {path}: its name has more than the {limit} bytes that the '
      'file system allows'
    )
  folder = next(x for x in path.absolute().parents if os.path.exists(x))
  try:
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    reason = error.strerror or error
    raise UserError(f'cannot write {path}: {folder}: {reason}') from error


def make_folder(flag: str, folder: Path) -> None:
  """Makes a folder where it is missing, and tries whether it can be written.

  Raises:
    UserError: it cannot; names the flag that it is the value of.
  """
  with explained(flag, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
