"""Pretraining: the step, resumed runs, and checks of the config."""

import json
import os
import signal

import flax
import jax
import numpy as np
import optax
import pytest
import tiny_training
from tiny_pretraining import (
  NUM_PICTURES,
  make_config,
  make_init,
  make_select,
  make_step,
  random_crops,
)

from vitexco_jax import checkpoint
from vitexco_jax.errors import UserError
from vitexco_jax.pretrained import vgg16
from vitexco_jax.tools.export import export_run
from vitexco_jax.training import crops, loop, pretrain, pretrain_report, train

pytestmark = pytest.mark.usefixtures('small_teachers')


def _equal(first, second):
  return jax.tree.all(
    jax.tree.map(lambda x, y: bool((x == y).all()), first, second)
  )


def _steps(config, state, batches, optimizer, devices):
  used = jax.local_devices()[:devices]
  step = jax.pmap(
    make_step(config, optimizer),
    axis_name=loop.AXIS,
    devices=used,
  )
  state = flax.jax_utils.replicate(state, used, loop.AXIS)
  metrics = []
  for batch in batches:
    state, values = step(state, loop._shard(batch, devices))
    metrics.append({name: float(x[0]) for name, x in values.items()})
  return jax.tree.map(lambda x: np.asarray(x[0]), state), metrics


def test_two_devices_equal_one(pretrain_state):
  config = make_config()
  config.model.feature_transform.dropout = 0.0
  optimizer = optax.MultiSteps(optax.sgd(1.0), 1)
  learned = make_select(config)(pretrain_state.params, pretrain_state.heads)
  state = pretrain_state._replace(
    learned=learned, optimizer=optimizer.init(learned)
  )
  # Each device has a picture in gray and one in color.
  actual = [
    _steps(config, state, [random_crops(4)], optimizer, devices)
    for devices in (1, 2)
  ]
  for group in ('vit', 'feature_transform', 'prior'):
    moved = [
      jax.tree.map(
        np.subtract, after.params[group], pretrain_state.params[group]
      )
      for after, _ in actual
    ]
    error = optax.tree.norm(jax.tree.map(np.subtract, *moved))
    assert error <= 0.02 * optax.tree.norm(moved[0]), group
  (_, (one,)), (_, (two,)) = actual
  assert one.keys() == two.keys()
  for name, value in one.items():
    assert two[name] == pytest.approx(value, rel=1e-2, abs=1e-4), name


def test_overfits_two_pictures(pretrain_state):
  groups = 'vit', 'feature_transform', 'prior', 'heads'
  rates = dict.fromkeys(groups, 1e-2)
  config = make_config(learning_rate=rates, updates=60, warmup=0.1)
  config.model.feature_transform.dropout = 0.0
  optimizer = pretrain.make_optimizer(config.pretrain)
  batch = random_crops(2)
  after, metrics = _steps(config, pretrain_state, [batch] * 60, optimizer, 1)
  first, last = metrics[0], metrics[-1]
  for level in range(1, 6):
    name = f'explained/level{level}'
    assert last[name] > max(0.2, first[name] + 0.2), name
  assert last['raw/class_token'] < 0.2 < first['raw/class_token']
  assert last['square/error'] < 0.5 * last['square/gray']
  assert last['raw/spread'] < first['raw/spread']
  names = 'maps', 'class_token', 'color', 'spread'
  assert last['loss'] == pytest.approx(
    sum(last[f'weighted/{name}'] for name in names), rel=1e-5
  )
  shares = [last[f'explained/level{level}'] for level in range(1, 6)]
  assert last['raw/maps'] == pytest.approx(1 - np.mean(shares), rel=1e-4)
  for group in ('correspondence', 'colorizer'):
    assert _equal(pretrain_state.params[group], after.params[group])
  for block, stays in (('encoderblock_0', True), ('encoderblock_1', False)):
    before, now = (
      x.params['vit']['Transformer'][block] for x in (pretrain_state, after)
    )
    assert _equal(before, now) == stays


def test_saved_parameters_are_the_average(pretrain_state):
  config = make_config(average=0.9)
  optimizer = pretrain.make_optimizer(config.pretrain)
  batch = random_crops(2)
  kept = optax.tree.cast(pretrain_state.params['prior'], np.float32)
  state = pretrain_state
  for step in range(3):
    state, _ = _steps(config, state, [batch], optimizer, 1)
    decay = min(0.9, (1 + step) / (10 + step))
    kept = jax.tree.map(
      lambda old, new, decay=decay: decay * old + (1 - decay) * new,
      kept,
      state.learned['prior'],
    )
  for actual, expected in zip(
    *map(jax.tree.leaves, (state.params['prior'], kept)), strict=True
  ):
    np.testing.assert_allclose(actual, expected, atol=1e-6)
  state, _ = _steps(make_config(average=0.0), state, [batch], optimizer, 1)
  assert _equal(state.params['prior'], state.learned['prior'])


def test_without_maps_vgg16_is_not_loaded(monkeypatch):
  monkeypatch.setattr(vgg16, 'load_vgg16', None)
  config = make_config(weights={'maps': 0.0})
  optimizer = pretrain.make_optimizer(config.pretrain)
  state = jax.jit(make_init(config, optimizer))()
  assert state.heads == {}
  _, (metrics,) = _steps(config, state, [random_crops(2)], optimizer, 1)
  assert metrics['raw/color'] > 0 and 'raw/maps' not in metrics


