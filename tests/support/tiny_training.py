"""Tiny configs and random clips for tests of training."""

import numpy as np

from configs.vitexco import get_config
from vitexco_jax.structs import Clips

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
