"""Tiny configs, random clips, and the parts of training for its tests."""

import functools

import numpy as np

from configs.vitexco import get_config
from vitexco_jax.generator import make_discriminator, make_generator
from vitexco_jax.structs import Clips
from vitexco_jax.training import loop, objective, train

# The groups of the generator's parameters in `make_config`.
GROUPS = ('vit', 'feature_transform', 'correspondence', 'colorizer')


def make_config(*losses):
  """`:tiny` with only these losses and without random degradation."""
  config = get_config('tiny')
  config.augment.luminance_noise = 0.0
  config.model.feature_transform.dropout = 0.0
  config.model.correspondence.levels = (2,)  # Fewer layers compile sooner.
  config.model.prior.width = 0.0  # No loss of training reaches it.
  for name in config.loss.weights:
    if name not in losses:
      config.loss.weights[name] = 0.0
  return config


def make_init(config, optimizer):
  """Returns the function that creates the initial state."""
  return functools.partial(
    train.init_state,
    make_generator(config),
    make_discriminator(config),
    optimizer,
    config.train.learning_rate,
    config.data.size,
    config.seed,
  )


def make_terms(config, axis=None):
  return objective.make_terms(
    make_generator(config),
    make_discriminator(config),
    config.loss,
    config.augment,
    config.train.unroll,
    axis,
  )


def make_step(config, optimizer):
  terms = make_terms(config, loop.AXIS)
  weights = config.loss.weights
  return train.make_step(terms, weights, config.train, optimizer, loop.AXIS)


def random_clips(n, seed=0):
  rng = np.random.default_rng(seed)
  return Clips(
    rgb=rng.integers(0, 256, (n, 2, 32, 48, 3), np.uint8),
    reference=rng.integers(0, 256, (n, 32, 48, 3), np.uint8),
    flow=rng.normal(size=(n, 1, 32, 48, 2)).astype(np.float32),
    visible=rng.integers(0, 2, (n, 1, 32, 48, 1), np.uint8),
    same_video=np.arange(n) % 2 == 0,
    first_frame=np.arange(n) % 4 == 0,
    backward_flow=rng.normal(size=(n, 1, 32, 48, 2)).astype(np.float32),
    anchor_flow=rng.normal(size=(n, 2, 32, 48, 2)).astype(np.float32),
  )
