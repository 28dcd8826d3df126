"""The benchmark in small: its counting, and what it prints and writes."""

import functools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import written_records
from absl import flags

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.retrieval import embedding, gallery
from vitexco_jax.tools import benchmark


def test_flops_of_a_product_and_a_convolution():
  a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
  assert benchmark.count_flops(jnp.matmul, a, b) == 2 * 3 * 5 * 7

  image, kernel = jnp.ones((2, 8, 6, 4)), jnp.ones((3, 3, 4, 10))
  convolve = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(2, 2),
    padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  flops = 2 * (2 * 4 * 3 * 10) * (3 * 3 * 4)  # Per output: 3x3 taps of 4.
  assert benchmark.count_flops(convolve, image, kernel) == flops
  # Its gradient to either argument is as much work again.
  gradient = jax.grad(lambda i, k: convolve(i, k).sum(), (0, 1))
  count = benchmark.count_flops(gradient, image, kernel)
  assert 2.9 * flops < count < 3.5 * flops


def test_flops_of_a_loop_are_those_of_each_round():
  rows, matrix = jnp.ones((6, 4, 5)), jnp.ones((5, 5))

  def loop(rows):
    return jax.lax.map(jax.jit(lambda x: x @ matrix), rows)

  assert benchmark.count_flops(loop, rows) == 6 * 2 * 4 * 5 * 5


def test_flops_are_xlas_where_there_is_no_loop():
  def function(a, b):
    return jnp.tanh(a @ b) @ b

  a = jnp.ones((64, 64))
  compiled = jax.jit(function).lower(a, a).compile()
  flops = compiled.cost_analysis()['flops']  # Counts tanh as well.
  ours = benchmark.count_flops(function, a, a)
  np.testing.assert_allclose(ours, flops, rtol=0.05)


def test_memory_of_matching():
  rows = benchmark.matching(
    get_config('tiny'), positions=64, large=2048, channels=8
  )
  values = {row.name: row.value for row in rows}
  assert values['matching 2048 positions, forward, direct, memory'] > 16
  assert values['matching 2048 positions, forward, blocked, memory'] < 4
  assert all(value > 0 for value in values.values())


def test_network_has_four_levels(quick_compiler):
  config = get_config('tiny')
  config.model.correspondence.levels = (1, 2, 3, 4, 5)
  rows = benchmark.network(config, (32, 48), block=2)
  frame, speed, memory = rows  # No share of peak: not a GPU that we know.
  np.testing.assert_allclose(frame.value * speed.value, 1, rtol=0.5)
  assert frame.unit == 's' and frame.runs >= 3 and memory.value > 50
  assert config.model.correspondence.levels == (1, 2, 3, 4, 5)


def test_writes_what_it_finds(tmp_path, monkeypatch, capsys):
  """In processes of their own, so that peak memory is of one part."""
  monkeypatch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')  # Quick to compile.
  config = get_config('tiny')

  def parts(config, gpu):
    assert not gpu
    yield functools.partial(benchmark.matching, config, 64, 64, 8)
    yield functools.partial(
      benchmark.video_speed, config, frames=8, size=(32, 48)
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


def test_an_update_is_all_its_micro_steps(monkeypatch):
  """With a stand-in for the step, which takes minutes to compile."""
  config = get_config('tiny')
  config.train.batch_size, config.train.accumulation = 6, 3
  calls = []

  def make_step(config, optimizer, axis):
    def step(state, clips):
      assert clips.rgb.shape == (1, 2, 32, 48, 3)  # A device's share.
      jax.debug.callback(lambda: calls.append(1))
      return state + 1, jax.lax.pmean(state @ state.T, axis)

    return step

  monkeypatch.setattr(benchmark.train, 'make_step', make_step)
  monkeypatch.setattr(
    benchmark.train, 'init_state', lambda *_: jnp.ones((2, 4))
  )
  time, speed, memory = benchmark.training(config)
  jax.effects_barrier()
  assert len(calls) == 2 * 3 * (1 + time.runs)  # Devices, micro-steps, calls.
  assert (time.unit, speed.unit, memory.unit) == ('ms', 'samples/s', 'MB')
  np.testing.assert_allclose(speed.value * time.value, 6e3, rtol=0.5)


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
    *('matching', 'network', 'network', 'metrics_speed', 'retrieval_speed')
  ]
  assert names('paper', gpu=True).count('network') == 6


def test_metrics_of_a_frame_take_time(monkeypatch):
  measured = []
  monkeypatch.setattr(
    benchmark.evaluate,
    'measure',
    lambda *frames: measured.append(frames) or ([{'ssim': 1.0}], []),
  )
  (row,) = benchmark.metrics_speed(48, 64)
  assert row.value > 0 and row.name == 'metrics of 64x48, a frame'
  for before, frame in measured:
    np.testing.assert_array_equal(  # The clip moves 3 pixels to the right.
      before.true_rgb[:, :-3], frame.true_rgb[:, 3:]
    )
    assert (before.number, frame.number) == (0, 1)  # Not LPIPS vgg's turn.


