"""The color prior: its inputs, its colors, and guidance without a reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_generator
from tiny_generator import make_tiny

from vitexco_jax.models import prior

H, W = 32, 48
NET = prior.Prior(width=1 / 8)


def _inputs(seed=0):
  rng = np.random.default_rng(seed)
  features = [
    np.float32(rng.normal(size=(2, H // s, W // s, c)))
    for s, c in ((4, 6), (8, 8), (16, 8))
  ]
  embedding = np.float32(rng.normal(size=(2, 5)))
  luminance = np.float32(rng.uniform(-50, 50, (2, H, W, 1)))
  return features, embedding, luminance


@pytest.fixture(scope='module')
def predict():
  shapes = jax.eval_shape(NET.init, jax.random.key(0), *_inputs())
  rng = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda x: np.float32(rng.normal(0, 0.3, x.shape)), shapes
  )
  apply = jax.jit(NET.apply)
  return lambda *inputs: apply(variables, *inputs)


def test_colors_have_stride_4_and_spreads_are_positive(predict):
  result = predict(*_inputs())
  assert result.ab.shape == (2, H // 4, W // 4, 2)
  assert result.spread.shape == (2, H // 4, W // 4, 1)
  assert (result.spread > 0).all()


def test_inputs_affect_only_their_surroundings(predict):
  features, embedding, luminance = _inputs()
  before = predict(features, embedding, luminance).ab
  for i in range(3):
    changed = [x.copy() for x in features]
    changed[i][0, 0, 0] += 3.0
    moved = np.abs(predict(changed, embedding, luminance).ab - before).sum(-1)
    assert moved[0, 0, 0] > 1e-3 and not moved[1].any()
  changed = luminance.copy()
  changed[0, 5, 6] += 30.0
  moved = np.abs(predict(features, embedding, changed).ab - before).sum(-1)
  assert moved[0, 1, 1] > 1e-3
  assert not moved[0, 6:, 6:].any()  # Lightness has only a local effect.
  other = embedding + np.float32([[1.0], [0.0]])
  moved = np.abs(predict(features, other, luminance).ab - before).sum(-1)
  assert (moved[0] > 1e-4).mean() > 0.9 and not moved[1].any()


def test_an_initial_prior_is_gray_and_learns():
  inputs = _inputs()
  variables = jax.jit(NET.init)(jax.random.key(0), *inputs)
  result = jax.jit(NET.apply)(variables, *inputs)
  assert np.abs(result.ab).max() < 2.0
  assert result.spread.mean() == pytest.approx(20.0, rel=0.1)

  def error(variables):
    return jnp.square(NET.apply(variables, *inputs).ab - 10.0).mean()

  grads = jax.tree.leaves(jax.jit(jax.grad(error))(variables))
  assert all(np.isfinite(x).all() for x in grads)


def test_a_generator_has_no_prior_by_default():
  assert not make_tiny().has_prior
  assert 'prior' not in tiny_generator.random_variables()['params']
