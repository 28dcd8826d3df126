"""The Feature Transform, Fig. 3: converts ViT tokens to a pyramid of features.

Five decoders, one per tap of the ViT, from the shallowest tap and finest level to
the deepest and coarsest. They replace the five maps of VGG in earlier work:

  level     1    2    3    4    5
  stride    1    2    4    8   16
  channels 64  128  256  512  512

A decoder is a linear layer on the tokens, upsampling of the 2-D token grid,
LayerNorm over channels, GELU and dropout. With a hybrid ViT, it also adds a linear
projection of a lateral map before the LayerNorm: the map of the stem that has the
stride of the level (as in DPT-Hybrid, Ranftl et al. 2021).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import layers

STRIDES = (1, 2, 4, 8, 16)
KINDS = ('bilinear', 'subpixel')  # How a decoder upsamples.
CHANNELS = (64, 128, 256, 512, 512)


class Decoder(nn.Module):
  """Decodes one level: [b, n, m, d] tokens to [b, n*scale, m*scale, channels].

  The lateral map, if there is one, is [b, n*scale, m*scale, c].

  Attributes:
    channels: of the output.
    scale: factor of the upsampling.
    kind: of upsampling. `bilinear`: a linear layer, then interpolation.
      `subpixel`: a linear layer to scale^2 vectors per token, which become
      pixels, then a 3x3 convolution; it can recover detail inside a patch.
    dropout: rate in [0, 1).
    dtype: of the matrix products.
  """

  channels: int
  scale: int
  kind: str
  dropout: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, token_grid: jax.Array, train: bool, lateral: jax.Array | None = None
  ) -> jax.Array:
    """Decodes a token grid [b, n, m, d]; see the attributes for the result."""
    b, n, m, _ = token_grid.shape
    s, c = self.scale, self.channels
    if self.kind == 'bilinear':
      x = layers.Dense(c, dtype=self.dtype)(token_grid)
      x = jax.image.resize(x, (b, n * s, m * s, c), 'bilinear')
    else:  # `subpixel`.
      x = layers.Dense(c * s * s, dtype=self.dtype)(token_grid)
      x = x.reshape(b, n, m, s, s, c).transpose(0, 1, 3, 2, 4, 5)
      x = x.reshape(b, n * s, m * s, c)
      x = layers.Conv(c, (3, 3), dtype=self.dtype)(x)
    if lateral is not None:
      x += layers.Dense(c, dtype=self.dtype, name='lateral')(lateral)
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
    x = nn.gelu(x, approximate=False)
    return nn.Dropout(self.dropout)(x, deterministic=not train)


class FeatureTransform(nn.Module):
  """The five decoders.

  Attributes:
    kind: of upsampling; see `Decoder`.
    width: scales all channel counts.
    dropout: rate in [0, 1).
    patch: side of a ViT patch in pixels.
    dtype: of the matrix products.
  """

  kind: str = 'bilinear'
  width: float = 1.0
  dropout: float = 0.3
  patch: int = 16
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    taps: Sequence[jax.Array],
    levels: Sequence[int] = (1, 2, 3, 4, 5),
    train: bool = False,
    laterals: Sequence[jax.Array | None] = (None,) * len(STRIDES),
  ) -> tuple[jax.Array, ...]:
    """Decodes the taps.

    Args:
      taps: five token grids [b, h/patch, w/patch, d], shallowest first.
      levels: which levels to compute, counted from 1, finest first.
      train: whether to apply dropout (rng `dropout`).
      laterals: for each of the five levels a map [b, h/stride, w/stride, c], or
        None.

    Returns:
      `features`, one [b, h/stride, w/stride, channels] for each of `levels`.
    """
    features = []
    for level in levels:
      token_grid = taps[level - 1]
      stride = STRIDES[level - 1]
      if stride > self.patch:  # A patch of 8 is finer than the last level.
        token_grid = layers.average_pool(token_grid, stride // self.patch)
      features.append(
        Decoder(
          channels=layers.scaled(CHANNELS[level - 1], self.width),
          scale=max(1, self.patch // stride),
          kind=self.kind,
          dropout=self.dropout,
          dtype=self.dtype,
          name=f'level{level}',
        )(token_grid, train, laterals[level - 1])
      )
    return tuple(features)
