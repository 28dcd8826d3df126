"""Segments of a film, finished or not, which later runs use again."""

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal, outputs
from vitexco_jax.media import video

_logger = logging.getLogger(__name__)


def report(confidences: np.ndarray) -> None:
  """Logs how much of a film is colorized again.

  Args:
    confidences: [frames], NaN where a frame is not colorized yet.
  """
  todo = int(np.isnan(confidences).sum())
  _logger.info(
    f'{todo} of {len(confidences)} frames are colorized again; the others are '
    'those of the last run'
  )


def keep(
  log: journal.Journal,
  place: Path | None,
  wanted: bool | None,
  names: Iterable[str],
) -> None:
  """Moves the segments of a finished film to their place, or removes them.

  Args:
    log: with the segments.
    place: of kept segments; None: they are not kept.
    wanted: whether to keep them; None: if as much of the disk stays free as they
      take.
    names: of files in the journal that are needed.
  """
  if wanted is False or place is None:
    log.remove()
    return
  size = log.retain(names)
  free = shutil.disk_usage(log.folder).free
  if wanted is None and free < size:
    log.remove()
    _logger.info(
      f'The segments were not kept: they take {_megabytes(size)}, and only '
      f'{_megabytes(free)} of the disk are free'
    )
    return
  video.remove(place)
  os.replace(log.folder, place)
  _logger.info(
    f'{place} keeps the segments, {_megabytes(size)}: the next run with this '
    'output recolors only what has changed. You may delete it'
  )


def find_segment(output: Path, number: int) -> tuple[Path, int] | None:
  """Finds a frame in the segments of an unfinished run, or of the last one.

  Args:
    output: a video.
    number: of the frame, from 0.

  Returns:
    The path of a video and the number of the frame in it; None: the frame is not
    colorized yet.
  """
  for folder in (outputs.part_folder(output), outputs.work_folder(output)):
    starts = [
      int(x.stem) for x in folder.glob('[0-9]*.json') if x.stem.isdigit()
    ]
    start = max((x for x in starts if x <= number), default=None)
    if start is None:
      continue
    try:
      record = journal.read_record(folder / f'{start:07d}.json')
    except journal.DamagedError:
      continue
    path = folder / 'output' / f'{start:07d}.mkv'
    if (
      record and number < start + len(record['facts']['pts']) and path.exists()
    ):
      return path, number - start
  return None


def read_confidences(output: Path) -> np.ndarray:
  """Reads the confidence of each frame of a finished or unfinished film.

  Args:
    output: the film.

  Returns:
    [frames] float32 up to the last frame that is colorized, the mean confidences;
    NaN: the frame is not colorized yet.

  Raises:
    UserError: there are no segments, or they are damaged.
  """
  folders = outputs.part_folder(output), outputs.work_folder(output)
  folder = next((x for x in folders if x.is_dir()), folders[1])
  known: dict[int, float] = {}
  for path in folder.glob('[0-9]*.json'):
    if not path.stem.isdigit():  # Colors that are propagated backwards.
      continue
    try:
      record = journal.read_record(path)
    except journal.DamagedError as error:
      raise UserError(f'{error}: colorize the film again') from error
    values = record['facts']['confidence'] if record else ()
    known.update(enumerate(values, int(path.stem)))
  if not known:
    raise UserError(
      f'{folders[1]} has no segments of a finished film: colorize it with '
      '`keep_work`'
    )
  confidences = np.full(max(known) + 1, np.nan, np.float32)
  confidences[list(known)] = list(known.values())
  return confidences


def _megabytes(size: int) -> str:
  return f'{size / 1e6:,.1f} MB'
