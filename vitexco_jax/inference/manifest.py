"""Manifests of references, as the ComfyUI tools of the ARP family exchange them.

A CSV with one row for each stretch of a film, in order:

  # source_video=film.mp4
  enabled,end,reference
  true,0:00:13.480,ref_000120.png
  false,0:00:20.000,

A stretch begins where the one before it ends. One that is not enabled stays as it is.
`color_reference` may take the place of `reference`, and other columns are ignored.
"""

import bisect
import csv
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from vitexco_jax.errors import UserError
from vitexco_jax.inference import times
from vitexco_jax.inference.shot_plan import Choice, Plan, Shot

_REFERENCES = 'reference', 'color_reference'
_SWITCH = dict.fromkeys(('true', '1', 'yes', ''), True) | dict.fromkeys(
  ('false', '0', 'no'), False
)


class Row(NamedTuple):
  """A stretch of a film, from the end of the previous row."""

  end: float  # Seconds from the beginning of the film.
  picture: Path | None  # None: the stretch stays as it is.


def is_manifest(lines: Iterable[str]) -> bool:
  """Returns whether the first line that is no comment has a manifest's columns."""
  first = next((x for x in lines if not x.startswith('#')), '')
  names = {x.strip() for x in first.split(',')}
  return {'enabled', 'end'} <= names


def parse(lines: Sequence[str], source: Path) -> list[Row]:
  """Parses a manifest.

  Args:
    lines: of the file.
    source: the file. Paths are relative to its folder or to one above it.

  Raises:
    UserError: a row has no valid time, value of `enabled` or picture, or ends
      before it begins.
  """
  name = f'`references={source}`'
  rows = csv.DictReader(
    (x for x in lines if not x.startswith('#')),
    skipinitialspace=True,
    restval='',
  )
  column = next((x for x in _REFERENCES if x in (rows.fieldnames or ())), None)
  if column is None:
    raise UserError(f'{name} needs a first line like enabled,end,reference')
  stretches: list[Row] = []
  for number, row in enumerate(rows, 1):
    where = f'{name}, row {number}'
    enabled = _SWITCH.get(row['enabled'].strip().lower())
    if enabled is None:
      raise UserError(
        f'{where}: enabled={row["enabled"]!r} must be true or false'
      )
    try:
      end = times.parse_seconds(row['end'])
    except ValueError as error:
      raise UserError(
        f'{where}: end={row["end"]!r} is no time like 83.4 or 0:01:23.4'
      ) from error
    if end <= (stretches[-1].end if stretches else 0):
      raise UserError(f'{where} ends before it begins')
    if enabled and not row[column]:
      raise UserError(f'{where} names no {column}')
    picture = _find(source, row[column]) if enabled else None
    stretches.append(Row(end, picture))
  return stretches


def _find(source: Path, name: str) -> Path:
  folders = source.absolute().parent, *source.absolute().parent.parents
  paths = (folder / name for folder in folders)
  found = next((x for x in paths if os.path.isfile(x)), None)
  return found or source.parent / name


def follow(
  film_plan: Plan,
  seconds: Sequence[float],
  rows: Sequence[Row],
  bound: Mapping[Path, int | None],
) -> Plan:
  """Gives the shots of a film the references of a manifest.

  Shots are divided where a row ends. What comes after the last row stays as it is.

  Args:
    film_plan: the shots.
    seconds: the time of each frame.
    rows: of the manifest.
    bound: the frame that each picture shows, if its name says it.
  """
  half = 0.5 / float(film_plan.frame_rate)
  ends = [bisect.bisect_left(seconds, row.end - half) for row in rows]
  shots = []
  for shot in film_plan.shots:
    cuts = [x for x in ends if shot.start < x < shot.stop]
    for start, stop in itertools.pairwise((shot.start, *cuts, shot.stop)):
      if start < stop:
        number = bisect.bisect_right(ends, start)
        part = shot._replace(start=start, stop=stop, references=())
        dissolve = min(shot.dissolve, stop - start) if stop == shot.stop else 0
        part = part._replace(dissolve=dissolve)
        picture = rows[number].picture if number < len(rows) else None
        if picture is not None:
          frame = bound[picture]
          inside = frame is not None and start <= frame < stop
          choice = Choice(os.fspath(picture), frame=frame if inside else None)
          part = part._replace(references=(choice,))
        shots.append(part)
  return film_plan._replace(shots=tuple(shots))


def to_text(
  film_plan: Plan, frames: Iterable[Sequence[int]], folder: Path
) -> str:
  """Returns the text of a manifest.

  Args:
    film_plan: the shots.
    frames: of each shot, those whose pictures are its references. A picture is
      used up to the middle between its frame and the next one.
    folder: of the manifest, which contains the pictures, `ref_NNNNNN.png`.
  """
  lines = [
    f'# source_video={os.path.relpath(film_plan.video, folder)}',
    'enabled,end,reference',
  ]
  for shot, numbers in zip(film_plan.shots, frames, strict=True):
    lines += _describe(shot, sorted(numbers), film_plan.frame_rate)
  return '\n'.join(lines) + '\n'


def _describe(
  shot: Shot, numbers: Sequence[int], frame_rate: Fraction
) -> list[str]:
  if not numbers:
    return [f'false,{times.format_time(shot.stop / frame_rate)},']
  middles = [(a + b + 1) // 2 for a, b in itertools.pairwise(numbers)]
  return [
    f'true,{times.format_time(end / frame_rate)},ref_{number:06d}.png'
    for number, end in zip(numbers, (*middles, shot.stop), strict=True)
  ]
