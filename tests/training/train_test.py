"""Training: gradients, accumulation, devices, and resumed runs."""

import functools
import json
import os
import shutil
import signal

import flax
import jax
import numpy as np
import optax
import pytest
import tiny_weights
from flax import traverse_util
from tiny_training import (
  GROUPS,
  make_config,
  make_init,
  make_step,
  random_clips,
)

from configs.vitexco import get_config
from vitexco_jax import checkpoint
from vitexco_jax.errors import UserError
from vitexco_jax.generator import abstract_params
from vitexco_jax.pretrained import efficientnet_weights
from vitexco_jax.retrieval import embedding
from vitexco_jax.training import train

pytestmark = pytest.mark.usefixtures('quick_compiler')

LOSSES = ('l1', 'warped', 'perceptual', 'contextual', 'temporal', 'smoothness')


def _gradient(config, initial_state, micro_batches, devices):
  """What SGD subtracts in one update, and the metrics of its micro-steps."""
  optimizer = optax.MultiSteps(optax.sgd(1.0), len(micro_batches))
  learning, _ = train.split_params(
    config.train.learning_rate, initial_state.params
  )
  state = initial_state._replace(optimizer=optimizer.init(learning))
  used = jax.local_devices()[:devices]
  step = jax.pmap(
    make_step(config, optimizer),
    axis_name=train.AXIS,
    devices=used,
  )
  state = flax.jax_utils.replicate(state, used, train.AXIS)
  metrics = []
  for clips in micro_batches:
    clips = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), clips)
    state, values = step(state, clips)
    metrics.append({name: float(x[0]) for name, x in values.items()})
  after = jax.tree.map(lambda x: x[0], state.params)
  gradient = jax.tree.map(
    lambda x, y: np.asarray(x - y), initial_state.params, after
  )
  return gradient, metrics


def _assert_close(gradients, expected):
  """Compares to 10 %, because these narrow networks amplify rounding.

  A relative change of the parameters by 2e-7 changes the gradients by 5 to 10 %; a
  wrong factor would change them by 50 % or more.
  """
  for group, tree in expected.items():
    error = jax.tree.map(np.subtract, gradients[group], tree)
    size = optax.tree.norm(tree)
    assert optax.tree.norm(error) <= 0.1 * size, group


@pytest.fixture(scope='module')
def on_one_device(initial_state):
  """Gradient and metrics of one micro-step in which all groups learn."""
  config = make_config('l1', 'adversarial')
  return _gradient(config, initial_state, [random_clips(4)], 1)


def test_two_devices_equal_one(initial_state, on_one_device):
  config = make_config('l1', 'adversarial')
  one, one_metrics = on_one_device
  two, two_metrics = _gradient(config, initial_state, [random_clips(4)], 2)
  _assert_close(two, one)
  for name in ('raw/l1', 'raw/adversarial', 'raw/discriminator', 'loss'):
    assert two_metrics[0][name] == pytest.approx(one_metrics[0][name], rel=1e-4)
  for group in (*GROUPS, 'discriminator'):
    assert one_metrics[0][f'gradient_norm/{group}'] > 0


def test_frozen_groups_do_not_change_the_gradients_of_others(
  initial_state, on_one_device
):
  config = make_config('l1', 'adversarial')
  frozen = {'vit', 'discriminator'}
  config.train.learning_rate.update(dict.fromkeys(frozen, 0.0))
  gradient, metrics = _gradient(config, initial_state, [random_clips(4)], 1)
  for group in frozen:
    assert not any(x.any() for x in jax.tree.leaves(gradient.pop(group)))
  all_gradients, _ = on_one_device
  _assert_close(gradient, {group: all_gradients[group] for group in gradient})
  norms = {x for x in metrics[0] if x.startswith('gradient_norm/')}
  assert norms == {f'gradient_norm/{group}' for group in gradient}


def test_the_optimizer_has_no_state_for_frozen_groups():
  config = make_config('l1')
  config.train.learning_rate.vit = 0.0
  optimizer = train.make_optimizer(config.train)
  state = jax.eval_shape(make_init(config, optimizer))
  assert set(state.optimizer.acc_grads) == set(GROUPS) - {'vit'}
  moments = state.optimizer.inner_opt_state.inner_states
  assert 'vit' not in moments
  assert 'colorizer' in moments


