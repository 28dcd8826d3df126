"""The blocks of a film that earlier runs have completed."""

import logging
from collections.abc import Iterable

from vitexco_jax.inference import journal
from vitexco_jax.inference.film_job import Job
from vitexco_jax.inference.stretches import Task, runs

_logger = logging.getLogger(__name__)


def find(job: Job, tasks: Iterable[Task]) -> None:
  """Notes the complete blocks of tasks in the progress; warns of damaged ones.

  A block is complete if its segments are there, and the state with which the next
  block starts if that one is not complete.

  Args:
    job: whose journal is read.
    tasks: of the film.
  """
  errors = {}
  for task in tasks:
    needs_state = False  # Whether the next block needs the state.
    for block in reversed(task.blocks):
      names = (
        [track.segment(block) for track in job.tracks] if block.shown else []
      )
      if needs_state and task.stretch.propagates_forwards:
        names.append(block.state)
      facts = None
      try:
        facts = job.journal.read(block.name, block.key, names)
      except journal.DamagedError as error:
        errors[block] = error
      needs_state = facts is None
      if facts is not None:
        job.progress.note(block, facts)
  for run in runs(sorted(errors)):
    _logger.warning(
      'frames %d to %d are colorized again: %s%s',
      run[0].start,
      run[-1].stop - 1,
      errors[run[0]],
      ', and so on' if len(run) > 1 else '',
    )
