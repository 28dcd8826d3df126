"""EfficientNet-lite0: pooled features for retrieval, and the stem of a hybrid ViT.

`pretrained/efficientnet_weights.py` loads its weights. EfficientNet-lite (Google,
2020) is EfficientNet (Tan and Le, 2019) without squeeze-and-excitation, and with
ReLU6 instead of swish. Each BatchNorm is folded into the convolution before it,

  kernel' = kernel s,  bias' = beta - mean s,  s = gamma / sqrt(variance + 1e-3)

so every layer has a kernel and a bias. Their names are those of the weight file:

  conv_stem   3x3, stride 2, to 32 channels
  blocks_i    expand_conv 1x1, depthwise_conv, project_conv 1x1 (see `STAGES`)
  conv_head   1x1, 320 to 1280 channels, then the mean over all positions
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

SIZE = 224  # Height and width of the training images, in pixels.
WIDTH = 1280  # Number of features.

# Number of blocks, size of the depthwise kernel, stride of the first block,
# expansion factor, output channels.
STAGES = (
  (1, 3, 1, 1, 16),
  (2, 3, 2, 6, 24),
  (2, 5, 2, 6, 40),
  (3, 3, 2, 6, 80),
  (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192),
  (1, 3, 1, 6, 320),
)
_PYRAMID = (0, 2, 4, 10, 14)  # Last block at each of the five strides.


class EfficientNetLite0(nn.Module):
  """The network without its classifier."""

  def setup(self) -> None:
    """Creates the layers."""
    self.conv_stem = _conv(32, 3, 2)
    self.blocks = [
      Block(kernel, 1 if i else stride, expansion, channels)
      for blocks, kernel, stride, expansion, channels in STAGES
      for i in range(blocks)
    ]
    self.conv_head = _conv(WIDTH, 1, 1)

  def __call__(self, rgb: jax.Array) -> jax.Array:
    """Computes pooled features.

    Args:
      rgb: [b, h, w, 3] in [0, 1].

    Returns:
      [b, 1280] in [0, 6].
    """
    x = self._run(rgb, len(self.blocks))[-1]
    return _relu6(self.conv_head(x)).mean((1, 2))

  def pyramid(self, rgb: jax.Array) -> tuple[jax.Array, ...]:
    """Computes maps of strides 2, 4, 8, 16 and 32, without the head.

    The head and the last block, which only the classifier needs, have no
    parameters if only this method is used.

    Args:
      rgb: [b, h, w, 3] in [0, 1].

    Returns:
      Five maps [b, h/stride, w/stride, c] of 16, 24, 40, 112 and 192 channels.
    """
    maps = self._run(rgb, _PYRAMID[-1] + 1)
    return tuple(maps[i] for i in _PYRAMID)

  def _run(self, rgb: jax.Array, count: int) -> list[jax.Array]:
    """Returns the output of each of the first `count` blocks."""
    x = _relu6(self.conv_stem((rgb * 255.0 - 127.0) / 128.0))
    maps = []
    for block in self.blocks[:count]:
      x = block(x)
      maps.append(x)
    return maps


class Block(nn.Module):
  """Inverted residual block; has a skip connection if the shapes are equal."""

  kernel: int
  stride: int
  expansion: int
  channels: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to [b, h/stride, w/stride, channels]."""
    wide = x.shape[-1] * self.expansion
    y = x
    if self.expansion > 1:
      y = _relu6(_conv(wide, 1, 1, 'expand_conv')(y))
    y = _relu6(
      DepthwiseConv(self.kernel, self.stride, name='depthwise_conv')(y)
    )
    y = _conv(self.channels, 1, 1, 'project_conv')(y)
    return x + y if x.shape == y.shape else y


class DepthwiseConv(nn.Module):
  """Depthwise convolution, computed as a sum of shifted pictures.

  On a CPU it takes a fifth of the time of XLA's grouped convolution.
  """

  kernel: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to [b, h/stride, w/stride, c]."""
    size, stride, channels = self.kernel, self.stride, x.shape[-1]
    kernel = self.param(
      'kernel', nn.initializers.lecun_normal(), (size, size, 1, channels)
    )
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    shape = x.shape[1:3]
    pads = jax.lax.padtype_to_pads(
      shape, (size, size), (stride, stride), 'SAME'
    )
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    h, w = (-(-side // stride) for side in shape)
    y = bias
    for i in range(size):
      for j in range(size):
        shifted = x[
          :,
          i : i + (h - 1) * stride + 1 : stride,
          j : j + (w - 1) * stride + 1 : stride,
        ]
        y += shifted * kernel[i, j, 0]
    return y


def _conv(
  channels: int, kernel: int, stride: int, name: str | None = None
) -> nn.Conv:
  return nn.Conv(channels, (kernel, kernel), stride, name=name)


def _relu6(x: jax.Array) -> jax.Array:
  return jnp.clip(x, 0.0, 6.0)
