"""Files: atomic writing, and reading of untrusted files."""

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
_TEXT_BYTES = 2**24  # Enough for a plan of 100,000 shots.
_DIGITS = 18  # Maximum of an integer, which then fits into 64 bits.


def shipped(name: str) -> Path:
  """Returns the path of a file or folder of the program, as `weights/small`.

  It is inside the installed package, or next to the package in a checkout.
  """
  inside = _PACKAGE / name
  return inside if inside.exists() else _PACKAGE.parent / name


def name_bytes(folder: Path) -> int:
  """Returns the maximum length of a file name in a folder, in bytes.

  The folder may not exist yet.
  """
  if not hasattr(os, 'pathconf'):
    return 255  # Windows.
  folder = folder.absolute()
  there = next(x for x in (folder, *folder.parents) if os.path.exists(x))
  return os.pathconf(there, 'PC_NAME_MAX')


def sibling(path: Path, prefix: str, suffix: str) -> Path:
  """Returns a path in the same folder, its name between `prefix` and `suffix`.

  If it is too long for the file system, a hash replaces the end of the name.
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
  """Raises UserError if an output would replace an input, or a folder of it."""
  targets = [(output, output.resolve()) for output in outputs]
  for path in _with_links(inputs):
    real = path.resolve()
    for output, target in targets:
      if real == target or (output.exists() and output.samefile(path)):
        raise UserError(
          f'the output {output} is the input {path}: name another output'
        )
      if target in real.parents:
        raise UserError(
          f'{path} is inside the output {output}, which would be replaced: '
          'name another output'
        )


def _with_links(paths: Iterable[Path]) -> Iterator[Path]:
  """Yields the paths that exist, and links in those that are folders."""
  for path in paths:
    if path.exists():
      yield path
    if path.is_dir():
      yield from (x for x in path.iterdir() if x.is_symlink() and x.exists())


def write(path: Path, content: str | bytes | memoryview) -> None:
  """Writes a file atomically, by way of a hidden file in the same folder.

  Raises:
    OSError: the file cannot be written; the old file is unchanged.
  """
  if isinstance(content, str):
    content = content.encode()
  partial = sibling(path, '.', '.partial')
  try:
    partial.write_bytes(content)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def check_regular(path: Path) -> None:
  """Checks that a path is a regular file.

  Raises:
    UserError: it does not exist, or is a folder, a pipe, or a device.
  """
  try:
    mode = os.stat(path).st_mode
  except (OSError, ValueError) as error:  # ValueError: not a valid name.
    reason = getattr(error, 'strerror', None) or 'this cannot be a file name'
    raise UserError(f'cannot read {path}: {reason}') from error
  if stat.S_ISDIR(mode):
    raise UserError(f'cannot read {path}: it is a folder, not a file')
  if not stat.S_ISREG(mode):
    raise UserError(
      f'cannot read {path}: it is a pipe or a device; save it as a file first'
    )


def read_text(path: Path, limit: int = _TEXT_BYTES) -> str:
  """Reads an untrusted text file.

  Args:
    path: a file in UTF-8, with or without a byte order mark.
    limit: maximum size in bytes.

  Raises:
    UserError: the file is missing, too large, or not a text file.
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
      'file of this kind'
    )
  try:
    text = data.decode('utf-8-sig')
    if '\0' in text:
      raise ValueError
  except ValueError as error:
    raise UserError(
      f'cannot read {path}: it is not a text file in UTF-8'
    ) from error
  return text


def read_json(path: Path, limit: int = _TEXT_BYTES) -> dict[str, Any]:
  """Reads an untrusted JSON object.

  Args:
    path: a text file, see `read_text`.
    limit: maximum size in bytes.

  Returns:
    Its fields. Numbers are finite, and integers fit into 64 bits.

  Raises:
    UserError: the file cannot be read, or is not a JSON object.
  """
  text = read_text(path, limit)
  try:
    fields = json.loads(
      text,
      parse_int=_parse_int,
      parse_float=_parse_float,
      parse_constant=_parse_float,
      object_pairs_hook=_unique,
    )
  except json.JSONDecodeError as error:
    raise UserError(
      f'{path} is not JSON: {error.msg} at line {error.lineno}, '
      f'column {error.colno}'
    ) from error
  except RecursionError as error:
    raise UserError(f'{path} is nested too deeply') from error
  except ValueError as error:
    raise UserError(f'{path} cannot be used: {error}') from error
  if not isinstance(fields, dict):
    raise UserError(f'{path} must be a JSON object, in braces')
  return fields


def _parse_int(text: str) -> int:
  if len(text.lstrip('-')) > _DIGITS:
    raise ValueError(f'the number {text[:_DIGITS]}... is too long')
  return int(text)


def _parse_float(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f'{text[:_DIGITS]} is not a number')
  return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = dict(pairs)
  if len(fields) < len(pairs):
    names = [name for name, _ in pairs]
    repeated = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'"{repeated[:80]}" is given twice')
  return fields


def sync(path: Path) -> None:
  """Flushes a file, or all files of a folder, to the disk."""
  for one in path.iterdir() if path.is_dir() else [path]:
    handle = os.open(one, os.O_RDWR)  # Windows does not flush others.
    try:
      os.fsync(handle)
    finally:
      os.close(handle)


def sha256(path: Path) -> str:
  """Returns the hash of the content of a file, as `sha256sum` prints it."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def sha256_of_all(paths: Iterable[Path]) -> str:
  """Returns a hash of the names and contents of files, in order."""
  lines = hashlib.sha256()
  for path in paths:
    lines.update(f'{sha256(path)}  '.encode() + os.fsencode(path.name) + b'\n')
  return lines.hexdigest()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
  """Creates a folder atomically.

  Yields:
    A hidden folder next to `path`, which is renamed to `path` at the end, or
    removed if the body raises an exception.
  """
  path = path.absolute()
  partial = sibling(path, '.', '.partial')
  shutil.rmtree(partial, ignore_errors=True)
  try:
    partial.mkdir(parents=True)
    yield partial
    partial.rename(path)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def explained(argument: str, path: Path) -> Iterator[None]:
  """Converts OSError to a UserError that names the argument."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f'cannot write `{argument}={path}`: {error.strerror or error}'
    ) from error


def check_writable(path: Path) -> None:
  """Raises UserError if a file or folder cannot be created at a path.

  Its parent folders may be missing. Nothing is created.
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


def make_folder(argument: str, folder: Path) -> None:
  """Creates a folder if it is missing, and checks that it is writable.

  Raises:
    UserError: it is not; the message names the argument.
  """
  with explained(argument, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
