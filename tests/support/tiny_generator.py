"""A tiny generator with random inputs, for tests of models."""

import functools

import jax
import numpy as np

from vitexco_jax.models.vitexco import Generator

H, W, T = 32, 48, 4


def make_tiny(**changes):
  settings = {
    'vit': {'variant': 'test/16', 'taps': (1, 1, 2, 2, 2)},
    'feature_transform': {'kind': 'bilinear', 'width': 1 / 16, 'dropout': 0.3},
    'correspondence': {
      'levels': (2, 3, 4, 5),
      'width': 1 / 16,
      'temperature': 0.01,
      'block': 40,
    },
    'colorizer': {'kind': 'u_net', 'width': 1 / 16},
  }
  return Generator(**(settings | changes))


def random_rgb(*shape, seed=0):
  """[*shape, H, W, 3] in [0, 1]."""
  rng = np.random.default_rng(seed)
  return rng.uniform(0, 1, (*shape, H, W, 3)).astype(np.float32)


def random_luminance(b=2, t=T, seed=1):
  """[b, t, H, W, 1], L - 50."""
  rng = np.random.default_rng(seed)
  return rng.uniform(-50, 50, (b, t, H, W, 1)).astype(np.float32)


@functools.cache
def random_variables():
  """Random parameters: the true last layer starts too small for visible colors."""
  rng = np.random.default_rng(2)

  def random(leaf):
    limit = np.sqrt(1 / max(1, np.prod(leaf.shape[:-1])))
    return rng.uniform(-limit, limit, leaf.shape).astype(np.float32)

  shapes = jax.eval_shape(make_tiny().init, jax.random.key(0), random_rgb(1))
  return jax.tree.map(random, shapes)
