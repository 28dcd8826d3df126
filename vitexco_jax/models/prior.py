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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import layers, mixing, motion, vit
from vitexco_jax.models.correspondence import STRIDE as MATCHING_STRIDE
from vitexco_jax.structs import Guidance

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
  """LayerNorm, 3x3 convolution, GELU, linear layer, with a skip connection."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
    y = nn.gelu(nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype)(y))
    return x + nn.Dense(x.shape[-1], dtype=self.dtype)(y)


def see_and_predict(
  generator: Any,
  rgb: jax.Array,
  luminance: jax.Array,
  levels: Sequence[int] = LEVELS,
  train: bool = False,
) -> tuple[Any, PriorColor]:
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


def predict_color(generator: Any, luminance: jax.Array) -> PriorColor:
  """Predicts colors at stride 4 of gray pictures.

  Args:
    generator: a bound `Generator`.
    luminance: [b, h, w, 1], L - 50; h and w multiples of 16.
  """
  return see_and_predict(generator, vit.gray(luminance), luminance)[1]


def guide_by_prior(
  generator: Any,
  luminance: jax.Array,
  backward_flow: jax.Array | None = None,
  scale: int = 1,
) -> tuple[Guidance, jax.Array | None, None]:
  """Computes guidance and likeness, as `motion.guide_along`, by the prior.

  The predicted colors replace the warped ones. Their confidence falls with their
  spread.

  Args:
    generator: a bound `Generator`.
    luminance: [b, 1 + t, h, w, 1], L - 50, of the previous frame and t frames.
    backward_flow: [b, t, scale*h, scale*w, 2], (dx, dy) in pixels from each
      frame to the previous one.
    scale: size of the flow relative to the frames.

  Returns:
    Guidance of the t frames; likeness to the previous frame, [b, t, scale*h,
    scale*w, 1], or None without a flow; None, as there is no first reference.
  """
  b, t, h, w, _ = luminance.shape
  pictures = luminance.reshape(b * t, h, w, 1)
  levels = tuple(sorted({*generator.levels, *LEVELS}))
  seen, colors = see_and_predict(
    generator, vit.gray(pictures), pictures, levels
  )

  def of_frames(x):
    x = layers.upsample_nearest(x, STRIDE)
    return x.reshape(b, t, h, w, -1)[:, 1:]

  prior = generator.prior_net
  confidence = mixing.trust(colors.spread, prior.unsure_spread)
  guidance = Guidance(of_frames(colors.ab), of_frames(confidence))
  if backward_flow is None:
    return guidance, None, None
  features = tuple(seen.features[levels.index(x)] for x in generator.levels)
  seen = seen._replace(features=features)
  queries = generator.make_queries(seen, luminance.shape)
  steady = motion.likeness(
    queries[:, 1:],
    queries[:, :-1],
    backward_flow,
    prior.same_cosine,
    MATCHING_STRIDE * scale,
    generator.motion.previous_tolerance,
  )
  return guidance, steady, None
