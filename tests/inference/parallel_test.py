"""Parallel workers: each shot is colorized once, and errors stop all."""

import contextlib
import itertools

import pytest

from vitexco_jax.inference import parallel


class _Worker(contextlib.nullcontext):
  """Yields the tasks that it gets, or fails at one of them."""

  def __init__(self, fails_at=None):
    super().__init__()
    self._fails_at = fails_at

  def color(self, task):
    if task == self._fails_at:
      raise ValueError(f'task {task}')
    yield task


def test_each_task_of_each_shot_is_done_once():
  shots = [[10 * shot + task for task in range(3)] for shot in range(8)]
  steps = list(parallel.color([_Worker(), _Worker()], shots))
  assert sorted(steps) == sorted(itertools.chain(*shots))


def test_an_error_of_a_worker_is_raised_and_ends_the_others():
  shots = ([task] for task in range(100))
  with pytest.raises(ValueError, match='task 5'):
    list(parallel.color([_Worker(5), _Worker(5)], shots))
