"""Loads pretrained ViT weights in three formats.

`load_vit_weights` reads Google's AugReg `.npz` (pre-Linen or Linen names) or a
timm state dict, as `.safetensors` or as torch's `.pth`/`.bin`, and returns the
parameters of `models/vit.py`. It ignores the classifier (`head`, `pre_logits`).
Position embeddings keep the grid on which they were learned. All other names and
shapes must match; an error lists those that are missing, unexpected, or have
another shape.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import traverse_util

from vitexco_jax.errors import UserError
from vitexco_jax.models import vit
from vitexco_jax.pretrained import weight_files
from vitexco_jax.pretrained.weight_files import Entries

Shape = tuple[int, ...]


def load_vit_weights(
  path: str | Path, params: Mapping[str, Any], gelu: str
) -> dict[str, Any]:
  """Loads the weights of a ViT.

  Args:
    path: an AugReg `.npz`, or a timm `.safetensors`, `.pth` or `.bin`.
    params: the `params` of a `vit.VisionTransformer`, for names and shapes;
      arrays or `jax.ShapeDtypeStruct`.
    gelu: the form of GELU in the ViT. AugReg weights need `tanh`, timm weights
      `erf`.

  Returns:
    The weights, float32, in a tree with the names and shapes of `params`, except
    for the number of positions, which is that of the file.

  Raises:
    UserError: the file is missing, damaged, or unsafe, or does not fit.
  """
  path = Path(path)
  entries = _read(path)
  wanted = traverse_util.flatten_dict(params, sep='/')
  if path.suffix == '.npz':
    sources = _augreg_sources(wanted, entries)
    needed = 'tanh'
  else:
    sources = {
      target: _timm_source(target, wanted[target].shape) for target in wanted
    }
    needed = 'erf'
  _check_fit(path, entries, sources, wanted['embedding/kernel'].shape)
  if gelu != needed:
    raise UserError(
      f'the weights in {path} are for the other form of GELU: set '
      f'config.model.vit.gelu to {needed!r}'
    )
  tree = {
    target: np.ascontiguousarray(
      source.convert(entries[source.name].astype(np.float32))
    )
    for target, source in sources.items()
  }
  return traverse_util.unflatten_dict(tree, sep='/')


def position_grid(path: str | Path) -> int:
  """Returns the side of the grid of a file's position embeddings, 0 without any.

  Raises:
    UserError: the file is missing, damaged, or unsafe.
  """
  entries = _read(Path(path))
  for name in (_POSITIONS, _TIMM_NAMES[_POSITIONS]):
    if name in entries and entries[name].ndim == 3 and entries[name].shape[1]:
      return _side(entries[name].shape)
  return 0


def check_trained(
  train: ml_collections.ConfigDict, variant: str, more: str = ''
) -> None:
  """Checks that the ViT has pretrained weights or a learning rate.

  Args:
    train: `config.train`.
    variant: of the ViT, for the message.
    more: another solution, for the message.

  Raises:
    UserError: the ViT has neither.
  """
  if train.vit_weights or train.init or train.learning_rate.vit:
    return
  raise UserError(
    f'the ViT {variant} has never been trained, and is frozen: '
    "give it weights by `config.train.vit_weights=FILE` (AugReg's .npz, or timm's "
    '.safetensors or .pth with `config.model.vit.gelu=erf`), start from a run of '
    '`mode=pretrain` by `config.train.init=WORKDIR`, or let it learn by '
    '`config.train.learning_rate.vit=1e-4`' + (f', {more}' if more else '')
  )


def _read(path: Path) -> Entries:
  try:
    return weight_files.read(path)
  except UserError as error:
    raise UserError(f'config.train.vit_weights: {error}') from error


# --- Names and shapes of the parameters in a file ---


class _Source(NamedTuple):
  """The array in a file that holds a parameter."""

  name: str
  shape: Shape
  convert: Callable[[np.ndarray], np.ndarray]  # To the parameter's shape.


_POSITIONS = 'Transformer/posembed_input/pos_embedding'

# Before Linen, Flax numbered all modules of a block together.
_PRE_LINEN_NAMES = {
  'LayerNorm_1': 'LayerNorm_2',
  'MultiHeadDotProductAttention_0': 'MultiHeadDotProductAttention_1',
  'MlpBlock_0': 'MlpBlock_3',
}

_TIMM_NAMES = {
  _POSITIONS: 'pos_embed',
  'Transformer/encoder_norm': 'norm',
  'Transformer/encoderblock_': 'blocks.',
  'LayerNorm_0': 'norm1',
  'LayerNorm_1': 'norm2',
  'MultiHeadDotProductAttention_0/out': 'attn.proj',
  'MultiHeadDotProductAttention_0/query': 'attn.qkv',
  'MultiHeadDotProductAttention_0/key': 'attn.qkv',
  'MultiHeadDotProductAttention_0/value': 'attn.qkv',
  'MlpBlock_0/Dense_0': 'mlp.fc1',
  'MlpBlock_0/Dense_1': 'mlp.fc2',
  'embedding': 'patch_embed.proj',
  'cls': 'cls_token',
  'kernel': 'weight',
  'scale': 'weight',
  '/': '.',
}


def _rename(name: str, names: Mapping[str, str]) -> str:
  for old, new in names.items():
    name = name.replace(old, new)
  return name


def _augreg_sources(
  wanted: Mapping[str, Any], entries: Entries
) -> dict[str, _Source]:
  pre_linen = any('/MlpBlock_3/' in name for name in entries)
  names = _PRE_LINEN_NAMES if pre_linen else {}
  return {
    target: _Source(_rename(target, names), leaf.shape, _as_is)
    for target, leaf in wanted.items()
  }


def _timm_source(target: str, shape: Shape) -> _Source:
  name = _rename(target, _TIMM_NAMES)
  *_, module, leaf = ['', *target.split('/')]
  if module in ('query', 'key', 'value'):
    # One matrix, output first: rows are (query, key, value) x heads x depth.
    part = ('query', 'key', 'value').index(module)
    *inputs, heads, depth = shape

    def split(fused: np.ndarray) -> np.ndarray:
      x = fused.reshape(3, heads, depth, *inputs)[part]
      return np.moveaxis(x, -1, 0) if inputs else x

    return _Source(name, (3 * heads * depth, *inputs), split)
  if target == 'embedding/kernel':
    h, w, channels, d = shape
    return _Source(name, (d, channels, h, w), lambda x: x.transpose(2, 3, 1, 0))
  if leaf == 'kernel':
    *inputs, d = shape  # Inputs of the attention's output: heads and depth.
    rows = (d, math.prod(inputs))
    return _Source(name, rows, lambda x: x.T.reshape(shape))
  return _Source(name, shape, _as_is)


def _as_is(x: np.ndarray) -> np.ndarray:
  return x


def _side(shape: Shape) -> int:
  return math.isqrt(shape[1] - 1)


# --- Comparison of the file with the parameters ---


def _check_fit(
  path: Path,
  entries: Entries,
  sources: Mapping[str, _Source],
  kernel_shape: Shape,
) -> None:
  """Raises UserError with the differences between file and parameters, if any."""
  expected = {source.name: source.shape for source in sources.values()}
  classifier = re.compile(r'(head|pre_logits)[./]')
  missing = [name for name in expected if name not in entries]
  unexpected = [
    name
    for name in entries
    if name not in expected and not classifier.match(name)
  ]
  positions = sources[_POSITIONS].name
  misshaped = [
    f'{name} is {_describe(entries[name])}, not {_times(shape)}'
    for name, shape in expected.items()
    if name in entries
    and not (
      _fits(entries[name], shape)
      or (name == positions and _fits_grid(entries[name], shape))
    )
  ]
  differences = {
    'missing': missing,
    'unexpected': unexpected,
    'mis-shaped': misshaped,
  }
  if any(differences.values()):
    lists = '; '.join(
      f'{kind}: {_some(names)}' for kind, names in differences.items() if names
    )
    raise UserError(
      f'{path} does not fit the ViT ({lists}); '
      + _advice(entries, kernel_shape)
    )


def _fits(array: np.ndarray, shape: Shape) -> bool:
  return jnp.issubdtype(array.dtype, jnp.floating) and array.shape == shape


def _fits_grid(array: np.ndarray, shape: Shape) -> bool:
  """Whether it is of a square grid, of any side."""
  return (
    array.ndim == 3
    and array.shape[1] > 1
    and _fits(array, (1, 1 + _side(array.shape) ** 2, shape[-1]))
  )


def _advice(entries: Entries, kernel_shape: Shape) -> str:
  for name in ('embedding/kernel', 'patch_embed.proj.weight'):
    shape = entries[name].shape if name in entries else ()
    for variant, sizes in vit.VARIANTS.items():
      kernel = {3, sizes.patch, sizes.width}  # The order depends on the format.
      if set(shape) == kernel and set(kernel_shape) != kernel:
        return f'set config.model.vit.variant to {variant!r}'
  return (
    'set config.train.vit_weights to a plain ViT of config.model.vit.variant '
    'from AugReg or timm'
  )


def _some(names: list[str], limit: int = 8) -> str:
  rest = len(names) - limit
  return ', '.join(names[:limit]) + (f' and {rest} more' if rest > 0 else '')


def _describe(array: np.ndarray) -> str:
  floating = jnp.issubdtype(array.dtype, jnp.floating)
  return _times(array.shape) + ('' if floating else f' {array.dtype}')


def _times(shape: Shape) -> str:
  return 'x'.join(map(str, shape)) or 'a scalar'
