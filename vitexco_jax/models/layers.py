"""Layers that several networks share.

Images are [b, h, w, c]. Kernels are initialized as in PyTorch, which DEVC uses:
uniform with variance 1 / (3 fan_in), a third of the variance in Flax. Biases are
initialized to zero.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

kernel_init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
Conv = partial(nn.Conv, kernel_init=kernel_init)
Dense = partial(nn.Dense, kernel_init=kernel_init)


def instance_norm(x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
  """Normalizes each channel of each image to mean 0 and variance 1.

  Args:
    x: [b, h, w, c]; statistics are computed in float32.
    epsilon: added to the variance.

  Returns:
    [b, h, w, c], with the dtype of `x`.
  """
  wide = x.astype(jnp.float32)
  mean = wide.mean((1, 2), keepdims=True)
  variance = jnp.square(wide - mean).mean((1, 2), keepdims=True)
  return ((wide - mean) * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype)


def l2_normalize(x: jax.Array, epsilon: float = 1e-12) -> jax.Array:
  """Normalizes [..., c] to unit length, in float32; zero vectors stay zero."""
  x = x.astype(jnp.float32)
  square = jnp.square(x).sum(-1, keepdims=True)
  return x * jax.lax.rsqrt(square + epsilon)


def upsample_nearest(x: jax.Array, scale: int) -> jax.Array:
  """Repeats each pixel: [b, h, w, c] to [b, h*scale, w*scale, c]."""
  return x.repeat(scale, 1).repeat(scale, 2)


class UpsampleConv(nn.Module):
  """Nearest upsampling by 2, then a 3x3 convolution, at 4/9 of the usual cost.

  After upsampling, the 3x3 pixels under the kernel are copies of 2x2 pixels of
  the input. So each of the four output pixels of an input pixel is a 2x2
  convolution of the input, whose weights are sums of weights of the 3x3 kernel.
  One convolution computes the four of them as channels. The parameters are those
  of a 3x3 `Conv`.

  Attributes:
    features: output channels.
    dtype: of the convolution.
  """

  features: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to [b, 2h, 2w, features]."""
    b, h, w, c = x.shape
    kernel = self.param('kernel', kernel_init, (3, 3, c, self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    # For even and odd output pixels: which of the 3 weights apply to the first
    # and to the second of the two input pixels.
    meet = jnp.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], x.dtype)
    kernel = jnp.einsum('ysj,xtk,jkcf->stcyxf', meet, meet, kernel)
    # Explicit padding: on a CPU, the gradient of a convolution that pads for an
    # even kernel is 20 times slower.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = jax.lax.conv_general_dilated(
      x.astype(self.dtype),
      kernel.reshape(2, 2, c, -1).astype(self.dtype),
      (1, 1),
      'VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    y = y.reshape(b, h + 1, w + 1, 2, 2, -1)
    rows = [
      jnp.stack([y[:, i : i + h, j : j + w, i, j] for j in (0, 1)], 3)
      for i in (0, 1)
    ]
    y = jnp.stack(rows, 2).reshape(b, 2 * h, 2 * w, -1)
    return y + bias.astype(self.dtype)


class Block(nn.Module):
  """LayerNorm, 3x3 convolution, GELU, linear layer, with a skip connection."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to the same shape."""
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
    y = nn.gelu(nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype)(y))
    return x + nn.Dense(x.shape[-1], dtype=self.dtype)(y)


def average_pool(x: jax.Array, window: int) -> jax.Array:
  """Averages windows: [b, h, w, c] to [b, h//window, w//window, c]."""
  b, h, w, c = x.shape
  n, m = h // window, w // window
  x = x[:, : n * window, : m * window]
  # On a CPU, two sums take a third of the time of a pooling window.
  rows = x.reshape(b, n, window, m * window, c).sum(2)
  return rows.reshape(b, n, m, window, c).sum(3) / window**2


def scaled(channels: int, width: float) -> int:
  """Multiplies a channel count by a width; the result is at least 2."""
  return max(2, round(channels * width))
