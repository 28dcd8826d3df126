"""The colorization subnet: predicts color from warped color and previous frame.

A U-Net of ten stages at strides 1, 2, 4, 8 and back, with InstanceNorm after each
stage, dilated convolutions in stages 5 and 6, and three skip connections. It is
the ColorVidNet of DEVC (Zhang et al., CVPR 2019), which the paper uses unchanged
(Sec. III-C, Eq. 1).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import layers
from vitexco_jax.models.correspondence import STRIDE

RESIDUALS = ('', 'warped')


class Colorizer(nn.Module):
  """One step of the recurrence: predicts a frame's ab.

  Attributes:
    width: scales all channel counts. 1.0 is the width in the paper, with
      32,802,370 parameters; 0 leaves out the network and keeps the `residual`.
    residual: what the prediction is added to. '': nothing, as in the paper.
      `warped`: the warped color, times a factor in [0, 2] that is predicted for
      each pixel and starts at 1. It preserves saturation, which the InstanceNorm
      before every skip connection removes. Adds 129 parameters.
    dtype: of the convolutions.
  """

  width: float = 1.0
  residual: str = ''
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    luminance: jax.Array,
    warped_ab: jax.Array,
    confidence: jax.Array,
    previous_lab: jax.Array,
  ) -> jax.Array:
    """Predicts the color of one frame.

    Args:
      luminance: [b, h, w, 1], L - 50; h and w multiples of 8.
      warped_ab: [b, h, w, 2].
      confidence: [b, h, w, 1] in [-1, 1].
      previous_lab: [b, h, w, 3], the previous frame in color, l = L - 50; zeros
        if there is none.

    Returns:
      ab, [b, h, w, 2] float32 in [-128, 128], or in [-384, 384] with a
      `residual`.
    """
    outputs = 3 if self.residual else 2
    if self.width:
      x = jnp.concatenate([luminance, warped_ab, confidence, previous_lab], -1)
      x = self._u_net(x, outputs)
    else:
      x = jnp.zeros((*luminance.shape[:-1], outputs))
    ab = 128.0 * jnp.tanh(x[..., :2])
    if self.residual:
      ab += 2.0 * nn.sigmoid(x[..., 2:3]) * _smooth(warped_ab)
    return ab

  def _u_net(self, x: jax.Array, outputs: int) -> jax.Array:
    """Maps [b, h, w, c] to [b, h, w, outputs], float32; DEVC's U-Net."""
    x = self._stage('1', x, 32, 64, 64)
    skip1 = x = layers.instance_norm(x)
    x = self._halve('1', x)

    x = self._stage('2', x, 128, 128)
    skip2 = x = layers.instance_norm(x)
    x = self._halve('2', x)

    x = self._stage('3', x, 256, 256, 256)
    skip3 = x = layers.instance_norm(x)
    x = self._halve('3', x)

    x = layers.instance_norm(self._stage('4', x, 512, 512, 512))
    x = layers.instance_norm(self._stage('5', x, 512, 512, 512, dilation=2))
    x = layers.instance_norm(self._stage('6', x, 512, 512, 512, dilation=2))
    x = layers.instance_norm(self._stage('7', x, 512, 512, 512))

    x = nn.relu(self._join('8', x, skip3, 256))
    x = layers.instance_norm(self._stage('8', x, 256, 256))

    x = nn.relu(self._join('9', x, skip2, 128))
    x = layers.instance_norm(self._stage('9', x, 128))

    x = nn.relu(self._join('10', x, skip1, 128))
    x = nn.leaky_relu(self._conv('conv10_0', x, 128), 0.2)

    # The last layer starts small, so that tanh does not saturate. With a residual
    # it starts at zero, so that the output is the residual.
    x = nn.Conv(
      outputs,
      (1, 1),
      kernel_init=nn.initializers.zeros
      if self.residual
      else nn.initializers.variance_scaling(1e-4, 'fan_in', 'uniform'),
      dtype=self.dtype,
      name='out',
    )(x)
    return x.astype(jnp.float32)

  def _conv(
    self, name: str, x: jax.Array, channels: int, dilation: int = 1
  ) -> jax.Array:
    return layers.Conv(
      layers.scaled(channels, self.width),
      (3, 3),
      kernel_dilation=dilation,
      dtype=self.dtype,
      name=name,
    )(x)

  def _stage(
    self, name: str, x: jax.Array, *channels: int, dilation: int = 1
  ) -> jax.Array:
    for i, c in enumerate(channels):
      x = nn.relu(self._conv(f'conv{name}_{i}', x, c, dilation))
    return x

  def _halve(self, name: str, x: jax.Array) -> jax.Array:
    """Subsamples by 2 and multiplies each channel by a learned factor."""
    return layers.Conv(
      x.shape[-1],
      (1, 1),
      strides=2,
      feature_group_count=x.shape[-1],
      use_bias=False,
      dtype=self.dtype,
      name=f'halve{name}',
    )(x)

  def _join(
    self, name: str, x: jax.Array, skip: jax.Array, channels: int
  ) -> jax.Array:
    """Upsamples x by 2 and adds a skip connection."""
    up = layers.UpsampleConv(
      layers.scaled(channels, self.width), self.dtype, name=f'up{name}'
    )
    return up(x) + self._conv(f'skip{name}', skip, channels)


def _smooth(warped_ab: jax.Array) -> jax.Array:
  """Interpolates the warped color, which is constant in 4x4 blocks."""
  blocks = layers.average_pool(warped_ab, STRIDE)
  return jax.image.resize(blocks, warped_ab.shape, 'bilinear')
