"""Lists of reference pictures: a folder, a text file or a CSV."""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import manifest, times
from vitexco_jax.media import video


class Entry(NamedTuple):
  """A picture of a list, perhaps bound to a frame or a time."""

  path: Path
  frame: int | None = None  # Of the video, counted from 0.
  seconds: float | None = None  # From the beginning of the video.


def read(source: Path) -> list[Entry]:
  """Reads a list of references; does not open the pictures.

  Args:
    source: a folder of pictures; a text file with one path per line; or a CSV with
      the column `file` and, for bound pictures, `frame` or `time` (seconds or
      h:mm:ss), or a manifest. Paths are relative to the folder of the file.

  Raises:
    UserError: the list cannot be read, is empty, names a file that does not
      exist, or binds a picture to something that is not a frame or a time.
  """
  name = f'`references={source}`'
  if not os.path.exists(source):
    raise UserError(f'{name} does not exist')
  if source.is_dir():
    entries = [Entry(path) for path in video.image_files(source)]
  else:
    try:
      entries = list(_read_file(name, source))
    except csv.Error as error:
      raise UserError(f'{name} is no CSV: {error}') from error
  if not entries:
    raise UserError(f'{name} has no pictures')
  for path, *_ in entries:
    if not os.path.isfile(path):
      raise UserError(f'{name} names {path}, which does not exist')
  return entries


def read_manifest(source: Path) -> list[manifest.Row] | None:
  """Reads a manifest; None: the list is none. See `read` for errors."""
  if source.suffix.lower() != '.csv' or not source.is_file():
    return None
  lines = files.read_text(source).splitlines()
  return manifest.parse(lines, source) if manifest.is_manifest(lines) else None


def _read_file(name: str, source: Path) -> Iterator[Entry]:
  lines = files.read_text(source).splitlines()
  if source.suffix.lower() != '.csv':
    for line in map(str.strip, lines):
      if line:
        yield Entry(source.parent / line)
    return
  if manifest.is_manifest(lines):
    pictures = [row.picture for row in manifest.parse(lines, source)]
    yield from (Entry(x) for x in dict.fromkeys(pictures) if x is not None)
    return
  rows = csv.DictReader(lines, skipinitialspace=True, restval='')
  names = rows.fieldnames or ()
  if not {'file'} <= set(names) <= {'file', 'frame', 'time'} or len(
    names
  ) != len(set(names)):
    raise UserError(f'{name} needs a first line like file,frame or file,time')
  for row in rows:
    where = f'{name}, line {rows.line_num}'
    if None in row:
      raise UserError(
        f'{where} has more than {len(names)} values: put names that contain a '
        'comma into quotes'
      )
    frame, time = row.get('frame', ''), row.get('time', '')
    if not row['file']:
      raise UserError(f'{where} names no file')
    if frame and time:
      raise UserError(f'{where} has both a frame and a time: leave out one')
    path = source.parent / row['file']
    yield Entry(path, *_bound(f'{name}, {path.name}', frame, time))


def _bound(
  where: str, frame: str, time: str
) -> tuple[int | None, float | None]:
  """Parses the frame or the time of a bound picture: (frame, seconds)."""
  try:
    if frame:
      if not re.fullmatch(r'\d{1,18}', frame, re.ASCII):
        raise ValueError
      return int(frame), None
    if not time:
      return None, None
    return None, times.parse_seconds(time)
  except ValueError as error:
    raise UserError(
      f'{where}: {frame or time!r} is neither a frame (123) nor a time (83.4 or '
      '0:01:23.4)'
    ) from error
