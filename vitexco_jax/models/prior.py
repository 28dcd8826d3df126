"""The color prior: colors of a gray picture, predicted without a reference.

An addition to the paper, which always uses a reference. The features of a gray
picture and the class token of the ViT predict ab and the expected error of ab:

  level 5 (stride 16), level 4 (8), class token -> 3 residual blocks at stride 8
  their output, level 3 (stride 4), 4x4 patches of lightness
    -> 1 residual block at stride 4 -> ab, spread

Most of the network runs at stride 8, where a convolution costs a quarter of one
at stride 4. The last block, at stride 4, locates the edges of colored objects.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import layers, vit
from vitexco_jax.structs import Seen

LEVELS = (3, 4, 5)  # Levels of the Feature Transform that the prior uses.
STRIDE = 4  # Pixels per predicted color.
_SCALE = 20.0  # Typical size of a, b, and of their errors.


class PriorColor(NamedTuple):
  """Predicted colors and their uncertainty."""

  ab: jax.Array  # [b, h/4, w/4, 2]
  spread: jax.Array  # [b, h/4, w/4, 1], above 0: expected distance in ab.


class Prior(nn.Module):
  """Predicts colors from features.

  Attributes:
    width: scales all channel counts.
    unsure_spread: spread at which the confidence falls to 1/e.
    same_cosine: cosine of the features of two positions that show the same.
    dtype: of the convolutions and linear layers.
  """

  width: float = 1.0
  unsure_spread: float = 20.0
  same_cosine: float = 0.7
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
      features: one [b, h/stride, w/stride, c] for each of `LEVELS`.
      embedding: [b, d], the class token of the ViT.
      luminance: [b, h, w, 1], L - 50; h and w multiples of 16.

    Returns:
      Colors at stride 4.
    """
    coarse, fine = (max(2, round(c * self.width)) for c in (96, 48))
    fine_map, map8, map16 = features
    b, h, w, _ = luminance.shape

    def dense(channels: int, name: str, x: jax.Array) -> jax.Array:
      return nn.Dense(channels, dtype=self.dtype, name=name)(x)

    x = dense(coarse, 'level5', map16)
    x = jax.image.resize(x, (*map8.shape[:-1], coarse), 'bilinear')
    x += dense(coarse, 'level4', map8)
    x += dense(coarse, 'class_token', embedding)[:, None, None]
    for i in range(3):
      x = layers.Block(self.dtype, name=f'coarse{i}')(x)
    s = STRIDE
    patches = luminance.reshape(b, h // s, s, w // s, s).swapaxes(2, 3)
    patches = patches.reshape(b, h // s, w // s, s * s) / 50.0
    x = dense(fine, 'coarse', nn.gelu(x))
    x = jax.image.resize(x, (*fine_map.shape[:-1], fine), 'bilinear')
    x += dense(fine, 'level3', fine_map) + dense(fine, 'luminance', patches)
    x = layers.Block(self.dtype, name='fine')(x)
    x = nn.Conv(fine, (3, 3), dtype=self.dtype, name='last')(nn.gelu(x))
    x = nn.Dense(3, kernel_init=nn.initializers.normal(0.01), name='output')(
      nn.gelu(x).astype(jnp.float32)
    )
    spread = _SCALE * jnp.exp(jnp.clip(x[..., 2:], -4.0, 3.0))
    return PriorColor(_SCALE * x[..., :2], spread)


class Predictor(Protocol):
  """What the prior needs of a bound `Generator`."""

  prior_net: Prior

  def see(
    self, rgb: jax.Array, levels: Sequence[int], train: bool = False
  ) -> Seen:
    """Runs the ViT and the Feature Transform."""


def see_and_predict(
  generator: Predictor,
  rgb: jax.Array,
  luminance: jax.Array,
  levels: Sequence[int] = LEVELS,
  train: bool = False,
) -> tuple[Seen, PriorColor]:
  """Runs `Generator.see` and predicts the colors of the same pictures.

  Args:
    generator: a bound `Generator`.
    rgb: [b, h, w, 3] in [0, 1], gray; h and w multiples of 16.
    luminance: [b, h, w, 1], L - 50.
    levels: levels of the features to compute, with `LEVELS` among them.
    train: whether to apply dropout (rng `dropout`).

  Returns:
    The result of `see`, and colors at stride 4.
  """
  seen = generator.see(rgb, levels, train)
  features = [seen.features[levels.index(x)] for x in LEVELS]
  return seen, generator.prior_net(features, seen.embedding, luminance)


def predict_color(generator: Predictor, luminance: jax.Array) -> PriorColor:
  """Predicts colors at stride 4 of gray pictures.

  Args:
    generator: a bound `Generator`.
    luminance: [b, h, w, 1], L - 50; h and w multiples of 16.
  """
  return see_and_predict(generator, vit.gray(luminance), luminance)[1]
