"""Loading of random ViT weights with public names and shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import plain_vit
import pytest
from flax import traverse_util
from written_weights import write_safetensors, write_torch

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.models import vit
from vitexco_jax.pretrained import vit_weights

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


def _assert_same_forward(loaded, variant, plain, weights, gelu, size=(32, 48)):
  """The network with loaded weights equals a plain forward pass with the file."""
  image = np.random.default_rng(1).uniform(-1, 1, (1, *size, 3))
  actual = _apply(variant, gelu)({'params': loaded}, image)
  heads = vit.VARIANTS[variant].heads
  streams, embedding = plain(weights, image, gelu, heads)
  for tap, stream in zip(actual.taps, (streams[0], streams[-1]), strict=True):
    picture = stream[:, 1:].reshape(tap.shape)
    np.testing.assert_allclose(tap, picture, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(actual.embedding, embedding, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  ('variant', 'sizes'), [('Ti/16', _TINY), ('test/16', _TEST)]
)
def test_augreg_weights_agree_with_numpy(tmp_path, variant, sizes):
  linen = _augreg(sizes, *_LINEN)
  pre_linen = _augreg(sizes, *_PRE_LINEN)
  for weights in (linen, pre_linen):
    np.savez(tmp_path / 'Ti_16.npz', **weights)
    loaded = _load(tmp_path / 'Ti_16.npz', _template(variant))
    # Both were filled in the same order, so `linen` has the same numbers.
    _assert_same_forward(
      loaded, variant, plain_vit.forward_scenic, linen, 'tanh'
    )


@pytest.mark.parametrize('suffix', ['safetensors', 'pth', 'bin'])
@pytest.mark.parametrize(
  ('variant', 'sizes'), [('Ti/16', _TINY), ('test/16', _TEST)]
)
def test_timm_weights_agree_with_numpy(tmp_path, suffix, variant, sizes):
  weights = _timm(sizes)
  path = tmp_path / f'vit.{suffix}'
  write = write_safetensors if suffix == 'safetensors' else write_torch
  write(path, weights)
  loaded = _load(path, _template(variant))
  _assert_same_forward(loaded, variant, plain_vit.forward_timm, weights, 'erf')
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(loaded))


def test_other_floats_become_float32(tmp_path):
  half = {name: x.astype(np.float16) for name, x in _timm(_TEST).items()}
  write_safetensors(tmp_path / 'half.safetensors', half, 'F16')
  single = {name: x.astype(np.float32) for name, x in half.items()}
  write_safetensors(tmp_path / 'single.safetensors', single)
  actual, expected = (
    _load(tmp_path / f'{name}.safetensors', _template())
    for name in ('half', 'single')
  )
  jax.tree.map(np.testing.assert_array_equal, actual, expected)
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(actual))


@pytest.mark.parametrize('side', [6, 24])
@pytest.mark.parametrize('suffix', ['npz', 'safetensors'])
def test_positions_keep_the_grid_of_the_file(tmp_path, side, suffix):
  sizes = (*_TEST[:-1], side * side + 1)
  path = tmp_path / f'v.{suffix}'
  if suffix == 'npz':
    weights, plain = _augreg(sizes, *_LINEN), plain_vit.forward_scenic
    np.savez(path, **weights)
  else:
    weights, plain = _timm(sizes), plain_vit.forward_timm
    write_safetensors(path, weights)
  assert vit_weights.position_grid(path) == side
  loaded = _load(path, _template())
  gelu = 'tanh' if suffix == 'npz' else 'erf'
  # Grids of 6x6 and 2x3 tokens, between those of the weights.
  for size in ((96, 96), (32, 48)):
    _assert_same_forward(loaded, 'test/16', plain, weights, gelu, size)


def test_every_difference_is_listed(tmp_path):
  weights = _timm(_TEST)
  del weights['blocks.1.mlp.fc2.bias']
  weights['dist_token'] = np.zeros((1, 1, 32), np.float32)
  weights['blocks.0.attn.proj.weight'] = np.zeros((32, 33), np.float32)
  weights['pos_embed'] = np.zeros((1, 198, 32), np.float32)
  path = tmp_path / 'v.safetensors'
  write_safetensors(path, weights)
  with pytest.raises(UserError) as error:
    _load(path, _template())
  message = str(error.value)
  assert str(path) in message
  assert 'missing: blocks.1.mlp.fc2.bias;' in message
  assert 'unexpected: dist_token;' in message
  assert 'blocks.0.attn.proj.weight is 32x33, not 32x32' in message
  assert 'pos_embed is 1x198x32, not 1x197x32' in message
  assert 'config.train.vit_weights' in message


@pytest.mark.parametrize('positions', [0, 1, 3])
def test_positions_without_a_grid_are_refused(tmp_path, positions):
  path = tmp_path / 'v.safetensors'
  write_safetensors(path, _timm((*_TEST[:-1], positions)))
  assert vit_weights.position_grid(path) in (0, 1)
  with pytest.raises(UserError, match=f'pos_embed is 1x{positions}x32, not'):
    _load(path, _template())


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


def test_integers_are_refused(tmp_path):
  weights = _augreg(_TEST, *_LINEN)
  weights['cls'] = np.zeros((1, 1, 32), np.int32)
  np.savez(tmp_path / 'v.npz', **weights)
  with pytest.raises(UserError, match='cls is 1x1x32 int32, not 1x1x32'):
    _load(tmp_path / 'v.npz', _template())


def test_the_variant_to_set_is_named(tmp_path):
  small = _timm((384, 6, 1, 1536, 197))
  write_safetensors(tmp_path / 'v.safetensors', small)
  np.savez(tmp_path / 'v.npz', **_augreg(_TEST, *_LINEN))
  for name, variant in (('v.safetensors', 'S/16'), ('v.npz', 'test/16')):
    with pytest.raises(
      UserError, match=f"set config.model.vit.variant to '{variant}'"
    ):
      _load(tmp_path / name, _template('Ti/16'))


def test_files_that_cannot_be_read_name_the_setting(tmp_path):
  with pytest.raises(UserError, match='config.train.vit_weights: .*none.npz'):
    _load(tmp_path / 'none.npz', _template())


def test_the_form_of_gelu_to_set_is_named(tmp_path):
  np.savez(tmp_path / 'v.npz', **_augreg(_TEST, *_LINEN))
  write_safetensors(tmp_path / 'v.safetensors', _timm(_TEST))
  for name, given, needed in (
    ('v.npz', 'erf', 'tanh'),
    ('v.safetensors', 'tanh', 'erf'),
  ):
    with pytest.raises(
      UserError, match=f"set config.model.vit.gelu to '{needed}'"
    ):
      vit_weights.load_vit_weights(tmp_path / name, _template(), given)


def test_all_leaves_of_the_tree_are_loaded(tmp_path):
  np.savez(tmp_path / 'v.npz', **_augreg(_TEST, *_PRE_LINEN))
  loaded = _load(tmp_path / 'v.npz', _template())
  flat = traverse_util.flatten_dict(loaded, sep='/')
  expected = traverse_util.flatten_dict(_template(), sep='/')
  assert {name: x.shape for name, x in flat.items()} == {
    name: x.shape for name, x in expected.items()
  }


def test_a_vit_that_never_learns_is_refused():
  for changed, refused in (
    ({}, True),
    ({'train.vit_weights': 'Ti_16.npz'}, False),
    ({'train.init': 'runs/warm'}, False),
    ({'train.learning_rate.vit': 1e-4}, False),
  ):
    config = get_config('paper')
    config.update_from_flattened_dict(changed)
    if not refused:
      vit_weights.check_trained(config.train, config.model.vit.variant)
      continue
    with pytest.raises(UserError) as error:
      vit_weights.check_trained(config.train, config.model.vit.variant)
    for way in (
      '`config.train.vit_weights=FILE`',
      '.npz',
      'timm',
      '`mode=pretrain`',
      '`config.train.init=',
      '`config.train.learning_rate.vit=',
    ):
      assert way in str(error.value)
