"""The correspondence network: matches a frame with its reference.

Features of frame and reference pass through the same branches (one per level,
each to stride 4 and 64 channels) and the same trunk of residual blocks; then
theta (frame) and phi (reference) project them. The correlation of all positions
q of the frame with all positions k of the reference weights the colors of the
reference. `match` computes it in blocks and never stores all of it.

This is the WarpNet of DEVC (Zhang et al., CVPR 2019), which the paper uses.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import blocked, layers

STRIDE = 4  # Pixels per position of theta and phi.
_ENTRIES = 2**24  # Maximum number of entries of the correlation in memory.


class ReflectConv(nn.Module):
  """A 3x3 convolution with reflection padding, then InstanceNorm."""

  features: int
  stride: int = 1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to [b, h/stride, w/stride, features]."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), 'reflect')
    # On a CPU, XLA takes four times as long for a `VALID` convolution as for a
    # `SAME` one, whose border is cut off.
    is_dense = self.stride == 1
    x = layers.Conv(
      self.features,
      (3, 3),
      strides=self.stride,
      padding='SAME' if is_dense else 'VALID',
      dtype=self.dtype,
      name='conv',
    )(x)
    return layers.instance_norm(x[:, 1:-1, 1:-1] if is_dense else x)


class Branch(nn.Module):
  """Converts one level, of stride 2^(level-1), to stride 4 and 64 channels."""

  level: int
  width: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps features of the level to [b, h/4, w/4, 64 * width]."""
    # (channels, stride, nearest upsampling afterward) of the two convolutions.
    first, second = {
      1: ((64, 2, 1), (64, 2, 1)),
      2: ((128, 1, 1), (64, 2, 1)),
      3: ((128, 1, 1), (64, 1, 1)),
      4: ((256, 1, 1), (64, 1, 2)),
      5: ((256, 1, 2), (64, 1, 2)),
    }[self.level]
    for i, (channels, stride, upsample) in enumerate((first, second)):
      channels = layers.scaled(channels, self.width)
      x = ReflectConv(channels, stride, self.dtype, name=f'conv{i}')(x)
      x = nn.PReLU(negative_slope_init=0.25, name=f'prelu{i}')(x)
      if upsample > 1:
        x = layers.upsample_nearest(x, upsample)
    return x


class ResidualBlock(nn.Module):
  """Two convolutions with a skip connection; they share one PReLU slope."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to the same shape."""
    prelu = nn.PReLU(negative_slope_init=0.25, name='prelu')
    y = prelu(ReflectConv(x.shape[-1], dtype=self.dtype, name='conv0')(x))
    y = ReflectConv(x.shape[-1], dtype=self.dtype, name='conv1')(y)
    return prelu(x + y)


class CorrespondenceNet(nn.Module):
  """Projects features to theta and phi.

  A picture may also have maps of another network, which are compared unchanged.
  Then the correlation is the weighted mean of the correlation of theta and phi
  and of the correlation of each map. The weights are learned. Initially the maps
  have most of the weight, so that an untrained network matches as well as they do.

  Attributes:
    levels: of the features, counted from 1, finest first.
    width: scales all channel counts; 1.0 is that of DEVC.
    maps: number of maps.
    dtype: of the convolutions.
  """

  levels: Sequence[int] = (1, 2, 3, 4, 5)
  width: float = 1.0
  maps: int = 0
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Creates the layers."""
    self.branches = [
      Branch(level, self.width, self.dtype, name=f'branch{level}')
      for level in self.levels
    ]
    self.trunk = [ResidualBlock(self.dtype, name=f'block{i}') for i in range(3)]
    channels = layers.scaled(256, self.width)
    self.theta = layers.Conv(channels, (1, 1), dtype=self.dtype)
    self.phi = layers.Conv(channels, (1, 1), dtype=self.dtype)
    if self.maps:
      self.shares = self.param('shares', _first_shares, (1 + self.maps,))

  def queries(
    self, features: Sequence[jax.Array], maps: Sequence[jax.Array] = ()
  ) -> jax.Array:
    """Computes theta of frames.

    Args:
      features: one [b, h/stride, w/stride, c] per level.
      maps: [b, n, m, c] each, of any size.

    Returns:
      Unit vectors [b, h/4 * w/4, d], float32.
    """
    return self._join(self.theta(self._embed(features)), maps)

  def keys(
    self, features: Sequence[jax.Array], maps: Sequence[jax.Array] = ()
  ) -> jax.Array:
    """Computes phi of references; arguments and result as in `queries`."""
    return self._join(self.phi(self._embed(features)), maps)

  def __call__(
    self,
    frame_features: Sequence[jax.Array],
    reference_features: Sequence[jax.Array],
  ) -> tuple[jax.Array, jax.Array]:
    """Computes queries and keys, to initialize the parameters."""
    return self.queries(frame_features), self.keys(reference_features)

  def _join(self, x: jax.Array, maps: Sequence[jax.Array]) -> jax.Array:
    if not maps:
      return positions(x)
    # The product of two joined vectors is the weighted mean of their products.
    _, h, w, _ = x.shape
    return stacked_positions((x, *maps), (h, w), nn.softmax(self.shares))

  def _embed(self, features: Sequence[jax.Array]) -> jax.Array:
    x = jnp.concatenate(
      [
        branch(layers.l2_normalize(feature).astype(self.dtype))
        for branch, feature in zip(self.branches, features, strict=True)
      ],
      -1,
    )
    for block in self.trunk:
      x = block(x)
    return x


def _first_shares(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns logits: theta and phi have an eighth of the weight of each map."""
  del key
  return jnp.zeros(shape).at[0].set(-jnp.log(8.0))


