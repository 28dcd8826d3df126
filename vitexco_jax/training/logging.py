"""What a run tells of itself while it trains: losses, rates and pictures.

A row of `metrics.jsonl` is the mean over the updates since the row before; the
same numbers go to TensorBoard. `validation.jsonl` has what is measured on data that
is held out. Picture strips lie in `strips/UPDATE.png`.
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


class Log:
  """Losses to JSONL and TensorBoard, picture strips to PNG.

  Metrics stay on the device until `flush`, which averages those of the updates
  since the last one and stops the run where one is not finite. On several hosts
  each has a log, so that all stop; that of the first alone writes.
  """

  def __init__(
    self,
    workdir: Path,
    settings: ml_collections.ConfigDict,
    start: int,
    writes: bool = True,
  ):
    """Goes on with what `workdir` holds, as it was after micro-step `start`.

    `settings` has the `accumulation` and the `batch_size`.
    """
    self._settings = settings
    self._pending = collections.deque()
    self._noted = {}  # Figures of the next row.
    self._words = ''  # What they say, until there are others.
    self._folder = workdir
    self._path = workdir / 'metrics.jsonl'
    self._validation = workdir / 'validation.jsonl'
    self._writes = writes
    self._since = time.monotonic()
    if writes:
      update = start // settings.accumulation
      self._drop_after(update)
      self._board = tensorboardX.SummaryWriter(
        str(workdir / 'tensorboard'), purge_step=update + 1
      )

  def _drop_after(self, update: int):
    """A resumed run writes again what came after its checkpoint."""
    for path in filter(Path.exists, (self._path, self._validation)):
      lines = path.read_text().splitlines(keepends=True)
      # The last line of a run that was killed may be torn.
      whole = [line for line in lines if line.endswith('\n')]
      kept = [line for line in whole if json.loads(line)['update'] <= update]
      files.write(path, ''.join(kept))

  def add(self, micro_step: int, metrics: Mapping[str, jax.Array]):
    """Takes the metrics of one micro-step."""
    self._pending.append((micro_step, metrics))

  def note(self, figures: Mapping[str, float]):
    """Takes figures of the networks as they are, for the next row."""
    self._noted = dict(figures)
    self._words = ''.join(f', {x} {y:.2f}' for x, y in figures.items())

  def flush(self, skipped: int = 0) -> str:
    """Writes the mean of what was added; returns a word on it.

    Args:
      skipped: samples that the feed had to replace since the start, as records
        are broken.
    """
    if not self._pending:
      return ''
    steps, metrics = zip(*self._pending, strict=True)
    self._pending.clear()
    metrics = jax.device_get(metrics)
    for micro_step, values in zip(steps, metrics, strict=True):
      bad = [name for name, x in values.items() if not math.isfinite(x)]
      # A term that is not finite spoils its weighted self and all sums.
      terms = [x.removeprefix('raw/') for x in bad if x.startswith('raw/')]
      if bad:
        raise UserError(
          f'training stopped, as {" and ".join(terms or bad)} is not finite '
          f'in micro-step {micro_step}; the last good checkpoint is kept: go on '
          'from it with a lower learning_rate in the config'
        )
    if not self._writes:
      return ''
    now = time.monotonic()
    rate = len(steps) / self._settings.accumulation / (now - self._since)
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
    update = steps[-1] // self._settings.accumulation
    with self._path.open('a') as file:
      file.write(json.dumps({'update': update} | row) + '\n')
    for name, value in row.items():
      self._board.add_scalar(name, value, update)
    word = f'loss {row["loss"]:.3f}' + self._words
    return f'{word}, {skipped} samples skipped' if skipped else word

  def validation(self, update: int, row: Mapping[str, float]):
    """Writes what was measured on data that is held out."""
    with self._validation.open('a') as file:
      file.write(json.dumps({'update': update} | dict(row)) + '\n')
    for name, value in row.items():
      self._board.add_scalar(f'validation/{name}', value, update)

  def strip(self, update: int, image: np.ndarray):
    """Keeps a picture strip, [h, w, 3] uint8."""
    folder = self._folder / 'strips'
    folder.mkdir(exist_ok=True)
    video.write_image(folder / f'{update:06d}.png', image)
    self._board.add_image('strip', image, update, dataformats='HWC')

  def close(self):
    """Closes the TensorBoard file."""
    if self._writes:
      self._board.close()
