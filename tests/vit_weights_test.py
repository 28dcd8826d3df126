"""Weight files of the public names and shapes, made up and written by hand."""

import functools
import json
import pickle
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import plain_vit
import pytest
from flax import traverse_util

from vitexco_jax import vit_weights
from vitexco_jax.errors import UserError
from vitexco_jax.models import vit

# Width, heads, blocks, MLP and the positions of the public 224x224 models.
_TINY = (192, 3, 12, 768, 197)
_TEST = (32, 2, 2, 64, 197)


def _fill(shapes, seed=0):
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal('norm' in name.lower(), 0.1, shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def _augreg(sizes, attention, norm, mlp_block):
  """An AugReg file, with the names of a block's numbered modules."""
  d, heads, blocks, mlp, positions = sizes
  shapes = {
    'cls': (1, 1, d),
    'embedding/kernel': (16, 16, 3, d),
    'embedding/bias': (d,),
    'head/kernel': (d, 1000),
    'head/bias': (1000,),
    'pre_logits/kernel': (d, d),
    'pre_logits/bias': (d,),
    'Transformer/encoder_norm/scale': (d,),
    'Transformer/encoder_norm/bias': (d,),
    'Transformer/posembed_input/pos_embedding': (1, positions, d),
  }
  for i in range(blocks):
    block = f'Transformer/encoderblock_{i}'
    for name in ('LayerNorm_0', norm):
      shapes[f'{block}/{name}/scale'] = (d,)
      shapes[f'{block}/{name}/bias'] = (d,)
    for name in ('query', 'key', 'value'):
      shapes[f'{block}/{attention}/{name}/kernel'] = (d, heads, d // heads)
      shapes[f'{block}/{attention}/{name}/bias'] = (heads, d // heads)
    shapes[f'{block}/{attention}/out/kernel'] = (heads, d // heads, d)
    shapes[f'{block}/{attention}/out/bias'] = (d,)
    shapes[f'{block}/{mlp_block}/Dense_0/kernel'] = (d, mlp)
    shapes[f'{block}/{mlp_block}/Dense_0/bias'] = (mlp,)
    shapes[f'{block}/{mlp_block}/Dense_1/kernel'] = (mlp, d)
    shapes[f'{block}/{mlp_block}/Dense_1/bias'] = (d,)
  return _fill(shapes)


_LINEN = ('MultiHeadDotProductAttention_0', 'LayerNorm_1', 'MlpBlock_0')
_PRE_LINEN = ('MultiHeadDotProductAttention_1', 'LayerNorm_2', 'MlpBlock_3')


def _timm(sizes):
  """A state dict of timm's vit_*_patch16_224."""
  d, _, blocks, mlp, positions = sizes
  shapes = {
    'cls_token': (1, 1, d),
    'pos_embed': (1, positions, d),
    'patch_embed.proj.weight': (d, 3, 16, 16),
    'patch_embed.proj.bias': (d,),
  }
  for i in range(blocks):
    shapes |= {
      f'blocks.{i}.norm1.weight': (d,),
      f'blocks.{i}.norm1.bias': (d,),
      f'blocks.{i}.attn.qkv.weight': (3 * d, d),
      f'blocks.{i}.attn.qkv.bias': (3 * d,),
      f'blocks.{i}.attn.proj.weight': (d, d),
      f'blocks.{i}.attn.proj.bias': (d,),
      f'blocks.{i}.norm2.weight': (d,),
      f'blocks.{i}.norm2.bias': (d,),
      f'blocks.{i}.mlp.fc1.weight': (mlp, d),
      f'blocks.{i}.mlp.fc1.bias': (mlp,),
      f'blocks.{i}.mlp.fc2.weight': (d, mlp),
      f'blocks.{i}.mlp.fc2.bias': (d,),
    }
  shapes |= {
    'norm.weight': (d,),
    'norm.bias': (d,),
    'head.weight': (1000, d),
    'head.bias': (1000,),
  }
  return _fill(shapes)


def _write_safetensors(path, weights, dtype='F32'):
  header, body = {'__metadata__': {'format': 'pt'}}, b''
  for name, array in weights.items():
    data = array.tobytes()
    header[name] = {
      'dtype': dtype,
      'shape': array.shape,
      'data_offsets': [len(body), len(body) + len(data)],
    }
    body += data
  head = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(head)) + head + body)


# The pickle of a state dict, opcode by opcode, as torch.save writes it.


def _text(text):
  return b'X' + struct.pack('<I', len(text)) + text.encode()


def _tuple(*numbers):
  items = b''.join(b'J' + struct.pack('<i', number) for number in numbers)
  return b'(' + items + b't'


_ORDERED_DICT = b'ccollections\nOrderedDict\n)R'
_STORAGES = {
  '<f4': b'ctorch\nFloatStorage\n',
  '<f2': b'ctorch\nHalfStorage\n',
}


def _storage(key, kind, count):
  return (
    b'('
    + _text('storage')
    + kind
    + _text(key)
    + _text('cpu')
    + b'J'
    + struct.pack('<i', count)
    + b'tQ'
  )


def _tensor(storage, offset, size, stride):
  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n('
    + storage
    + b'J'
    + struct.pack('<i', offset)
    + _tuple(*size)
    + _tuple(*stride)
    + b'\x89'
    + _ORDERED_DICT
    + b'tR'
  )


def _parameter(tensor):
  return (
    b'ctorch._utils\n_rebuild_parameter\n('
    + tensor
    + b'\x88'
    + _ORDERED_DICT
    + b'tR'
  )


def _strides(array):
  return [step // array.itemsize for step in array.strides]


def _state_dict(items):
  pairs = b''.join(_text(name) + value for name, value in items.items())
  metadata = b'}' + _text('_metadata') + _ORDERED_DICT + b'sb'
  return b'\x80\x02' + _ORDERED_DICT + b'(' + pairs + b'u' + metadata + b'.'


def _write_archive(path, pickled, storages):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', pickled)
    for key, data in storages.items():
      archive.writestr(f'archive/data/{key}', data)
    archive.writestr('archive/version', '3\n')


def _write_torch(path, weights, kind=_STORAGES['<f4'], wrap=lambda x: x):
  items, storages = {}, {}
  for i, (name, array) in enumerate(weights.items()):
    storage = _storage(str(i), kind, array.size)
    items[name] = wrap(_tensor(storage, 0, array.shape, _strides(array)))
    storages[str(i)] = array.tobytes()
  _write_archive(path, _state_dict(items), storages)


def _load(path, params):
  gelu = 'tanh' if path.suffix == '.npz' else 'erf'
  return vit_weights.load_vit_weights(path, params, gelu)


def _template(variant='test/16', **fields):
  model = vit.VisionTransformer(variant, taps=(1,), **fields)
  image = jnp.zeros((1, 32, 32, 3))
  return jax.eval_shape(model.init, jax.random.key(0), image)['params']


@functools.cache
def _apply(variant, gelu):
  taps = (1, vit.VARIANTS[variant].blocks)
  return jax.jit(vit.VisionTransformer(variant, taps=taps, gelu=gelu).apply)


def _assert_same_forward(loaded, variant, plain, weights, gelu):
  """Ours with the loaded weights is the plain forward pass with the file's."""
  image = np.random.default_rng(1).uniform(-1, 1, (1, 32, 48, 3))
  ours = _apply(variant, gelu)({'params': loaded}, image)
  heads = vit.VARIANTS[variant].heads
  streams, embedding = plain(weights, image, gelu, heads)
  for tap, stream in zip(ours.taps, (streams[0], streams[-1]), strict=True):
    picture = stream[:, 1:].reshape(tap.shape)
    np.testing.assert_allclose(tap, picture, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(ours.embedding, embedding, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  ('variant', 'sizes'), [('Ti/16', _TINY), ('test/16', _TEST)]
)
def test_augreg_gives_the_plain_forward_pass(tmp_path, variant, sizes):
  linen = _augreg(sizes, *_LINEN)
  pre_linen = _augreg(sizes, *_PRE_LINEN)
  for weights in (linen, pre_linen):
    np.savez(tmp_path / 'Ti_16.npz', **weights)
    loaded = _load(tmp_path / 'Ti_16.npz', _template(variant))
    # Both were filled in the same order: `linen` holds the same numbers.
    _assert_same_forward(
      loaded, variant, plain_vit.forward_scenic, linen, 'tanh'
    )


@pytest.mark.parametrize('suffix', ['safetensors', 'pth', 'bin'])
@pytest.mark.parametrize(
  ('variant', 'sizes'), [('Ti/16', _TINY), ('test/16', _TEST)]
)
def test_timm_gives_the_plain_forward_pass(tmp_path, suffix, variant, sizes):
  weights = _timm(sizes)
  path = tmp_path / f'vit.{suffix}'
  write = _write_safetensors if suffix == 'safetensors' else _write_torch
  write(path, weights)
  loaded = _load(path, _template(variant))
  _assert_same_forward(loaded, variant, plain_vit.forward_timm, weights, 'erf')
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(loaded))


def _assert_same_params(path, weights):
  """A file holds what the same weights as a plain .safetensors hold."""
  plain = path.parent / 'plain.safetensors'
  _write_safetensors(
    plain, {name: x.astype(np.float32) for name, x in weights.items()}
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    _load(path, _template()),
    _load(plain, _template()),
  )


def test_torch_parameters_are_taken_as_their_tensors(tmp_path):
  path = tmp_path / 'vit.bin'
  _write_torch(path, _timm(_TEST), wrap=_parameter)
  _assert_same_params(path, _timm(_TEST))


def test_torch_views_of_one_storage_are_followed(tmp_path):
  weights = _timm(_TEST)
  items, storage, offset = {}, b'', 0
  total = sum(array.size for array in weights.values())
  for name, array in weights.items():
    turned = array.T  # Written in the other order, with strides to match.
    items[name] = _tensor(
      _storage('0', _STORAGES['<f4'], total),
      offset,
      array.shape,
      _strides(np.ascontiguousarray(turned))[::-1],
    )
    storage += turned.tobytes()
    offset += array.size
  _write_archive(tmp_path / 'v.pth', _state_dict(items), {'0': storage})
  _assert_same_params(tmp_path / 'v.pth', weights)


@pytest.mark.parametrize(
  ('dtype', 'short', 'kind'),
  [
    (np.float16, 'F16', b'ctorch\nHalfStorage\n'),
    (jnp.bfloat16, 'BF16', b'ctorch\nBFloat16Storage\n'),
    (np.float64, 'F64', b'ctorch\nDoubleStorage\n'),
  ],
)
def test_other_floats_become_float32(tmp_path, dtype, short, kind):
  weights = {name: x.astype(dtype) for name, x in _timm(_TEST).items()}
  _write_torch(tmp_path / 'v.pth', weights, kind)
  _assert_same_params(tmp_path / 'v.pth', weights)
  _write_safetensors(tmp_path / 'v.safetensors', weights, short)
  _assert_same_params(tmp_path / 'v.safetensors', weights)


@pytest.mark.parametrize('side', [6, 24])
def test_positions_of_another_size_are_resized(tmp_path, side):
  weights = _timm((*_TEST[:-1], side * side + 1))
  _write_safetensors(tmp_path / 'v.safetensors', weights)
  loaded = _load(tmp_path / 'v.safetensors', _template(pos_grid=14))
  ours = loaded['Transformer']['posembed_input']['pos_embedding']
  theirs = weights['pos_embed']
  np.testing.assert_array_equal(ours[:, 0], theirs[:, 0])
  places = theirs[0, 1:].reshape(side, side, -1)
  np.testing.assert_allclose(
    ours[0, 1:].reshape(14, 14, -1),
    plain_vit.resize_bilinear(places, (14, 14)),
    atol=1e-5,
  )


def test_every_difference_is_listed(tmp_path):
  weights = _timm(_TEST)
  del weights['blocks.1.mlp.fc2.bias']
  weights['dist_token'] = np.zeros((1, 1, 32), np.float32)
  weights['blocks.0.attn.proj.weight'] = np.zeros((32, 33), np.float32)
  weights['pos_embed'] = np.zeros((1, 198, 32), np.float32)
  path = tmp_path / 'v.safetensors'
  _write_safetensors(path, weights)
  with pytest.raises(UserError) as error:
    _load(path, _template())
  message = str(error.value)
  assert str(path) in message
  assert 'missing: blocks.1.mlp.fc2.bias;' in message
  assert 'unexpected: dist_token;' in message
  assert 'blocks.0.attn.proj.weight is 32x33, not 32x32' in message
  assert 'pos_embed is 1x198x32, not 1x197x32' in message
  assert 'config.train.vit_weights' in message


def test_mixed_names_of_augreg_are_refused(tmp_path):
  weights = _augreg(_TEST, *_PRE_LINEN)
  block = 'Transformer/encoderblock_0'
  weights[f'{block}/LayerNorm_1/bias'] = weights.pop(
    f'{block}/LayerNorm_2/bias'
  )
  np.savez(tmp_path / 'v.npz', **weights)
  with pytest.raises(
    UserError,
    match=f'missing: {block}/LayerNorm_2/bias; '
    f'unexpected: {block}/LayerNorm_1/bias',
  ):
    _load(tmp_path / 'v.npz', _template())


def test_integers_are_no_weights(tmp_path):
  weights = _augreg(_TEST, *_LINEN)
  weights['cls'] = np.zeros((1, 1, 32), np.int32)
  np.savez(tmp_path / 'v.npz', **weights)
  with pytest.raises(UserError, match='cls is 1x1x32 int32, not 1x1x32'):
    _load(tmp_path / 'v.npz', _template())


def test_the_variant_to_set_is_named(tmp_path):
  small = _timm((384, 6, 1, 1536, 197))
  _write_safetensors(tmp_path / 'v.safetensors', small)
  np.savez(tmp_path / 'v.npz', **_augreg(_TEST, *_LINEN))
  for name, variant in (('v.safetensors', 'S/16'), ('v.npz', 'test/16')):
    with pytest.raises(
      UserError, match=f"set config.model.vit.variant to '{variant}'"
    ):
      _load(tmp_path / name, _template('Ti/16'))


class _Touch:
  """Pickled, an order to make a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), 'w')


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path, protocol):
  marker = tmp_path / 'marker'
  pickled = pickle.dumps({'cls_token': _Touch(marker)}, protocol)
  pickle.loads(pickled)['cls_token'].close()
  assert marker.exists()  # It would have worked.
  marker.unlink()
  _write_archive(tmp_path / 'v.pth', pickled, {})
  with pytest.raises(UserError, match='could run code'):
    _load(tmp_path / 'v.pth', _template())
  assert not marker.exists()


@pytest.mark.parametrize(
  'name',
  ['OrderedDict.fromkeys', 'namedtuple', 'OrderedDict.__init__.__globals__'],
)
def test_neighbours_of_an_admitted_name_are_refused(tmp_path, name):
  pickled = b'\x80\x04' + _text('collections') + _text(name) + b'\x93)R.'
  _write_archive(tmp_path / 'v.pth', pickled, {})
  with pytest.raises(UserError, match='collections.*could run code'):
    _load(tmp_path / 'v.pth', _template())


def test_objects_in_an_npz_are_refused_unrun(tmp_path):
  marker = tmp_path / 'marker'
  np.savez(tmp_path / 'v.npz', cls=np.array([_Touch(marker)], object))
  with pytest.raises(UserError, match='v.npz is damaged'):
    _load(tmp_path / 'v.npz', _template())
  assert not marker.exists()


_EIGHT = _storage('0', _STORAGES['<f4'], 8)


@pytest.mark.parametrize(
  'tensor',
  [
    _tensor(_EIGHT, 1, (8,), (1,)),
    _tensor(_EIGHT, 0, (2, 2), (7, 1)),
    _tensor(_EIGHT, -1, (2,), (1,)),
    _tensor(_EIGHT, 4, (2,), (-1,)),
    _tensor(_EIGHT, 0, (1000, 1000), (0, 0)),
    # A view passed off as a storage: its rows are further apart than it says.
    _tensor(_tensor(_EIGHT, 0, (4, 2), (2, 1)), 3, (4,), (1,)),
    _tensor(_tensor(_EIGHT, 0, (4,), (2,)), 3, (1,), (1,)),
  ],
)
def test_tensors_stay_within_their_storage(tmp_path, tensor):
  pickled = _state_dict({'cls_token': tensor})
  _write_archive(tmp_path / 'v.pth', pickled, {'0': bytes(32)})
  with pytest.raises(UserError, match='beyond its storage'):
    _load(tmp_path / 'v.pth', _template())


@pytest.mark.parametrize('suffix', ['npz', 'safetensors', 'pth'])
def test_damaged_files_are_refused(tmp_path, suffix):
  path = tmp_path / f'v.{suffix}'
  if suffix == 'npz':
    np.savez(path, **_augreg(_TEST, *_LINEN))
  else:
    writer = {'safetensors': _write_safetensors, 'pth': _write_torch}[suffix]
    writer(path, _timm(_TEST))
  whole = path.read_bytes()
  for data in (whole[: len(whole) // 2], b'', b'not weights' * 20):
    path.write_bytes(data)
    with pytest.raises(UserError, match=f'v.{suffix} is damaged'):
      _load(path, _template())


def test_a_training_checkpoint_is_told_from_a_state_dict(tmp_path):
  state = _state_dict({'model': _state_dict({})[2:-1]})
  _write_archive(tmp_path / 'v.pth', state, {})
  with pytest.raises(UserError, match='other than a state dict'):
    _load(tmp_path / 'v.pth', _template())


def test_missing_files_folders_and_unknown_formats_are_named(tmp_path):
  (tmp_path / 'folder.pth').mkdir()
  for name, message in (
    ('none.npz', 'config.train.vit_weights: .*none.npz cannot be opened'),
    ('folder.pth', 'config.train.vit_weights: .*folder.pth cannot be opened'),
    ('vit.onnx', 'vit.onnx, whose format .* .npz, .safetensors, .pth, .bin'),
  ):
    with pytest.raises(UserError, match=message):
      _load(tmp_path / name, _template())


def test_the_form_of_gelu_to_set_is_named(tmp_path):
  np.savez(tmp_path / 'v.npz', **_augreg(_TEST, *_LINEN))
  _write_safetensors(tmp_path / 'v.safetensors', _timm(_TEST))
  for name, given, needed in (
    ('v.npz', 'erf', 'tanh'),
    ('v.safetensors', 'tanh', 'erf'),
  ):
    with pytest.raises(
      UserError, match=f"set config.model.vit.gelu to '{needed}'"
    ):
      vit_weights.load_vit_weights(tmp_path / name, _template(), given)


def test_nothing_of_the_tree_is_left_out(tmp_path):
  np.savez(tmp_path / 'v.npz', **_augreg(_TEST, *_PRE_LINEN))
  loaded = _load(tmp_path / 'v.npz', _template())
  flat = traverse_util.flatten_dict(loaded, sep='/')
  expected = traverse_util.flatten_dict(_template(), sep='/')
  assert {name: x.shape for name, x in flat.items()} == {
    name: x.shape for name, x in expected.items()
  }
