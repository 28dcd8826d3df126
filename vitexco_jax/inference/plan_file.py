"""Reads, writes, and checks the JSON file of a plan; see `plan` for its format."""

import json
import os
import re
import types
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference.shot_plan import (
  FIRST_FRAME,
  NO_PATHS,
  NONE,
  SKIP,
  Choice,
  Plan,
  Shot,
)
from vitexco_jax.media import borders
from vitexco_jax.media.borders import Borders

_NUMBERS = ('score', 'confidence', 'coverage')  # Of a reference.


def write(path: Path, plan: Plan) -> None:
  """Writes a plan; replaces an existing file.

  Raises:
    OSError: the file cannot be written.
  """
  folder = path.parent.absolute()

  def relative(name: str) -> str:
    return name if name in NO_PATHS else os.path.relpath(name, folder)

  def describe(choice: Choice) -> dict[str, Any]:
    entry: dict[str, Any] = {'picture': relative(choice.picture)}
    if choice.frame is not None:
      entry['frame'] = choice.frame
    for name in _NUMBERS:
      if getattr(choice, name) is not None:
        entry[name] = getattr(choice, name)
    return entry

  facts = {
    'path': relative(plan.video),
    'width': plan.width,
    'height': plan.height,
    'frames': plan.frames,
    'frame_rate': str(plan.frame_rate),
  }

  def describe_shot(shot: Shot) -> dict[str, Any]:
    entry: dict[str, Any] = {
      'start': shot.start,
      'stop': shot.stop,
      'references': [describe(x) for x in shot.references] or SKIP,
    }
    if shot.borders != borders.NONE:
      entry['borders'] = list(shot.borders)
    if shot.dissolve:
      entry['dissolve'] = shot.dissolve
    return entry

  lines = [
    json.dumps(describe_shot(shot), ensure_ascii=False) for shot in plan.shots
  ]
  body = ',\n    '.join(lines)  # One line per shot is easy to edit.
  head = json.dumps(facts, ensure_ascii=False)
  files.write(path, f'{{"video": {head},\n "shots": [\n    {body}\n ]}}\n')


def read(path: Path) -> Plan:
  """Reads a plan that was perhaps edited by hand.

  Raises:
    UserError: the file cannot be read, is not a plan, omits frames, or names a
      picture that does not exist.
  """
  entries = files.read_json(path)
  facts = _field(f'{path}', entries, 'video', dict)
  where = f'{path}, video'
  try:
    text = _field(where, facts, 'frame_rate', str)
    # Fraction would compute all digits of 1e999999999.
    if not re.fullmatch(r'\d{1,10}([/.]\d{1,10})?', text, re.ASCII):
      raise ValueError
    rate = Fraction(text)
    if not rate:
      raise ValueError
  except (ValueError, ZeroDivisionError) as error:
    raise UserError(
      f'{where}: frame_rate is not a number like "25" or "24000/1001"'
    ) from error
  plan = Plan(
    os.fspath(path.parent / _field(where, facts, 'path', str)),
    _field(where, facts, 'width', int),
    _field(where, facts, 'height', int),
    _field(where, facts, 'frames', int),
    rate,
    tuple(
      _read_shot(f'{path}, shot {number}', entry, path.parent)
      for number, entry in enumerate(
        _field(f'{path}', entries, 'shots', list), 1
      )
    ),
  )
  check(os.fspath(path), plan)
  return plan


def _field(
  where: str, entry: Any, name: str, kind: type | types.UnionType
) -> Any:
  value = entry.get(name) if isinstance(entry, dict) else None
  if not isinstance(value, kind) or isinstance(value, bool):
    words: dict[type | types.UnionType, str] = {
      dict: 'an object',
      list: 'a list',
      str: 'a text',
      int: 'a number',
      int | float: 'a number',
    }
    raise UserError(f'{where}: "{name}" must be {words[kind]}')
  return value


def _check_names(where: str, entry: Any, names: Collection[str]) -> None:
  """Raises UserError for unknown fields, which may be misspelled."""
  unknown = sorted(entry.keys() - names) if isinstance(entry, dict) else ()
  if unknown:
    raise UserError(
      f'{where}: there is no "{unknown[0]}"; known are {", ".join(names)}'
    )