def test_micro_steps_equal_the_whole_batch(initial_state):
  config = make_config(*LOSSES)
  clips = random_clips(4)
  halves = [
    jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], clips) for i in range(2)
  ]
  whole, whole_metrics = _gradient(config, initial_state, [clips], 1)
  parts, parts_metrics = _gradient(config, initial_state, halves, 1)
  _assert_close(parts, whole)
  for name in LOSSES:
    values = [metrics[f'raw/{name}'] for metrics in parts_metrics]
    assert np.mean(values) == pytest.approx(
      whole_metrics[0][f'raw/{name}'], rel=1e-3
    )
    weight = config.loss.weights[name]
    assert parts_metrics[0][f'weighted/{name}'] == pytest.approx(
      weight * values[0]
    )


class _Feed:
  """Random clips; `hook` can change each batch."""

  skipped = 0

  def __init__(self, batch_size, hook=lambda number, clips: clips):
    self._batch_size, self._hook = batch_size, hook
    self._given = 0

  def __next__(self):
    self._given += 1
    return self._hook(self._given, random_clips(self._batch_size, self._given))

  def get_state(self):
    return {'batches': self._given}

  def set_state(self, state):
    self._given = state['batches']


GRID = 5  # Side of the position embeddings in the initial ViT weights.


@pytest.fixture(scope='module', autouse=True)
def vit_file(tmp_path_factory):
  """Weights of a frozen ViT in the current folder."""
  folder = tmp_path_factory.mktemp('vit')
  tiny_weights.write_vit(folder / 'Ti_16.npz', GRID)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    yield folder / 'Ti_16.npz'


def _run_config():
  config = make_config('l1', 'temporal')
  config.train.vit_weights = 'Ti_16.npz'
  config.augment.luminance_noise = 2.0
  config.model.feature_transform.dropout = 0.3
  config.train.learning_rate.vit = 0.0
  config.train.batch_size = 4
  config.train.accumulation = 2
  return config


def _replace_feed(monkeypatch, *hook):
  feed = train.input_pipeline
  monkeypatch.setattr(feed, 'open_records', lambda *_: None)
  monkeypatch.setattr(
    feed, 'make_iterator', lambda *_, batch_size, **__: _Feed(batch_size, *hook)
  )


def _train(monkeypatch, workdir, *hook, init=''):
  _replace_feed(monkeypatch, *hook)
  config = _run_config()
  if init:
    config.train.init, config.train.vit_weights = str(init), ''
  train.train(config, workdir)


def _press_ctrl_c(at):
  """A hook that presses Ctrl-C while batch number `at` is made."""

  def press(number, clips):
    if number == at:
      os.kill(os.getpid(), signal.SIGINT)
    return clips

  return press


def _rows(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [
    {name: x for name, x in row.items() if not name.endswith('_per_second')}
    for row in rows
  ]


@pytest.fixture(scope='module')
def traced():
  """One entry for each compilation of the step of `uninterrupted`."""
  return []


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory, traced):
  workdir = tmp_path_factory.mktemp('run')
  make_step = train.make_step

  def make_watched_step(*args):
    step = make_step(*args)

    def watched(state, clips):
      traced.append(watched)
      return step(state, clips)

    return watched

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(train, 'make_step', make_watched_step)
    _train(monkeypatch, workdir)
  return workdir


def test_the_step_is_compiled_once(uninterrupted, traced):
  assert len(traced) == 1


def test_log_has_every_term_and_rate(uninterrupted):
  rows = _rows(uninterrupted)
  learning = set(GROUPS) - {'vit'}
  assert [row['update'] for row in rows] == [1, 2, 3, 4]
  for row in rows:
    measured = ('follow/warped', 'follow/prediction')
    assert set(row) == {
      *('update', 'loss', 'skipped_samples'),
      *(measured if row['update'] % 2 == 0 else ()),  # With each strip.
      *(
        f'{kind}/{x}'
        for kind in ('raw', 'weighted', 'share')
        for x in ('l1', 'temporal')
      ),
      *(f'gradient_norm/{group}' for group in learning),
      *(f'learning_rate/{group}' for group in learning),
    }
    assert row['weighted/l1'] == pytest.approx(2 * row['raw/l1'])
    assert row['loss'] == pytest.approx(
      row['weighted/l1'] + row['weighted/temporal']
    )
    assert row['share/l1'] + row['share/temporal'] == pytest.approx(1)
    # The mean of two shares, not the share of two means.
    share = row['weighted/l1'] / row['loss']
    assert row['share/l1'] == pytest.approx(share, rel=0.02)
  # Linear decay over 4 updates; both micro-steps of an update have its rate.
  rates = [row['learning_rate/colorizer'] for row in rows]
  np.testing.assert_allclose(rates, 2e-4 * np.array([1, 0.75, 0.5, 0.25]))


