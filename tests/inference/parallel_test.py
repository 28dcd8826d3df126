"""Parallel workers: each stretch is colorized once, and errors stop all."""

import contextlib
from typing import NamedTuple

import pytest

from vitexco_jax.inference import parallel


class _Task(NamedTuple):
  """Stands in for a stretch of some frames."""

  number: int
  frames: int = 1
  has_both_directions: bool = False

  @property
  def stretch(self):
    return self

  @property
  def steps(self):
    return self.frames * (1 + self.has_both_directions)


class _Worker(contextlib.nullcontext):
  """Yields the tasks that it gets, or fails at one of them."""

  def __init__(self, fails_at=None):
    super().__init__()
    self._fails_at = fails_at

  def color(self, task):
    if task.number == self._fails_at:
      raise ValueError(f'task {task.number}')
    yield task.number

  def store(self, task, forwards):
    yield task.number, forwards


def test_each_task_is_done_once():
  tasks = [*map(_Task, range(24))]
  steps = list(parallel.color([_Worker(), _Worker()], tasks))
  assert sorted(steps) == [*range(24)]


def test_directions_of_a_long_stretch_are_stored_before_they_are_mixed():
  tasks = [_Task(0, 4, True), _Task(1, 20, True), _Task(2, 25)]
  steps = list(parallel.color([_Worker(), _Worker()], tasks))
  assert {*steps[:-1]} == {0, 2, (1, False), (1, True)}
  assert steps[-1] == 1
  steps = list(parallel.color([_Worker()], tasks))
  assert steps == [0, 1, 2]


def test_an_error_of_a_worker_is_raised_and_ends_the_others():
  with pytest.raises(ValueError, match='task 5'):
    list(parallel.color([_Worker(5), _Worker(5)], [*map(_Task, range(99))]))