def _read_shot(where: str, entry: Any, folder: Path) -> Shot:
  choices = []
  skipped = isinstance(entry, dict) and entry.get('references') == SKIP
  listed = [] if skipped else _field(where, entry, 'references', list)
  for reference in listed:
    picture = _field(where, reference, 'picture', str)
    if picture not in NO_PATHS:
      picture = os.fspath(folder / picture)
    _check_names(where, reference, Choice._fields)
    frame = reference.get('frame')
    if frame is not None:
      frame = _field(where, reference, 'frame', int)
    numbers = {
      name: _field(where, reference, name, int | float)
      for name in _NUMBERS
      if reference.get(name) is not None
    }
    choices.append(Choice(picture, frame=frame, **numbers))
  _check_names(where, entry, Shot._fields)
  start, stop = (_field(where, entry, name, int) for name in ('start', 'stop'))
  dissolve = _field(where, entry, 'dissolve', int) if 'dissolve' in entry else 0
  return Shot(
    start, stop, tuple(choices), _read_borders(where, entry), dissolve
  )


def _read_borders(where: str, entry: dict[str, Any]) -> Borders:
  if 'borders' not in entry:
    return borders.NONE
  widths = _field(where, entry, 'borders', list)
  if len(widths) != 4 or not all(type(x) is int and x >= 0 for x in widths):
    raise UserError(
      f'{where}: "borders" must be four numbers of pixels: [top, bottom, left, '
      'right]'
    )
  return Borders(*widths)


def check(where: str, plan: Plan) -> None:
  """Checks that a plan is complete and consistent.

  Args:
    where: name of the plan in messages.
    plan: the plan.

  Raises:
    UserError: a shot is wrong; the message names it.
  """
  expected = 0
  for number, shot in enumerate(plan.shots, 1):
    name = f'{where}, shot {number}'
    if shot.start != expected:
      raise UserError(
        f'{name} starts at frame {shot.start}, not at {expected}: shots must '
        'follow one another without gaps'
      )
    if shot.stop <= shot.start:
      raise UserError(f'{name} must stop after it starts, at {shot.start}')
    expected = shot.stop
    _check_dissolve(name, shot, plan)
    _check_borders(name, shot, plan)
    _check_references(name, shot)
  if expected != plan.frames:
    raise UserError(
      f'{where}: the last shot stops at {expected}, but the video has '
      f'{plan.frames} frames'
    )


def _check_dissolve(name: str, shot: Shot, plan: Plan) -> None:
  if not 0 <= shot.dissolve <= shot.stop - shot.start:
    raise UserError(
      f'{name}: "dissolve" is {shot.dissolve}, but it must be a number of its '
      f'{shot.stop - shot.start} frames'
    )
  if shot.dissolve and shot.stop == plan.frames:
    raise UserError(
      f'{name} is the last one: there is nothing to dissolve into'
    )


def _check_borders(name: str, shot: Shot, plan: Plan) -> None:
  remaining = shot.borders.size(plan.height, plan.width)
  if min(remaining) < borders.MIN_PICTURE and shot.borders != borders.NONE:
    raise UserError(
      f'{name} has borders that leave {remaining[1]}x{remaining[0]} pixels of '
      f'{plan.width}x{plan.height}: at least {borders.MIN_PICTURE} must '
      'remain on either side'
    )


def _check_references(name: str, shot: Shot) -> None:
  pictures = [choice.picture for choice in shot.references]
  is_bound = any(x.frame is not None for x in shot.references)
  if NONE in pictures and (len(pictures) > 1 or is_bound):
    raise UserError(f'{name}: "none" must be the only picture, without a frame')
  frames = [x.frame for x in shot.references if x.frame is not None]
  unique = set()
  for frame in frames:
    if not shot.start <= frame < shot.stop:
      raise UserError(
        f'{name} has a reference bound to frame {frame}, which is not between '
        f'{shot.start} and {shot.stop - 1}'
      )
    if frame in unique:
      raise UserError(f'{name} has two references bound to frame {frame}')
    unique.add(frame)
  for choice in shot.references:
    if choice.picture == FIRST_FRAME and choice.frame:
      raise UserError(f'{name}: first-frame can be bound to frame 0 only')
    if choice.picture not in NO_PATHS and not os.path.isfile(choice.picture):
      raise UserError(f'{name}: there is no picture {choice.picture}')
