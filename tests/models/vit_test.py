"""The ViT against a plain numpy forward pass."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import plain_vit
import pytest
from flax import traverse_util

from vitexco_jax.errors import UserError
from vitexco_jax.models import vit

_HEADS = 2  # Of test/16.


def _shapes(variant, **fields):
  model = vit.VisionTransformer(variant, taps=(1,), **fields)
  image = jnp.zeros((1, 32, 32, 3))
  return jax.eval_shape(model.init, jax.random.key(0), image)['params']


def _made_up_params(seed=0):
  """All leaves are random, so that the test notices each of them."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
    _shapes('test/16'),
  )


def _image(h, w, b=2, seed=1):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (b, h, w, 3)).astype(np.float32)


@pytest.mark.parametrize(
  ('gelu', 'grid'),
  [('tanh', (2, 3)), ('erf', (3, 2)), ('tanh', (14, 14)), ('tanh', (1, 17))],
)
def test_taps_are_the_streams_after_the_blocks(gelu, grid):
  params = _made_up_params()
  image = _image(grid[0] * 16, grid[1] * 16)
  model = vit.VisionTransformer('test/16', taps=(2, 1, 1), gelu=gelu)
  output = jax.jit(model.apply)({'params': params}, image)

  streams, embedding = plain_vit.forward_scenic(
    traverse_util.flatten_dict(params, sep='/'), image, gelu, _HEADS
  )
  for tap, block in zip(output.taps, (2, 1, 1), strict=True):
    picture = streams[block - 1][:, 1:].reshape(2, *grid, 32)
    np.testing.assert_allclose(tap, picture, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(output.embedding, embedding, rtol=1e-4, atol=1e-4)


def test_a_hybrid_uses_each_position_of_a_map_as_a_patch():
  """With the pixels of each patch as channels, it equals the plain ViT."""
  params = _made_up_params()
  image = _image(32, 48)
  plain = vit.VisionTransformer('test/16', taps=(1,))
  hybrid = vit.VisionTransformer('test/16', taps=(1,), input_stride=16)
  places = image.reshape(2, 2, 16, 3, 16, 3).swapaxes(2, 3).reshape(2, 2, 3, -1)
  kernel = params['embedding']['kernel']
  folded = params | {
    'embedding': params['embedding'] | {'kernel': kernel.reshape(1, 1, 768, -1)}
  }
  want = jax.jit(plain.apply)({'params': params}, image)
  actual = jax.jit(hybrid.apply)({'params': folded}, places)
  np.testing.assert_allclose(actual.taps[0], want.taps[0], rtol=1e-4, atol=1e-4)


def test_the_two_gelus_differ_by_more_than_the_tolerance_above():
  flat = traverse_util.flatten_dict(_made_up_params(), sep='/')
  image = _image(32, 48)
  tanh, erf = (
    plain_vit.forward_scenic(flat, image, gelu, _HEADS)[0][1]
    for gelu in ('tanh', 'erf')
  )
  assert abs(tanh - erf).max() > 1e-3


@pytest.mark.parametrize('grid', [(14, 24), (24, 14), (7, 12), (5, 31)])
def test_position_embeddings_are_resized_bilinearly(grid):
  places = np.random.default_rng(0).normal(size=(14, 14, 4))
  actual = vit.resize_grid(jnp.asarray(places, jnp.float32), grid)
  np.testing.assert_allclose(
    actual, plain_vit.resize_bilinear(places, grid), atol=1e-5
  )


def test_position_embeddings_are_unchanged_at_their_grid():
  places = np.random.default_rng(0).normal(size=(14, 14, 4))
  places = places.astype(np.float32)
  np.testing.assert_array_equal(vit.resize_grid(places, (14, 14)), places)


@pytest.mark.parametrize(
  ('variant', 'count'),  # Of timm's models without head.
  [
    ('Ti/16', 5_524_416),
    ('Ti/8', 5_526_720),
    ('S/16', 21_665_664),
    ('S/8', 21_670_272),
    ('B/16', 85_798_656),
    ('B/8', 85_807_872),
  ],
)
def test_public_variants_have_their_parameter_counts(variant, count):
  assert sum(x.size for x in jax.tree.leaves(_shapes(variant))) == count


def test_names_and_shapes_are_those_of_scenic():
  block = {
    'LayerNorm_0/scale': (192,),
    'LayerNorm_0/bias': (192,),
    'MultiHeadDotProductAttention_0/query/kernel': (192, 3, 64),
    'MultiHeadDotProductAttention_0/query/bias': (3, 64),
    'MultiHeadDotProductAttention_0/key/kernel': (192, 3, 64),
    'MultiHeadDotProductAttention_0/key/bias': (3, 64),
    'MultiHeadDotProductAttention_0/value/kernel': (192, 3, 64),
    'MultiHeadDotProductAttention_0/value/bias': (3, 64),
    'MultiHeadDotProductAttention_0/out/kernel': (3, 64, 192),
    'MultiHeadDotProductAttention_0/out/bias': (192,),
    'LayerNorm_1/scale': (192,),
    'LayerNorm_1/bias': (192,),
    'MlpBlock_0/Dense_0/kernel': (192, 768),
    'MlpBlock_0/Dense_0/bias': (768,),
    'MlpBlock_0/Dense_1/kernel': (768, 192),
    'MlpBlock_0/Dense_1/bias': (192,),
  }
  expected = {
    'cls': (1, 1, 192),
    'embedding/kernel': (16, 16, 3, 192),
    'embedding/bias': (192,),
    'Transformer/posembed_input/pos_embedding': (1, 197, 192),
    'Transformer/encoder_norm/scale': (192,),
    'Transformer/encoder_norm/bias': (192,),
  } | {
    f'Transformer/encoderblock_{i}/{name}': shape
    for i in range(12)
    for name, shape in block.items()
  }
  flat = traverse_util.flatten_dict(_shapes('Ti/16'), sep='/')
  assert {name: leaf.shape for name, leaf in flat.items()} == expected


def test_bfloat16_is_close_to_float32():
  params, image = {'params': _made_up_params()}, _image(32, 48)
  outputs = {}
  for dtype in (jnp.float32, jnp.bfloat16):
    model = vit.VisionTransformer('test/16', taps=(1, 2), dtype=dtype)
    outputs[dtype] = jax.jit(model.apply)(params, image)
  for exact, rough in zip(
    jax.tree.leaves(outputs[jnp.float32]),
    jax.tree.leaves(outputs[jnp.bfloat16]),
    strict=True,
  ):
    assert rough.dtype == jnp.float32
    error = jnp.sqrt(jnp.mean((exact - rough) ** 2))
    assert 0 < error < 0.02 * jnp.std(exact)


def test_bfloat16_leaves_softmax_and_norms_in_float32():
  model = vit.VisionTransformer('test/16', taps=(1, 2), dtype=jnp.bfloat16)
  params = {'params': _made_up_params()}
  jaxpr = str(jax.make_jaxpr(model.apply)(params, _image(32, 48)))
  for operation in ('exp', 'rsqrt'):
    dtypes = re.findall(rf':(\w+)\[[\d,]*\] = {operation} ', jaxpr)
    assert set(dtypes) == {'f32'}
  assert 'bf16' in jaxpr


def test_blocks_after_the_last_tap_are_not_computed():
  model = vit.VisionTransformer('test/16', taps=(1,))
  variables = {'params': _made_up_params()}

  def flops(function):
    compiled = jax.jit(function).lower(variables, _image(64, 64)).compile()
    return compiled.cost_analysis()['flops']

  only_taps = flops(lambda v, image: model.apply(v, image).taps)
  products_of_a_block = 2 * (2 * 17) * (4 * 32 * 32 + 2 * 32 * 64)
  assert flops(model.apply) - only_taps > products_of_a_block


def test_normalize_spans_minus_one_to_one():
  rgb = jnp.array([0.0, 0.5, 1.0])
  np.testing.assert_array_equal(vit.normalize(rgb), [-1, 0, 1])


def test_sides_that_are_not_multiples_of_the_patch_are_refused():
  model = vit.VisionTransformer('test/16', taps=(1,))
  with pytest.raises(UserError, match='40x64, but .* multiples of 16'):
    model.init(jax.random.key(0), jnp.zeros((1, 40, 64, 3)))


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'variant': 'Ti/32'}, 'vit.variant=Ti/32 must be one of Ti/16, '),
    ({'taps': (1, 3)}, 'vit.taps=.1, 3. must be .* from 1 to 2'),
    ({'taps': (0,)}, 'vit.taps=.0,. must be .* from 1 to 2'),
  ],
)
def test_settings_out_of_range_are_named(settings, message):
  model = vit.VisionTransformer(
    **{'variant': 'test/16', 'taps': (1,)} | settings
  )
  with pytest.raises(UserError, match=message):
    model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
