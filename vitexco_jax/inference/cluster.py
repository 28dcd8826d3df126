"""Colorizes a film on several machines, with Apache Beam.

Stretches are independent, so each one is an element of a pipeline. The machine that
starts it makes the plan, creates OUTPUT.part, and locks it. The workers write
segments and journal entries there, as `Worker` does on one machine. Then the first
machine checks them and assembles the outputs. Another run of the command therefore
continues with the stretches that are not complete, with or without Beam.
"""

import functools
import logging
import queue
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vitexco_jax import beam, weights
from vitexco_jax.errors import UserError
from vitexco_jax.inference import completed, journal, locks
from vitexco_jax.inference.film_job import Job
from vitexco_jax.inference.film_settings import program_version
from vitexco_jax.inference.stretches import Task
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.inference.worker import Worker

SETTINGS = 'settings.json'  # Of a film, in its folder of unfinished work.
_logger = logging.getLogger(__name__)


class Workers(NamedTuple):
  """The workers of a cluster, and what they load."""

  options: str  # Of the Beam pipeline.
  checkpoint: str  # Name or absolute path of the weights.
  overrides: tuple[tuple[str, Any], ...]  # Values of their config.

  @classmethod
  def of(
    cls, options: str, checkpoint: str, overrides: Mapping[str, Any]
  ) -> 'Workers':
    """Makes the description of the workers.

    Args:
      options: of the pipeline.
      checkpoint: see `weights`.
      overrides: see `VideoColorizer.from_checkpoint`.
    """
    if checkpoint not in weights.SHIPPED:
      checkpoint = str(Path(checkpoint).absolute())
    return cls(options, checkpoint, tuple(overrides.items()))


class _Order(NamedTuple):
  """An element of the pipeline."""

  task: Task
  job: Job
  workers: Workers
  settings: str  # Digest of those of the film.
  version: str  # Of the program.
  fingerprint: str  # Of the weights.


def color(workers: Workers, job: Job, tasks: Sequence[Task]) -> None:
  """Colorizes the blocks of a film that are not complete.

  Args:
    workers: which do it.
    job: with absolute paths; its progress has the complete blocks.
    tasks: all stretches of the film.

  Raises:
    UserError: a worker cannot work, or blocks are missing at the end.
  """
  facts = job.progress.facts
  todo = [x for x in tasks if not all(block in facts for block in x.blocks)]
  _logger.info(f'{len(todo)} of {len(tasks)} stretches are sent to the workers')
  settings = journal.read_record(job.journal.folder / SETTINGS)
  assert settings is not None  # The film has just written them.
  digest = journal.digest(settings)
  orders = [
    _Order(task, job, workers, digest, settings['vitexco'], settings['weights'])
    for task in todo
  ]
  if orders:
    beam.run('colorize', color_task, orders, workers.options)
  completed.find(job, todo)
  missing = [y for x in todo for y in x.blocks if y not in job.progress.facts]
  if missing:
    raise UserError(
      f'the pipeline has ended, but frames {missing[0].start} to '
      f'{missing[0].stop - 1} are not in {job.journal.folder}: see whether all '
      'workers share this folder, and run the same command again'
    )


def color_task(order: _Order) -> None:
  """Colorizes one stretch; runs on a worker.

  Raises:
    UserError: this machine does not share the folder of the film, or has another
      program or other weights.
  """
  task, job = order.task, order.job
  folder = job.journal.folder
  _check_shared(order)
  with locks.wait(folder / f'{task.stretch.start:07d}.lock'):
    completed.find(job, [task])
    colorizers = _colorizers(order.workers)
    colorizer = colorizers.get()
    try:
      if colorizer.fingerprint != order.fingerprint:
        raise UserError(
          f'{socket.gethostname()} has other weights in '
          f'{order.workers.checkpoint} than the machine that started: use a '
          'folder that all workers share'
        )
      with Worker(job, colorizer) as worker:
        for _ in worker.color(task):
          pass
    finally:
      colorizers.put(colorizer)


def _check_shared(order: _Order) -> None:
  """Checks that a worker has the same folder and program."""
  host, folder = socket.gethostname(), order.job.journal.folder
  try:
    record = journal.read_record(folder / SETTINGS)
  except journal.DamagedError:
    record = None
  if record is None or journal.digest(record) != order.settings:
    raise UserError(
      f'the worker on {host} does not see {folder}: name an `output` in a '
      'folder that all workers share under the same path'
    )
  if not order.job.path.exists():
    raise UserError(
      f'the worker on {host} does not see {order.job.path}: put it into a '
      'folder that all workers share under the same path'
    )
  if program_version() != order.version:
    raise UserError(
      f'the worker on {host} has version {program_version()}, not '
      f'{order.version}: install the same program on all workers'
    )


@functools.cache
def _colorizers(workers: Workers) -> queue.SimpleQueue[VideoColorizer]:
  """Returns the free colorizers of this process, one for each device."""
  colorizer = VideoColorizer.from_checkpoint(
    workers.checkpoint, dict(workers.overrides)
  )
  free: queue.SimpleQueue[VideoColorizer] = queue.SimpleQueue()
  for device in jax.local_devices():
    free.put(colorizer.on(device))
  return free
