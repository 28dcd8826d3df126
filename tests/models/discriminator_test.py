"""The discriminator: spectral norms, attention, any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from vitexco_jax.models import discriminator
from vitexco_jax.models.discriminator import Discriminator

_NET = Discriminator(width=1 / 16)


def _pairs(h=32, w=48, b=2):
  rng = np.random.default_rng(0)
  low, high = [0, -80, -80, 0, -80, -80], [100, 80, 80, 100, 80, 80]
  return rng.uniform(low, high, (b, h, w, 6)).astype(np.float32)


def _flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


@pytest.fixture(scope='module')
def variables():
  """Parameters of `init` with random kernels."""
  shapes = jax.eval_shape(_NET.init, jax.random.key(0), _pairs())
  rng = np.random.default_rng(1)

  def start(path, leaf):
    name = jax.tree_util.keystr(path)
    if 'kernel' in name and 'sigma' not in name:  # Or its vector u.
      return rng.normal(size=leaf.shape).astype(np.float32)
    return np.full(leaf.shape, 'sigma' in name, np.float32)

  return jax.tree_util.tree_map_with_path(start, shapes)


def _with_gate(variables, gate):
  return variables | {'params': variables['params'] | {'gate': gate}}


@pytest.fixture(scope='module')
def scores():
  return jax.jit(_NET.apply)


def _iterated(variables, times):
  """Parameters after a number of training calls."""
  pairs = _pairs(b=1)

  def call(stats, _):
    _, new = _NET.apply(
      variables | {'batch_stats': stats}, pairs, True, mutable='batch_stats'
    )
    return new['batch_stats'], None

  stats, _ = jax.jit(lambda stats: jax.lax.scan(call, stats, length=times))(
    variables['batch_stats']
  )
  return variables | {'batch_stats': stats}


def test_spectral_norm_of_every_convolution_becomes_one(variables):
  settled = _iterated(variables, 200)
  kernels = {
    name: np.asarray(kernel)
    for name, kernel in _flat(settled['params']).items()
    if name.endswith('kernel')
  }
  assert len(kernels) == 4 + 3 + 1  # 32 pixels: four stages; q, k, v; out.
  stats = _flat(settled['batch_stats'])
  for name, kernel in kernels.items():
    (sigma,) = (x for key, x in stats.items() if key.endswith(f'{name}/sigma'))
    matrix = kernel.reshape(-1, kernel.shape[-1]) / sigma
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    np.testing.assert_allclose(largest, 1.0, atol=0.01, err_msg=name)


def test_the_scale_of_a_kernel_does_not_matter(variables, scores):
  louder = jax.tree.map(
    lambda x: x if x.ndim < 2 else 10 * x, variables['params']
  )
  np.testing.assert_allclose(
    scores(variables | {'params': louder}, _pairs()),
    scores(variables, _pairs()),
    rtol=1e-4,
    atol=1e-5,
  )


def test_power_iteration_in_training_only(variables):
  @functools.partial(jax.jit, static_argnums=0)
  def stats(train, variables):
    _, new = _NET.apply(variables, _pairs(), train, mutable='batch_stats')
    return _flat(new['batch_stats'])

  before = _flat(variables['batch_stats'])
  still, moved = stats(False, variables), stats(True, variables)
  for name, value in before.items():
    np.testing.assert_array_equal(still[name], value)
    if name.endswith('/u') and value.size > 1:
      assert not np.array_equal(moved[name], value), name


@pytest.mark.parametrize(
  ('size', 'stages'),
  [
    ((32, 48), 4),
    ((40, 100), 4),
    ((112, 192), 5),
    ((128, 128), 6),
    ((216, 384), 6),
    ((224, 384), 6),
  ],
)
def test_any_size_gets_one_score_per_pair(size, stages):
  pairs = jax.ShapeDtypeStruct((3, *size, 6), jnp.float32)
  score, result = jax.eval_shape(
    Discriminator().init_with_output, jax.random.key(0), pairs
  )
  assert score.shape == (3,)
  channels = [64, 64, 128, 256, 512, 1024][:stages]
  for i, c in enumerate(channels):
    assert result['params'][f'conv{i}']['kernel'].shape[:2] == (4, 4)
    assert result['params'][f'conv{i}']['kernel'].shape[-1] == c
  assert result['params']['out']['kernel'].shape == (3, 3, channels[-1], 1)
  assert f'conv{stages}' not in result['params']


def test_pairs_are_scored_one_by_one(variables, scores):
  pairs = _pairs()
  together = scores(variables, pairs)
  assert together.shape == (2,) and together.dtype == jnp.float32
  assert abs(together[0] - together[1]) > 1e-3
  np.testing.assert_allclose(
    scores(variables, pairs[::-1]), together[::-1], atol=1e-5
  )


def test_bfloat16_is_close_and_the_output_is_float32(variables, scores):
  rounded = Discriminator(width=1 / 16, dtype=jnp.bfloat16)
  score = jax.jit(rounded.apply)(variables, _pairs())
  assert score.dtype == jnp.float32
  np.testing.assert_allclose(score, scores(variables, _pairs()), atol=0.05)


def _scores_and_attention(gate, variables):
  """Returns scores, and inputs and outputs of the layers around attention."""
  seen = {}

  def note(next_function, args, kwargs, context):
    out = next_function(*args, **kwargs)
    if context.method_name == '__call__' and args:
      seen[context.module.name] = (args[0], out)
    return out

  with nn.intercept_methods(note):
    score = _NET.apply(_with_gate(variables, gate), _pairs())
  return score, {
    name: seen[f'{name}_norm'] for name in ('query', 'key', 'value', 'conv2')
  }


def test_attention_equals_the_direct_formula(variables, monkeypatch):
  monkeypatch.setattr(discriminator, '_ATTENTION_BLOCK', 7)  # Of 8 * 12.
  apply = jax.jit(functools.partial(_scores_and_attention, 0.7))
  _, seen = apply(variables)

  def flat(x):
    return np.asarray(x, np.float64).reshape(2, 8 * 12, -1)

  query, key, value = (
    flat(seen[name][1]) for name in ('query', 'key', 'value')
  )
  weights = np.exp(query @ key.swapaxes(1, 2))
  attended = weights / weights.sum(-1, keepdims=True) @ value
  want = flat(seen['query'][0]) + 0.7 * attended
  np.testing.assert_allclose(flat(seen['conv2'][0]), want, atol=1e-4)


def test_attention_starts_at_zero_and_learns(variables):
  assert variables['params']['gate'] == 0

  @jax.jit
  def gradients(params):
    return jax.grad(
      lambda params: _NET.apply(variables | {'params': params}, _pairs())[0]
    )(params)

  shut = gradients(variables['params'])
  assert not np.any(shut['value']['kernel']) and shut['gate'] != 0
  opened = gradients(variables['params'] | {'gate': jnp.ones(())})
  for name in ('query', 'key', 'value'):
    assert np.any(opened[name]['kernel'])
  for leaf in jax.tree.leaves((shut, opened)):
    assert np.isfinite(leaf).all()
