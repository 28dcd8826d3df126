"""Training: gradients, accumulation, devices, and settings."""

import functools

import flax
import jax
import numpy as np
import optax
import pytest
from tiny_training import (
  GROUPS,
  make_config,
  make_init,
  make_step,
  random_clips,
)

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.pretrained import efficientnet_weights
from vitexco_jax.training import train

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


def test_a_vit_that_never_learns_is_refused_before_the_records(tmp_path):
  config = make_config('l1')
  config.train.learning_rate.vit = 0.0
  config.data.records = 'nowhere'
  with pytest.raises(UserError, match='has never been trained, and is frozen'):
    train.train(config, tmp_path)
  assert not list(tmp_path.iterdir())


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
