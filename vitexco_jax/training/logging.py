"""Training logs: JSONL, TensorBoard, and contact sheets.

A row of `metrics.jsonl` is the mean over the updates since the previous row;
TensorBoard gets the same values. `validation.jsonl` has the metrics on held-out
data. Contact sheets are written to `strips/UPDATE.png`.
"""

import collections
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tensorboardX

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.media import video


def accumulation(settings: ml_collections.ConfigDict) -> int:
  """Returns the micro-steps of an update: 1 if a section does not set them."""
  return settings.get('accumulation', 1)


class Log:
  """Writes metrics to JSONL and TensorBoard, and contact sheets to PNG.

  Metrics stay on the device until `flush`, which averages them and stops the run if
  one is not finite. In multihost training every host has a log, so that all stop;
  only that of the first host writes files.
  """

  def __init__(
    self,
    workdir: Path,
    settings: ml_collections.ConfigDict,
    start: int,
    writes: bool = True,
  ) -> None:
    """Continues the logs of `workdir` after micro-step `start`.

    `settings` has `batch_size` and may have `accumulation`.
    """
    self._settings = settings
    self._accumulation = accumulation(settings)
    self._pending: collections.deque[tuple[int, Mapping[str, jax.Array]]] = (
      collections.deque()
    )
    self._noted: dict[str, float] = {}  # Additional values of the next row.
    self._words = ''  # The newest of them as text.
    self._folder = workdir
    self._path = workdir / 'metrics.jsonl'
    self._validation = workdir / 'validation.jsonl'
    self._writes = writes
    self._since = time.monotonic()
    if writes:
      update = start // self._accumulation
      self._drop_after(update)
      self._board = tensorboardX.SummaryWriter(
        str(workdir / 'tensorboard'), purge_step=update + 1
      )

  def _drop_after(self, update: int) -> None:
    """Removes rows after the checkpoint, which a resumed run writes again."""
    for path in filter(Path.exists, (self._path, self._validation)):
      lines = path.read_text().splitlines(keepends=True)
      # The last line of a killed run may be incomplete.
      lines = [line for line in lines if line.endswith('\n')]
      lines = [line for line in lines if json.loads(line)['update'] <= update]
      files.write(path, ''.join(lines))

  def add(self, micro_step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Adds the metrics of one micro-step."""
    self._pending.append((micro_step, metrics))

  def note(self, figures: Mapping[str, float]) -> None:
    """Adds values measured on the current networks to the next row."""
    self._noted = dict(figures)
    self._words = ''.join(f', {x} {y:.2f}' for x, y in figures.items())

  def flush(self, skipped: int = 0) -> str:
    """Writes the mean of the added metrics; returns a short summary.

    Args:
      skipped: number of unreadable samples replaced since the start.
    """
    if not self._pending:
      return ''
    steps, metrics = zip(*self._pending, strict=True)
    self._pending.clear()
    metrics = jax.device_get(metrics)
    for micro_step, values in zip(steps, metrics, strict=True):
      bad = [name for name, x in values.items() if not math.isfinite(x)]
      # A term that is not finite also affects its weighted value and all sums.
      terms = [x.removeprefix('raw/') for x in bad if x.startswith('raw/')]
      if bad:
        raise UserError(
          f'training stopped because {" and ".join(terms or bad)} is not finite '
          f'in micro-step {micro_step}: resume from the last checkpoint, which is '
          'good, with a lower learning_rate in the config'
        )
    if not self._writes:
      return ''
    now = time.monotonic()
    rate = len(steps) / self._accumulation / (now - self._since)
    self._since = now
    row = {
      name: float(np.mean([values[name] for values in metrics]))
      for name in metrics[0]
    }
    row['updates_per_second'] = rate
    row['samples_per_second'] = rate * self._settings.batch_size
    row['skipped_samples'] = skipped
    row |= self._noted
    self._noted = {}
    update = steps[-1] // self._accumulation
    with self._path.open('a') as file:
      file.write(json.dumps({'update': update} | row) + '\n')
    for name, value in row.items():
      self._board.add_scalar(name, value, update)
    word = f'loss {row["loss"]:.3f}' + self._words
    return f'{word}, {skipped} samples skipped' if skipped else word

  def validation(self, update: int, row: Mapping[str, float]) -> None:
    """Writes metrics on held-out data."""
    with self._validation.open('a') as file:
      file.write(json.dumps({'update': update} | dict(row)) + '\n')
    for name, value in row.items():
      self._board.add_scalar(f'validation/{name}', value, update)

  def strip(self, update: int, image: np.ndarray) -> None:
    """Writes a contact sheet, [h, w, 3] uint8."""
    folder = self._folder / 'strips'
    folder.mkdir(exist_ok=True)
    video.write_image(folder / f'{update:06d}.png', image)
    self._board.add_image('strip', image, update, dataformats='HWC')

  def close(self) -> None:
    """Closes the TensorBoard file."""
    if self._writes:
      self._board.close()
