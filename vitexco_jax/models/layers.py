"""Layers that several boxes of the figures share.

Images are [b, h, w, c]. Weights start like PyTorch's defaults, as in the work
that the paper builds on: kernels uniform with variance 1 / (3 fan_in), a third
of Flax's default; biases at zero.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

kernel_init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
Conv = partial(nn.Conv, kernel_init=kernel_init)
Dense = partial(nn.Dense, kernel_init=kernel_init)


def instance_norm(x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
  """Zero mean, unit variance per image and channel; statistics in float32."""
  wide = x.astype(jnp.float32)
  mean = wide.mean((1, 2), keepdims=True)
  variance = jnp.square(wide - mean).mean((1, 2), keepdims=True)
  return ((wide - mean) * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype)


def l2_normalize(x: jax.Array, epsilon: float = 1e-12) -> jax.Array:
  """Unit length over the channels, in float32; zero vectors stay zero."""
  x = x.astype(jnp.float32)
  square = jnp.square(x).sum(-1, keepdims=True)
  return x * jax.lax.rsqrt(square + epsilon)


def upsample_nearest(x: jax.Array, scale: int) -> jax.Array:
  """[b, h, w, c] to [b, h*scale, w*scale, c]."""
  return x.repeat(scale, 1).repeat(scale, 2)


def average_pool(x: jax.Array, window: int) -> jax.Array:
  """[b, h, w, c] to [b, h//window, w//window, c]."""
  return nn.avg_pool(x, (window, window), (window, window))


def scaled(channels: int, width: float) -> int:
  """A channel count under a width multiplier, at least 2."""
  return max(2, round(channels * width))