def positions(x: jax.Array) -> jax.Array:
  """Subtracts the mean of each channel and normalizes each position.

  Args:
    x: [b, h, w, d].

  Returns:
    Unit vectors [b, h*w, d], float32.
  """
  x = x.astype(jnp.float32)
  x = x - x.mean((1, 2), keepdims=True)
  b, h, w, d = x.shape
  return layers.l2_normalize(x.reshape(b, h * w, d))


def stacked_positions(
  maps: Sequence[jax.Array], size: tuple[int, int], shares: jax.Array
) -> jax.Array:
  """Joins several maps to one unit vector per position.

  Args:
    maps: [b, h, w, c] each, of any size and number of channels.
    size: (height, width) to which the maps are resized.
    shares: [maps], weights of the maps with sum 1. The product of two results is
      the mean of the products of the maps with these weights.

  Returns:
    [b, height*width, sum of channels], float32.
  """
  stacked = [
    jnp.sqrt(share)
    * positions(jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), 'linear'))
    for x, share in zip(maps, shares, strict=True)
  ]
  return jnp.concatenate(stacked, -1)


def match(
  queries: jax.Array,
  keys: jax.Array,
  reference_ab: jax.Array,
  temperature: float,
  block: int,
) -> tuple[jax.Array, jax.Array]:
  """Warps the colors of the reference to the frame.

    correlation(q, k) = queries_q . keys_k
    confidence(q) = max_k correlation(q, k)
    warped_ab(q) = sum_k softmax_k(correlation(q, k) / temperature) ab(k)

  The b x q x k correlation is computed in blocks of `block` rows, forward and
  backward, and accumulated in float32.

  Args:
    queries: [b, q, d] of the frame, of length 1 or less.
    keys: [b, k, d] of the reference, of length 1 or less.
    reference_ab: [b, k, 2].
    temperature: of the softmax; 0 uses only the best match.
    block: rows of the correlation at a time; reduced if there are many keys.

  Returns:
    warped_ab [b, q, 2] and confidence [b, q, 1].
  """
  if isinstance(keys.shape[1], int):  # It is symbolic in jax.export.
    block = max(1, min(block, _ENTRIES // keys.shape[1]))

  def match_one(
    queries: jax.Array, keys: jax.Array, reference_ab: jax.Array
  ) -> tuple[jax.Array, ...]:
    # The column of ones sums the weights of the softmax.
    colors = jnp.pad(reference_ab, ((0, 0), (0, 1)), constant_values=1.0)

    def rows(queries: jax.Array) -> tuple[jax.Array, ...]:
      correlation = jnp.einsum(
        'qd,kd->qk', queries, keys, precision=jax.lax.Precision.HIGHEST
      )
      confidence = correlation.max(-1, keepdims=True)
      if temperature == 0:
        return reference_ab[correlation.argmax(-1)], confidence
      top = jax.lax.stop_gradient(confidence)
      weights = jnp.exp((correlation - top) / temperature)
      sums = jnp.matmul(weights, colors, precision=jax.lax.Precision.HIGHEST)
      return sums[:, :2] / sums[:, 2:], confidence

    return blocked.map_rows(rows, queries, block)

  warped_ab, confidence = jax.vmap(match_one)(queries, keys, reference_ab)
  return warped_ab, confidence
