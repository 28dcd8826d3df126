"""The color prior: a gray picture's colors without any reference.

The features that the Feature Transform makes of a gray picture, and the ViT's
class token, predict ab and how far off that is:

  level 5 (stride 16), level 4 (8), class token -> 3 residual blocks at stride 8
  that, level 3 (stride 4), 4x4 patches of lightness -> 1 block at stride 4 -> out

Not the paper's: it colors by references alone. Most of the network runs at stride
8, where a convolution costs a quarter of one at stride 4; how large a part of an
object's color has to be decided at stride 4 is decided by the last block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

LEVELS = (3, 4, 5)  # Of the Feature Transform that the prior sees.
STRIDE = 4
_SCALE = 20.0  # Colors and their errors are about so large.


class PriorColor(NamedTuple):
  """Colors that a gray picture suggests."""

  ab: jax.Array  # [b, h/4, w/4, 2]
  # [b, h/4, w/4, 1], above 0: the distance to the truth to be expected, in ab.
  spread: jax.Array


class Prior(nn.Module):
  """Predicts colors from features; `width` scales all channels."""

  width: float = 1.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    features: Sequence[jax.Array],
    embedding: jax.Array,
    luminance: jax.Array,
  ) -> PriorColor:
    """Predicts colors.

    Args:
      features: of `LEVELS`, [b, h/stride, w/stride, c] each.
      embedding: [b, d], the ViT's class token.
      luminance: [b, h, w, 1], L - 50; h and w multiples of 16.

    Returns:
      Colors at stride 4.
    """
    coarse, fine = (max(2, round(c * self.width)) for c in (96, 48))
    fine_map, map8, map16 = features
    b, h, w, _ = luminance.shape

    def dense(channels, name, x):
      return nn.Dense(channels, dtype=self.dtype, name=name)(x)

    x = dense(coarse, 'level5', map16)
    x = jax.image.resize(x, (*map8.shape[:-1], coarse), 'bilinear')
    x += dense(coarse, 'level4', map8)
    x += dense(coarse, 'class_token', embedding)[:, None, None]
    for i in range(3):
      x = Block(self.dtype, name=f'coarse{i}')(x)
    s = STRIDE
    patches = luminance.reshape(b, h // s, s, w // s, s).swapaxes(2, 3)
    patches = patches.reshape(b, h // s, w // s, s * s) / 50.0
    x = dense(fine, 'coarse', nn.gelu(x))
    x = jax.image.resize(x, (*fine_map.shape[:-1], fine), 'bilinear')
    x += dense(fine, 'level3', fine_map) + dense(fine, 'luminance', patches)
    x = Block(self.dtype, name='fine')(x)
    x = nn.Conv(fine, (3, 3), dtype=self.dtype, name='last')(nn.gelu(x))
    x = nn.Dense(3, kernel_init=nn.initializers.normal(0.01), name='output')(
      nn.gelu(x).astype(jnp.float32)
    )
    spread = _SCALE * jnp.exp(jnp.clip(x[..., 2:], -4.0, 3.0))
    return PriorColor(_SCALE * x[..., :2], spread)


class Block(nn.Module):
  """LayerNorm, 3x3 convolution, GELU, linear layer, around a skip."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
    y = nn.gelu(nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype)(y))
    return x + nn.Dense(x.shape[-1], dtype=self.dtype)(y)
