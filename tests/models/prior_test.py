"""The color prior: what it sees, and what it gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitexco_jax.models import prior

pytestmark = pytest.mark.usefixtures('quick_compiler')

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
  found = predict(*_inputs())
  assert found.ab.shape == (2, H // 4, W // 4, 2)
  assert found.spread.shape == (2, H // 4, W // 4, 1)
  assert (found.spread > 0).all()


def test_every_input_counts_where_it_lies(predict):
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
  assert not moved[0, 6:, 6:].any()  # Lightness is seen from near.
  other = embedding + np.float32([[1.0], [0.0]])
  moved = np.abs(predict(features, other, luminance).ab - before).sum(-1)
  assert (moved[0] > 1e-4).mean() > 0.9 and not moved[1].any()


def test_a_fresh_prior_is_gray_and_learns():
  inputs = _inputs()
  variables = jax.jit(NET.init)(jax.random.key(0), *inputs)
  found = jax.jit(NET.apply)(variables, *inputs)
  assert np.abs(found.ab).max() < 2.0
  assert found.spread.mean() == pytest.approx(20.0, rel=0.1)

  def error(variables):
    return jnp.square(NET.apply(variables, *inputs).ab - 10.0).mean()

  grads = jax.tree.leaves(jax.jit(jax.grad(error))(variables))
  assert all(np.isfinite(x).all() for x in grads)
