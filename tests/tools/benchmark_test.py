"""The benchmark at toy size: which parts run, and the report."""

import functools
import json

import jax
import pytest

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.tools import benchmark, benchmark_data, benchmark_network


def test_results_are_written(tmp_path, monkeypatch, capsys):
  """Each part runs in a separate process, to measure its peak memory."""
  config = get_config('tiny')

  def parts(config, gpu):
    assert not gpu
    yield functools.partial(benchmark_network.matching, config, 64, 64, 8)
    yield functools.partial(
      benchmark_network.video_speed, config, frames=8, size=(32, 48)
    )

  monkeypatch.setattr(benchmark, '_parts', parts)
  benchmark.benchmark(config, tmp_path / 'out')
  report = json.loads((tmp_path / 'out/benchmark_tiny.json').read_text())
  names = [row['name'] for row in report['rows']]
  assert len(names) == len(set(names)) == 6 + 4 + 1
  assert report['rows'][-1]['unit'] == 'frames/s'
  assert report['rows'][-1]['value'] > 0 and report['rows'][-1]['runs'] == 3
  assert report['versions']['jax'] == jax.__version__
  assert report['machine']['platform'] == 'cpu'
  printed = capsys.readouterr().out
  assert all(name in printed for name in names)


def test_parts_by_variant():
  def names(variant, gpu):
    return [p.func.__name__ for p in benchmark._parts(get_config(variant), gpu)]

  small = [
    'matching',
    'video_speed',
    'video_memory',
    'video_memory',
    'training',
    'metrics_speed',
    'retrieval_speed',
  ]
  assert names('small', gpu=False) == names('small', gpu=True) == small
  assert names('paper', gpu=False) == [
    'matching',
    'network',
    'network',
    'metrics_speed',
    'retrieval_speed',
  ]
  assert names('paper', gpu=True).count('network') == 6


def test_a_gallery_is_measured_without_the_rest(tmp_path, monkeypatch, capsys):
  calls = []

  def in_process(function):
    if function is benchmark._describe_machine:
      return {'platform': 'cpu', 'devices': 1}
    calls.append(function)
    return [benchmark.Row('share', 50.0, '%')]

  monkeypatch.setattr(benchmark, '_in_process', in_process)
  config = get_config('tiny')
  benchmark.benchmark(config, tmp_path, tmp_path / 'gallery')
  (part,) = calls
  assert part.func is benchmark_data.retrieval_quality
  assert part.args == (config, tmp_path / 'gallery')
  report = json.loads((tmp_path / 'benchmark_gallery.json').read_text())
  assert report['rows'] == [
    {'name': 'share', 'value': 50.0, 'unit': '%', 'runs': 1}
  ]


def test_a_batch_that_does_not_fit_is_refused_first(tmp_path, monkeypatch):
  machine = {'platform': 'cpu', 'devices': 2}
  monkeypatch.setattr(benchmark, '_in_process', lambda function: machine)
  config = get_config('tiny')
  config.train.batch_size = 3
  with pytest.raises(UserError, match=r'batch_size=3 .* a multiple of 2'):
    benchmark.benchmark(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_refuses_an_output_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='`output='):
    benchmark.benchmark(get_config('tiny'), tmp_path / 'file')
