"""Lists of the cuts of a film: an EDL for editing programs, and CSV.

An EDL (CMX 3600) has one event per shot. The times of the source and of the record
are the same time codes, so that the list divides the film, or its colorized copy, on
the timeline of an editing program. Codes count frames from the time code of the film,
or from 00:00:00:00.
"""

import csv
import io
import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from vitexco_jax.inference.shot_plan import SKIP, Plan
from vitexco_jax.inference.times import format_time
from vitexco_jax.media import time_codes

_COLUMNS = (
  'shot',
  'start',
  'stop',
  'start_time',
  'stop_time',
  'start_code',
  'stop_code',
  'references',
)


def to_edl(plan: Plan, time_code: str) -> str:
  """Returns the text of an EDL.

  Args:
    plan: the shots.
    time_code: of the first frame of the film; '' for 00:00:00:00.

  Returns:
    The text; empty if the frame rate has no time codes.
  """
  codes = _codes(plan, time_code)
  if not codes[0]:
    return ''
  path = Path(plan.video)
  mode = 'DROP FRAME' if time_codes.is_drop(codes[0]) else 'NON-DROP FRAME'
  lines = [f'TITLE: {_line(path.stem)}', f'FCM: {mode}', '']
  for number, span in enumerate(map(' '.join, itertools.pairwise(codes)), 1):
    lines.append(f'{number:03d}  AX       V     C        {span} {span}')
    lines.append(f'* FROM CLIP NAME: {_line(path.name)}')
  return '\n'.join(lines) + '\n'


def to_csv(plan: Plan, seconds: Sequence[float], time_code: str) -> str:
  """Returns the text of a table with one row per shot.

  Args:
    plan: the shots.
    seconds: time of each frame.
    time_code: see `to_edl`.
  """
  codes = _codes(plan, time_code)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(_COLUMNS)
  for number, shot in enumerate(plan.shots, 1):
    last = Fraction(seconds[shot.stop - 1]) + 1 / plan.frame_rate
    stop = last if shot.stop == plan.frames else Fraction(seconds[shot.stop])
    names = [x.picture for x in shot.references] or [SKIP]
    writer.writerow(
      (
        number,
        shot.start,
        shot.stop,
        format_time(Fraction(seconds[shot.start])),
        format_time(stop),
        codes[number - 1],
        codes[number],
        ';'.join(_line(Path(name).name) for name in names),
      )
    )
  return text.getvalue()


def _codes(plan: Plan, time_code: str) -> list[str]:
  """Returns the time codes at which shots start, and that of the end."""
  rate = plan.frame_rate
  first = time_codes.after(time_code, 0, rate) or '00:00:00:00'
  frames = [shot.start for shot in plan.shots] + [plan.frames]
  return [time_codes.after(first, frame, rate) for frame in frames]


def _line(text: str) -> str:
  """Returns text without line breaks and other characters that do not print."""
  return ''.join(x if x.isprintable() else ' ' for x in text)