def test_the_rate_rises_and_falls():
  config = make_config(learning_rate={'vit': 0.5}, updates=100, warmup=0.1)
  rate = pretrain.schedule(config.pretrain, 'vit')
  actual = [rate(n) for n in (0, 5, 10, 55, 100)]
  np.testing.assert_allclose(actual, [0, 0.25, 0.5, 0.25, 0], atol=1e-6)


# --- Whole runs ---


def _run(config, images, workdir, monkeypatch, stop_at=None):
  """Pretrains; Ctrl-C is pressed while this batch is made."""
  make_feed = crops.make_feed

  def make(*args, **kwargs):
    feed = make_feed(*args, **kwargs)
    given = iter(feed)

    class Watched:
      skipped = 0
      get_state, set_state = feed.get_state, feed.set_state
      count = 0

      def __next__(self):
        self.count += 1
        if self.count == stop_at:
          os.kill(os.getpid(), signal.SIGINT)
        return next(given)

    return Watched()

  with monkeypatch.context() as patch:
    patch.setattr(pretrain.crops, 'make_feed', make)
    pretrain.pretrain(config, str(images), workdir)


def _rows(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: x for k, x in json.loads(line).items() if not k.endswith('_per_second')}
    for line in lines
  ]


def test_a_run_is_resumed_reported_and_exported_and_starts_training(
  images, tmp_path, monkeypatch, capsys
):
  config = make_config()
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  _run(config, images, whole, monkeypatch)
  table = capsys.readouterr().out
  with pytest.raises(KeyboardInterrupt):
    _run(config, images, stopped, monkeypatch, stop_at=3)
  assert not (stopped / pretrain_report.REPORT).exists()
  assert [row['update'] for row in _rows(stopped)] == [1, 2, 3]
  _run(config, images, stopped, monkeypatch)
  assert _rows(stopped) == _rows(whole)
  params = checkpoint.load_params(whole)
  assert _equal(params, checkpoint.load_params(stopped))
  curve = (whole / 'validation.jsonl').read_text()
  assert curve == (stopped / 'validation.jsonl').read_text()
  curve = [json.loads(line) for line in curve.splitlines()]
  assert [row['update'] for row in curve] == [2, 4]
  report = json.loads((whole / pretrain_report.REPORT).read_text())
  assert curve[-1]['held_out/error'] == pytest.approx(
    report['prior']['error'], rel=1e-3
  )

  report = json.loads((whole / pretrain_report.REPORT).read_text())
  assert report == json.loads((stopped / pretrain_report.REPORT).read_text())
  assert report['held_out'] == 32
  assert report['trained_on'] == {'pictures': NUM_PICTURES - 32, 'frames': 0}
  levels = [f'level{n}' for n in range(1, 6)]
  assert list(report['gray']) == list(report['color'])
  assert list(report['gray']) == [*levels, 'class_token']
  assert f'| gray | {report["gray"]["level1"]:.3f} |' in table

  export_run(whole, tmp_path / 'export')
  optimizer = train.make_optimizer(config.train)
  fresh = jax.jit(tiny_training.make_init(config, optimizer))()
  for source in (whole, tmp_path / 'export'):
    config.train.init = str(source)
    begun = train.load_initial_weights(config.train, config.model, fresh)
    for group in ('vit', 'feature_transform'):
      for x, y in zip(
        jax.tree.leaves(begun.params[group]),
        jax.tree.leaves(params[group]),
        strict=True,
      ):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-3)


def test_given_vit_weights_are_frozen(
  pretrain_state, images, tmp_path, monkeypatch
):
  rng = np.random.default_rng(0)
  given = jax.tree.map(
    lambda x: np.float32(rng.normal(0, 0.1, x.shape)),
    pretrain_state.params['vit'],
  )
  path = tmp_path / 'vit.npz'
  np.savez(path, **flax.traverse_util.flatten_dict(given, sep='/'))
  config = make_config(updates=2)
  config.train.vit_weights = str(path)
  _run(config, images, tmp_path / 'run', monkeypatch)
  after = checkpoint.load_params(tmp_path / 'run')
  assert _equal(after['vit'], given)
  assert not _equal(
    after['feature_transform'], pretrain_state.params['feature_transform']
  )
  for row in _rows(tmp_path / 'run'):
    assert not [name for name in row if 'class_token' in name]
  report = json.loads((tmp_path / 'run' / pretrain_report.REPORT).read_text())
  assert 'class_token' not in report['gray']


@pytest.mark.parametrize(
  'name, value, must',
  [
    (
      'size',
      (32, 40),
      r'be \(height, width\), at least 16 and a multiple of 16',
    ),
    ('crop', 0.0, 'be above 0 and at most 1'),
    ('gray', 1.5, 'be at least 0 and at most 1'),
    ('learning_rate.vit', -1.0, 'be at least 0'),
    ('average', 1.0, 'be at least 0 and below 1'),
    ('first_block', 3, 'be at most 2'),
    ('taught', 0.0, 'be above 0 and at most 1'),
    ('weights.color', 0.0, 'both be above 0, or none'),
    ('warmup', 1.0, 'be at least 0 and below 1'),
    ('updates', 0, 'be at least 1'),
  ],
)
def test_invalid_settings_are_refused(tmp_path, name, value, must):
  config = make_config()
  config.pretrain.update_from_flattened_dict({name: value})
  with pytest.raises(
    UserError, match=rf'config\.pretrain\.{name}=.* must {must}'
  ):
    pretrain.pretrain(config, str(tmp_path), tmp_path)


def test_the_batch_must_fit_the_devices(tmp_path):
  with pytest.raises(
    UserError, match=r'pretrain\.batch_size=3 cannot be divided'
  ):
    pretrain.pretrain(make_config(batch_size=3), str(tmp_path), tmp_path)
