"""The Feature Transform of Fig. 3: ViT tokens become a pyramid of features.

Five decoders, one per tap of the ViT, the shallowest tap to the finest level,
stand in for the five maps of VGG that exemplar-based colorization used before:

  level     1    2    3    4    5
  stride    1    2    4    8   16
  channels 64  128  256  512  512

A decoder is a linear layer on the tokens, upsampling of the 2-D token grid,
LayerNorm over channels, GELU and dropout. Behind a hybrid ViT it also adds, before
the LayerNorm, a linear layer of the convolutional network's own map of the level's
stride, the *lateral* one (as DPT-Hybrid, Ranftl et al. 2021).
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
  """One level: [b, n, m, d] tokens to [b, n*scale, m*scale, channels].

  `lateral`, where there is one, is [b, n*scale, m*scale, c].

  `kind` says how the grid grows. `bilinear`: a linear layer to the channels,
  then interpolation. `subpixel`: a linear layer to scale^2 vectors per token,
  laid out as pixels, then a 3x3 convolution; it can bring back detail from
  inside a token's patch.
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
    b, n, m, _ = token_grid.shape
    s, c = self.scale, self.channels
    if self.kind == 'bilinear':
      x = layers.Dense(c, dtype=self.dtype)(token_grid)
      x = jax.image.resize(x, (b, n * s, m * s, c), 'bilinear')
    else:  # `subpixel`; `settings.check` knows no other.
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
  """The five decoders; only those asked for are computed."""

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
    """Decodes five taps.

    Args:
      taps: five token grids [b, h/patch, w/patch, d], shallowest first.
      levels: which of the five, counted from 1, finest first.
      train: whether dropout (rng `dropout`) is on.
      laterals: five maps of the levels' strides, or None where there is none.

    Returns:
      `features`, one [b, h/stride, w/stride, channels] per wanted level.
    """
    features = []
    for level in levels:
      token_grid = taps[level - 1]
      stride = STRIDES[level - 1]
      if stride > self.patch:  # Patches of 8 are finer than the last level.
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