def test_workdir_has_contact_sheets_tensorboard_and_config(uninterrupted):
  strips = sorted(x.name for x in (uninterrupted / 'strips').iterdir())
  assert strips == ['000002.png', '000004.png']
  assert list((uninterrupted / 'tensorboard').glob('events.*'))
  config = checkpoint.load_config(uninterrupted)
  assert config.train.accumulation == 2
  assert config.model.vit.pos_grid == GRID


def test_retrieval_and_later_runs_use_the_position_grid_of_a_run(
  uninterrupted, vit_file, tmp_path, monkeypatch
):
  config = get_config('tiny')
  config.retrieval.network = 'vit'
  config.train.init = str(uninterrupted)
  actual = embedding.make_embedder(config)
  config.train.update({'init': '', 'vit_weights': str(vit_file)})
  assert actual.settings == embedding.make_embedder(config).settings
  with pytest.raises(KeyboardInterrupt):
    _train(monkeypatch, tmp_path, _press_ctrl_c(2), init=uninterrupted)
  assert checkpoint.load_config(tmp_path).model.vit.pos_grid == GRID


def test_a_vit_that_never_learns_is_refused_before_the_records(tmp_path):
  config = _run_config()
  config.train.vit_weights = ''
  config.data.records = 'nowhere'
  with pytest.raises(UserError, match='has never been trained, and is frozen'):
    train.train(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_frozen_vit_is_unchanged_and_the_rest_learns(
  initial_state, uninterrupted, vit_file
):
  before = initial_state.params | {  # Of the same seed.
    'vit': traverse_util.unflatten_dict(dict(np.load(vit_file)), sep='/')
  }
  after = checkpoint.load_params(uninterrupted)
  for group in GROUPS:
    moved = [
      bool((x != y).any())
      for x, y in zip(
        jax.tree.leaves(before[group]),
        jax.tree.leaves(after[group]),
        strict=True,
      )
    ]
    assert any(moved) == (group != 'vit')


def test_a_run_stopped_by_ctrl_c_resumes_with_equal_results(
  uninterrupted, tmp_path, monkeypatch
):
  with pytest.raises(KeyboardInterrupt):  # During the third update.
    _train(monkeypatch, tmp_path, _press_ctrl_c(5))
  assert [row['update'] for row in _rows(tmp_path)] == [1, 2, 3]
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write(
      '{"update": 4, "loss": 0}\n{"upd'
    )  # From a run that was killed later.
  _train(monkeypatch, tmp_path)
  assert _rows(tmp_path) == _rows(uninterrupted)
  for x, y in zip(
    jax.tree.leaves(checkpoint.load_params(tmp_path)),
    jax.tree.leaves(checkpoint.load_params(uninterrupted)),
    strict=True,
  ):
    np.testing.assert_array_equal(x, y)


def test_a_run_resumes_with_fewer_and_with_more_devices(
  uninterrupted, tmp_path, monkeypatch
):
  workdir = tmp_path / 'run'
  shutil.copytree(uninterrupted, workdir)
  shutil.rmtree(workdir / 'checkpoints/8')  # Two of the four updates remain.
  begun = checkpoint.load_params(workdir)
  given = []

  def watch(number, clips):
    given.append(number)
    return _press_ctrl_c(5)(number, clips)

  (one, _) = jax.local_devices()
  with monkeypatch.context() as alone:
    alone.setattr(jax, 'local_devices', lambda: [one])
    alone.setattr(jax, 'local_device_count', lambda: 1)
    with pytest.raises(KeyboardInterrupt):
      _train(alone, workdir, watch)
  _train(monkeypatch, workdir, watch)

  assert given == [5, 6, 7, 8]
  actual, expected = _rows(workdir), _rows(uninterrupted)
  assert actual[:2] == expected[:2]
  assert actual[2] != expected[2]  # Each device draws its own noise.
  rates = [
    [row['learning_rate/colorizer'] for row in rows]
    for rows in (actual, expected)
  ]
  assert rates[0] == rates[1]
  # Noise and dropout change the direction of a step, but hardly its length.
  moved = [
    float(optax.tree.norm(jax.tree.map(np.subtract, params, begun)))
    for params in map(checkpoint.load_params, (workdir, uninterrupted))
  ]
  assert moved[0] == pytest.approx(moved[1], rel=0.2)


def test_starts_from_the_weights_of_an_export(tmp_path, monkeypatch):
  config = _run_config()
  rng = np.random.default_rng(0)
  given = jax.tree.map(
    lambda x: rng.normal(0, 0.1, x.shape).astype(np.float16),
    abstract_params(config),
  )
  checkpoint.export(tmp_path / 'export', given, config)
  with pytest.raises(KeyboardInterrupt):
    _train(
      monkeypatch,
      tmp_path / 'run',
      _press_ctrl_c(2),
      init=tmp_path / 'export',
    )
  actual = checkpoint.load_params(tmp_path / 'run')
  for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(given), strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-3)  # After one update.


