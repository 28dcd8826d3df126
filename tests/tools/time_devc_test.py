"""The comparison of speed with DEVC, with a stand-in for its repository."""

import sys
import time

import numpy as np
import pytest

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.tools import benchmark, time_devc


def test_rows_are_medians_per_frame_of_methods_that_take_turns(monkeypatch):
  order = []

  def make(name, seconds):
    def method(block):
      assert block.shape == (time_devc.BLOCK, 480, 854, 3)
      order.append(name)
      time.sleep(seconds)

    return lambda *_: method

  monkeypatch.setattr(time_devc, 'devc', make('devc', 0.2))
  monkeypatch.setattr(time_devc, 'ours', make('ours', 0.05))
  rows = time_devc.compare('clone')
  assert order == ['devc', 'ours'] * 6  # One more, which does not count.
  theirs, own, ratio = (row.value for row in rows)
  assert theirs == pytest.approx(1000 * 0.2 / time_devc.BLOCK, rel=0.5)
  assert own < theirs
  assert 2 < ratio < 6
  assert [row.runs for row in rows] == [5, 5, 5]


def test_a_folder_that_is_no_clone_is_refused(tmp_path):
  with pytest.raises(UserError, match='is not a clone of Deep-Exemplar'):
    time_devc.devc(tmp_path, np.zeros((4, 4, 3), np.uint8))


def test_a_missing_requirement_is_named(tmp_path, monkeypatch):
  (tmp_path / 'models').mkdir()
  (tmp_path / 'models' / 'FrameColor.py').touch()
  monkeypatch.setitem(sys.modules, 'torch', None)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  with pytest.raises(UserError, match='DEVC needs torch: install its'):
    time_devc.devc(tmp_path, np.zeros((4, 4, 3), np.uint8))


def test_benchmark_compares_only_with_devc_if_asked(tmp_path, monkeypatch):
  calls = []

  def in_process(function):
    if function is benchmark._describe_machine:
      return {'platform': 'cpu', 'devices': 1}
    calls.append(function)
    return [benchmark.Row('ratio', 2.0, 'times')]

  monkeypatch.setattr(benchmark, '_in_process', in_process)
  benchmark.benchmark(get_config('tiny'), tmp_path, devc=tmp_path / 'clone')
  (part,) = calls
  assert part.func is time_devc.compare
  assert (tmp_path / 'benchmark_devc.json').exists()
