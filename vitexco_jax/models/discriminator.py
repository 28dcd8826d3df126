"""The video discriminator: scores whether two consecutive frames look real.

Convolutions of stride 2 with spectral norm, self-attention at stride 4, and the
mean of a score map. It follows DEVC (Zhang et al., CVPR 2019), but the mean
replaces the last layer of DEVC, which needs a fixed size. Used only in training.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import blocked, layers

_CHANNELS = (64, 64, 128, 256, 512, 1024)
_ATTENTION_BLOCK = 432  # Rows of the attention matrix at a time.


class Discriminator(nn.Module):
  """Scores pairs of frames.

  Spectral norm stores the vectors of its power iteration in the collection
  `batch_stats`, which must be mutable if `train` is set.

  Attributes:
    width: scales all channel counts.
    dtype: of the convolutions.
  """

  width: float = 1.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, lab_pair: jax.Array, train: bool = False) -> jax.Array:
    """Scores each pair.

    Args:
      lab_pair: [b, h, w, 6], `[L_t, ab_t, L_{t-1}, ab_{t-1}]`, L in [0, 100].
      train: whether spectral norm does one step of its power iteration.

    Returns:
      [b] float32, higher for real frames.
    """
    # Six stages reduce 128 pixels to 2; smaller pictures use fewer stages.
    stages = min(6, min(lab_pair.shape[1:3]).bit_length() - 2)
    x = lab_pair.astype(self.dtype)
    for i, channels in enumerate(_CHANNELS[:stages]):
      x = self._conv(
        f'conv{i}',
        x,
        layers.scaled(channels, self.width),
        train,
        kernel_size=(4, 4),
        strides=2,
        padding=1,
      )
      if i > 0:
        x = layers.instance_norm(x)
      x = nn.leaky_relu(x, 0.2)
      if i == 1:
        x = self._attend(x, train)
    scores = self._conv('out', x, 1, train, kernel_size=(3, 3), padding=1)
    return scores.astype(jnp.float32).mean((1, 2, 3))

  def _conv(
    self, name: str, x: jax.Array, channels: int, train: bool, **kwargs: Any
  ) -> jax.Array:
    """A convolution with spectral norm; `kwargs` are those of `layers.Conv`."""
    conv = layers.Conv(channels, dtype=self.dtype, name=name, **kwargs)
    norm = nn.SpectralNorm(conv, n_steps=1, name=f'{name}_norm')
    return norm(x, update_stats=train)

  def _attend(self, x: jax.Array, train: bool) -> jax.Array:
    """Adds self-attention (Zhang et al., 2019) times a factor, initially 0."""
    b, h, w, c = x.shape
    query, key, value = (
      self._conv(name, x, c, train, kernel_size=(1, 1))
      .reshape(b, h * w, c)
      .astype(jnp.float32)
      for name in ('query', 'key', 'value')
    )

    def attend_one(
      query: jax.Array, key: jax.Array, value: jax.Array
    ) -> jax.Array:
      def rows(query: jax.Array) -> jax.Array:
        return jax.nn.softmax(query @ key.T, -1) @ value

      return blocked.map_rows(rows, query, _ATTENTION_BLOCK)

    gate = self.param('gate', nn.initializers.zeros, ())
    attended = jax.vmap(attend_one)(query, key, value).reshape(x.shape)
    return x + (gate * attended).astype(x.dtype)