def test_searches_are_timed_and_right():
  rows = benchmark.retrieval_speed(count=3000, width=16, clusters=40)
  values = {row.name: row.value for row in rows}
  assert len(values) == len(rows)
  name = 'retrieval of 3000 x 16'
  assert values[f'{name}, ivf, recall@5'] > 0.8
  assert values[f'{name}, ivf, lists'] == 64
  assert values[f'{name}, ivf, lists looked through'] < 64
  for index in ('exact', 'ivf'):
    one = values[f'{name}, {index}, one query']  # Milliseconds.
    many = values[f'{name}, {index}, 1000 queries']
    assert 0 < one < 1000 * many
    assert values[f'{name}, {index}, opening'] > 0


class _Searched:
  """A gallery on a circle; a picture is as bright as its number is high."""

  # The third synset has too few for queries, the second one that is left out.
  angles = {
    'n00000001': [0, 0, 2.5, 4, 90, 92],
    'n00000002': [4.5, 60, 61, 91.1],
    'n00000003': [5.2, 120, 121, 122],
  }
  left_out = ['n00000002_9.jpg', 'n00000003x.jpg', 'n000000031_4.jpg']

  def write(self, folder):
    source = types.SimpleNamespace(address='nowhere')
    writer = gallery.Writer(folder, {'width': 2}, source)
    names = [f'{x}/{x}_{i}.jpg' for x, y in self.angles.items() for i in y]
    angles = np.deg2rad(np.concatenate(list(self.angles.values())))
    self.embeddings = np.stack([np.cos(angles), np.sin(angles)], -1)
    writer.add(names, np.float32(self.embeddings))
    writer.leave_out(dict.fromkeys(self.left_out, 'black-and-white'))
    opened = embedding.Gallery.open(folder)
    opened.read = lambda i: np.full((40, 40, 3), 10 * i, np.uint8)
    return opened

  def embed_crops(self, crops):
    assert crops.shape[1:] == (224, 224, 3) and crops.dtype == np.uint8
    return self.embeddings[np.rint(crops[:, 0, 0, 0] / 10).astype(int)]


@pytest.mark.parametrize('grey', [True, False])
def test_quality_is_the_share_whose_nearest_is_alike(
  tmp_path, monkeypatch, grey
):
  """By hand: the twins, 2.5 and 4.5's neighbours at 60 and 61 are right."""
  searched = _Searched()
  opened = searched.write(tmp_path)
  monkeypatch.setattr(
    embedding, 'open_with_embedder', lambda *_: (searched, opened)
  )
  config = get_config('tiny')
  config.retrieval.grey = grey
  rows = benchmark.retrieval_quality(config, tmp_path)
  name = f'efficientnet_lite0, 14 pictures in {"grey" if grey else "colour"}'
  found = {row.name.removeprefix(name): row.value for row in rows}
  assert found.pop(', queries') == 10
  assert found.pop(', grey queries, nearest of the synset') == 50
  if not grey:
    assert found.pop(', colour queries, nearest of the synset') == 50
  assert not found
  rows = benchmark.retrieval_quality(config, tmp_path, at_most=4)
  assert rows[0].value == 4


def test_quality_needs_synsets(tmp_path, monkeypatch):
  searched = _Searched()
  searched.angles = {'n00000001': [1, 2, 3], 'dogs': [4, 5, 6, 7, 8]}
  opened = searched.write(tmp_path)
  monkeypatch.setattr(
    embedding, 'open_with_embedder', lambda *_: (searched, opened)
  )
  with pytest.raises(
    UserError, match='no five pictures of one ImageNet synset'
  ):
    benchmark.retrieval_quality(get_config('tiny'), tmp_path)


def test_a_gallery_is_measured_alone(tmp_path, monkeypatch, capsys):
  calls = []

  def alone(function):
    if function is benchmark._describe_machine:
      return {'platform': 'cpu', 'devices': 1}
    calls.append(function)
    return [benchmark.Row('share', 50.0, '%')]

  monkeypatch.setattr(benchmark, '_alone', alone)
  config = get_config('tiny')
  benchmark.benchmark(config, tmp_path, tmp_path / 'gallery')
  (part,) = calls
  assert part.func is benchmark.retrieval_quality
  assert part.args == (config, tmp_path / 'gallery')
  report = json.loads((tmp_path / 'benchmark_gallery.json').read_text())
  assert report['rows'] == [
    {'name': 'share', 'value': 50.0, 'unit': '%', 'runs': 1}
  ]


def test_feed_reads_all_ways(tmp_path):
  if not flags.FLAGS.is_parsed():  # Grain's processes are handed the flags.
    flags.FLAGS(['test'])
  written_records.write(tmp_path, written_records.moving_runs())
  config = get_config('tiny')
  config.data.records = str(tmp_path)
  rows = benchmark.feed(config, batches=3)
  assert [row.name for row in rows] == [
    f'feed, {place}, {state}'
    for place in ('1 threads', '1 processes', '2 processes')
    for state in ('cold', 'warm')
  ]
  assert all(row.value > 0 for row in rows)


def test_a_batch_that_does_not_fit_is_refused_first(tmp_path, monkeypatch):
  machine = {'platform': 'cpu', 'devices': 2}
  monkeypatch.setattr(benchmark, '_alone', lambda function: machine)
  config = get_config('tiny')
  config.train.batch_size = 3
  with pytest.raises(UserError, match=r'batch_size=3 .* a multiple of 2'):
    benchmark.benchmark(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_refuses_an_output_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='--output'):
    benchmark.benchmark(get_config('tiny'), tmp_path / 'file')
