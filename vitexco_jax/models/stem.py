"""The stem of a hybrid ViT: a convolutional network before the tokens.

An addition to the paper, whose ViT sees the picture itself. The stem gives
tokens to the ViT, lateral maps to the decoders of the Feature Transform, and
maps to the correspondence subnet (as DPT-Hybrid, Ranftl et al. 2021).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

NAMES = ('efficientnet_lite0',)
STRIDE = 16  # Of the map that tokens are made from.


def make_laterals(
  pyramid: Sequence[jax.Array],
) -> tuple[None, jax.Array, jax.Array, jax.Array, jax.Array]:
  """Assigns the maps of a stem to the five levels of the features.

  Each position is normalized to mean 0 and variance 1 over its channels.

  Args:
    pyramid: five maps [b, h/s, w/s, c] of strides s = 2, 4, 8, 16, 32.

  Returns:
    A map for each level, finest first. The finest level has none; the last one
    has the two coarsest maps, at stride 16. Their dtype is float32.
  """
  map2, map4, map8, map16, map32 = (
    nn.standardize(x.astype(jnp.float32), -1, epsilon=1e-6) for x in pyramid
  )
  b, h, w, _ = map16.shape
  map32 = jax.image.resize(map32, (b, h, w, map32.shape[-1]), 'bilinear')
  return None, map2, map4, map8, jnp.concatenate([map16, map32], -1)
