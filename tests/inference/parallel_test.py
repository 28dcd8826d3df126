"""Parallel workers: each stretch is colorized once, and errors stop all."""

import contextlib

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


def test_each_task_is_done_once():
  steps = list(parallel.color([_Worker(), _Worker()], range(24)))
  assert sorted(steps) == [*range(24)]


def test_an_error_of_a_worker_is_raised_and_ends_the_others():
  with pytest.raises(ValueError, match='task 5'):
    list(parallel.color([_Worker(5), _Worker(5)], range(100)))
