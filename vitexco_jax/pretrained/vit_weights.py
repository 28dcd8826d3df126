"""The door for pretrained ViT weights, in the three formats they come in.

`load_vit_weights` reads Google's AugReg `.npz` (pre-Linen or Linen names) or a
timm state dict as `.safetensors` or as torch's `.pth`/`.bin`, and returns the
tree that `models/vit.py` uses. The classifier (`head`, `pre_logits`) is left
behind, position embeddings keep the grid that they were learned on, and all else
must match: what is missing, unexpected or mis-shaped is listed.
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
  """Loads a ViT's weights.

  Args:
    path: an AugReg `.npz`, or a timm `.safetensors`, `.pth` or `.bin`.
    params: the `params` of a `vit.VisionTransformer`, for names and shapes;
      arrays or `jax.ShapeDtypeStruct`.
    gelu: the form that the ViT computes; AugReg's weights need `tanh`, timm's
      `erf`.

  Returns:
    The file's weights, float32, in a tree of the same names and shapes, but for
    the number of positions, which is the file's.

  Raises:
    UserError: the file is missing, damaged or unsafe, or does not fit.
  """
  path = Path(path)
  entries = _read(path)
  wanted = traverse_util.flatten_dict(params, sep='/')
  if path.suffix == '.npz':
    sources = _augreg_sources(wanted, entries)
    made_for = 'tanh'
  else:
    sources = {ours: _timm_source(ours, wanted[ours].shape) for ours in wanted}
    made_for = 'erf'
  _check_fit(path, entries, sources, wanted['embedding/kernel'].shape)
  if gelu != made_for:
    raise UserError(
      f'the weights in {path} are for the other form of GELU: set '
      f'config.model.vit.gelu to {made_for!r}'
    )
  tree = {
    ours: np.ascontiguousarray(
      source.convert(entries[source.name].astype(np.float32))
    )
    for ours, source in sources.items()
  }
  return traverse_util.unflatten_dict(tree, sep='/')


def position_grid(path: str | Path) -> int:
  """Side of the square grid of a file's position embeddings; 0: it has none.

  Raises:
    UserError: the file is missing, damaged or unsafe.
  """
  entries = _read(Path(path))
  for name in (_POSITIONS, _TIMM_NAMES[_POSITIONS]):
    if name in entries and entries[name].ndim == 3 and entries[name].shape[1]:
      return _side(entries[name].shape)
  return 0


def check_trained(config: ml_collections.ConfigDict, more: str = '') -> None:
  """Checks that the ViT is trained, or going to be.

  Args:
    config: the run's.
    more: another way out, to be told with the others.

  Raises:
    UserError: it is neither.
  """
  train = config.train
  if train.vit_weights or train.init or train.learning_rate.vit:
    return
  raise UserError(
    f'the ViT {config.model.vit.variant} has never been trained, and is frozen: '
    "give it weights by --config.train.vit_weights=FILE (AugReg's .npz, or timm's "
    '.safetensors or .pth with --config.model.vit.gelu=erf), start from a run of '
    '--mode=pretrain by --config.train.init=WORKDIR, or let it learn by '
    '--config.train.learning_rate.vit=1e-4' + (f', {more}' if more else '')
  )


def _read(path: Path) -> Entries:
  try:
    return weight_files.read(path)
  except UserError as error:
    raise UserError(f'config.train.vit_weights: {error}') from error


# --- What each of our parameters is called and shaped in a file ---


class _Source(NamedTuple):
  """Where a parameter comes from."""

  name: str
  shape: Shape
  convert: Callable[[np.ndarray], np.ndarray]


_POSITIONS = 'Transformer/posembed_input/pos_embedding'

# Flax numbered all modules of a block in one row before Linen.
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
  for ours, theirs in names.items():
    name = name.replace(ours, theirs)
  return name


def _augreg_sources(
  wanted: Mapping[str, Any], entries: Entries
) -> dict[str, _Source]:
  pre_linen = any('/MlpBlock_3/' in name for name in entries)
  names = _PRE_LINEN_NAMES if pre_linen else {}
  return {
    ours: _Source(_rename(ours, names), leaf.shape, _as_is)
    for ours, leaf in wanted.items()
  }


def _timm_source(ours: str, shape: Shape) -> _Source:
  name = _rename(ours, _TIMM_NAMES)
  *_, module, leaf = ['', *ours.split('/')]
  if module in ('query', 'key', 'value'):
    # Fused, output first: rows are (query, key, value) x heads x depth.
    part = ('query', 'key', 'value').index(module)
    *inputs, heads, depth = shape

    def split(fused):
      x = fused.reshape(3, heads, depth, *inputs)[part]
      return np.moveaxis(x, -1, 0) if inputs else x

    return _Source(name, (3 * heads * depth, *inputs), split)
  if ours == 'embedding/kernel':
    h, w, channels, d = shape
    return _Source(name, (d, channels, h, w), lambda x: x.transpose(2, 3, 1, 0))
  if leaf == 'kernel':
    *inputs, d = shape  # Heads and depth for the attention's output.
    rows = (d, math.prod(inputs))
    return _Source(name, rows, lambda x: x.T.reshape(shape))
  return _Source(name, shape, _as_is)


def _as_is(x: np.ndarray) -> np.ndarray:
  return x


def _side(shape: Shape) -> int:
  return math.isqrt(shape[1] - 1)


# --- Does the file fit? ---


def _check_fit(
  path: Path,
  entries: Entries,
  sources: Mapping[str, _Source],
  kernel_shape: Shape,
):
  """Raises UserError with every difference between file and tree."""
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
  found = {
    'missing': missing,
    'unexpected': unexpected,
    'mis-shaped': misshaped,
  }
  if any(found.values()):
    lists = '; '.join(
      f'{kind}: {_some(names)}' for kind, names in found.items() if names
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
      marks = {3, sizes.patch, sizes.width}  # In either format's order.
      if set(shape) == marks and set(kernel_shape) != marks:
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