def test_a_stem_starts_from_its_pretrained_weights():
  config = make_config()
  config.model.stem = 'efficientnet_lite0'
  optimizer = train.make_optimizer(config.train)
  state = jax.eval_shape(make_init(config, optimizer))
  load = functools.partial(train.load_initial_weights, config.train)
  actual = load(config.model, state).params['stem']
  pretrained = efficientnet_weights.load_efficientnet_lite0()
  assert actual.keys() == pretrained.keys() - {'blocks_15', 'conv_head'}
  for name, tree in actual.items():
    for x, y in zip(
      jax.tree.leaves(tree), jax.tree.leaves(pretrained[name]), strict=True
    ):
      np.testing.assert_array_equal(x, y)
  config.train.vit_weights = 'augreg.npz'
  with pytest.raises(
    UserError, match='augreg.npz are of a ViT that sees pixel'
  ):
    load(config.model, state)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
  def spoil(number, clips):
    if number < 6:
      return clips
    return clips._replace(flow=clips.flow * np.nan)

  with pytest.raises(
    UserError, match=r'because temporal is not finite in .* 6:'
  ):
    _train(monkeypatch, tmp_path, spoil)
  assert checkpoint.Checkpoints(tmp_path).latest_step() == 4
  for x in jax.tree.leaves(checkpoint.load_params(tmp_path)):
    assert np.isfinite(x).all()


def test_schedule_is_constant_or_polynomial():
  config = get_config('tiny')
  config.train.learning_rate.colorizer = 0.5
  config.train.updates = 10
  for power, expected in ((0.0, [0.5, 0.5, 0.5]), (2.0, [0.5, 0.125, 0.0])):
    config.train.schedule_power = power
    rate = train.schedule(config.train, 'colorizer')
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], expected)


def test_batch_must_fit_devices_and_micro_steps(tmp_path):
  config = get_config('tiny')
  config.train.batch_size = 3
  with pytest.raises(UserError, match=r'batch_size=3 .* a multiple of 2'):
    train.train(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  with pytest.raises(
    UserError, match=r'write `workdir=.*run`: Not a directory'
  ):
    _train(monkeypatch, tmp_path / 'file' / 'run')


def test_a_run_cannot_resume_with_another_accumulation(tmp_path, monkeypatch):
  config = _run_config()
  checkpoint.write_config(tmp_path, config)
  (tmp_path / 'checkpoints/4/state').mkdir(parents=True)
  _replace_feed(monkeypatch)
  config.train.accumulation = 1
  with pytest.raises(UserError, match=r'accumulation=1.* was started with 2'):
    train.train(config, tmp_path)
  assert checkpoint.load_config(tmp_path).train.accumulation == 2


@pytest.mark.parametrize(
  ('name', 'value', 'least'),
  [
    ('accumulation', 0, 1),
    ('checkpoint_every', 0, 1),
    ('unroll', -1, 0),
    ('learning_rate.colorizer', -1e-4, 0),
  ],
)
def test_numbers_that_are_too_small_are_refused(tmp_path, name, value, least):
  config = get_config('tiny')
  config.train.update_from_flattened_dict({name: value})
  message = f'config.train.{name}={value} must be at least {least}'
  with pytest.raises(UserError, match=message):
    train.train(config, tmp_path)


@pytest.mark.parametrize(
  'name', ['correspondence.temperature', 'discriminator.width']
)
def test_settings_that_prevent_learning_are_refused(tmp_path, name):
  config = get_config('tiny')
  config.model.update_from_flattened_dict({name: 0.0})
  with pytest.raises(UserError, match=rf'config\.model\.{name}=0.0 must be'):
    train.train(config, tmp_path)


def test_augmentation_out_of_bounds_is_refused(tmp_path):
  config = get_config('tiny')
  config.augment.grain = -1.0
  with pytest.raises(UserError, match=r'config\.augment\.grain=-1.0 must be'):
    train.train(config, tmp_path)


@pytest.mark.parametrize('name', ['loss.weights', 'train.learning_rate'])
def test_all_weights_or_rates_of_zero_are_refused(name):
  config = make_config('l1')
  values = config
  for part in name.split('.'):
    values = values[part]
  values.update(dict.fromkeys(values, 0.0))
  with pytest.raises(UserError, match=rf'config\.{name} are all 0: nothing'):
    train.check_learns(
      config.model, config.loss.weights, config.train.learning_rate
    )
