"""Shows a plan: a table for the terminal and contact sheets."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vitexco_jax.inference.shot_plan import (
  FIRST_FRAME,
  Choice,
  Plan,
  Shot,
  clock,
)
from vitexco_jax.inference.survey import THUMBNAIL
from vitexco_jax.media import image_grid, video

_ROWS = 60  # Shots on a contact sheet.
_HEADS = ('score', 'confidence', 'coverage')
_SKIPPED = 'stays as it is'


def table(plan: Plan, seconds: Sequence[float] = ()) -> str:
  """Formats a plan as text, one line per reference.

  Args:
    plan: the plan.
    seconds: time of each frame, for a variable frame rate.
  """
  was_tried = any(x.verdict for shot in plan.shots for x in shot.references)
  heads = _HEADS if was_tried else _HEADS[:1]
  rows: list[tuple[str, ...]] = [
    ('shot', 'frames', 'from', *heads, 'reference')
  ]
  for number, shot in enumerate(plan.shots, 1):
    first: tuple[str, ...] = (
      str(number),
      f'{shot.start}-{shot.stop - 1}'
      + (f' ({shot.dissolve} dissolve)' if shot.dissolve else ''),
      clock(_start(plan, shot, seconds)),
    )
    for choice in shot.references:
      rows.append((*first, *_numbers(choice)[: len(heads)], _label(choice)))
      first = ('', '', '')
    if shot.skipped:
      rows.append((*first, *([''] * len(heads)), _SKIPPED))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if i == len(row) - 1 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  )


def _start(
  plan: Plan, shot: Shot, seconds: Sequence[float]
) -> float | Fraction:
  return seconds[shot.start] if seconds else shot.start / plan.frame_rate


def _numbers(choice: Choice) -> list[str]:
  values = choice.score, choice.confidence, choice.coverage
  return ['' if x is None else f'{x:.2f}' for x in values]


def _label(choice: Choice) -> str:
  bound = '' if choice.frame is None else f' (frame {choice.frame})'
  verdict = f', {choice.verdict}' if choice.verdict else ''
  return Path(choice.picture).name + bound + verdict


def contact_sheets(
  plan: Plan, thumbnails: Sequence[bytes], seconds: Sequence[float] = ()
) -> Iterator[np.ndarray]:
  """Draws shots with their references, sixty shots per sheet.

  Args:
    plan: the plan.
    thumbnails: one image file per shot.
    seconds: see `table`.

  Yields:
    [h, w, 3] uint8.

  Raises:
    UserError: a reference cannot be read.
  """
  pictures = {FIRST_FRAME: video.decode_image(thumbnails[0], FIRST_FRAME)}
  rows: list[list[np.ndarray]] = []
  labels: list[str] = []
  for number, (shot, thumbnail) in enumerate(
    zip(plan.shots, thumbnails, strict=True), 1
  ):
    row = [video.decode_image(thumbnail, 'a thumbnail')]
    for choice in () if shot.by_prior else shot.references:
      if choice.picture not in pictures:
        rgb = video.read_image(choice.picture)
        height = max(1, round(rgb.shape[0] * THUMBNAIL / rgb.shape[1]))
        pictures[choice.picture] = cv2.resize(
          rgb, (THUMBNAIL, height), interpolation=cv2.INTER_AREA
        )
      row.append(pictures[choice.picture])
    names = '; '.join(
      ' '.join([_label(choice), *filter(None, _numbers(choice))])
      for choice in shot.references
    )
    start = clock(_start(plan, shot, seconds))
    rows.append(row)
    labels.append(f'{number}, {start}: {names or _SKIPPED}')
    if len(rows) == _ROWS or number == len(plan.shots):
      yield image_grid.draw(rows, labels)
      rows, labels = [], []
      pictures = {FIRST_FRAME: pictures[FIRST_FRAME]}
