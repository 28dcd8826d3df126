"""The stem of a hybrid ViT: which networks receive its maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tiny_generator import H, W, make_tiny, random_rgb

from vitexco_jax.models import stem


def test_a_stem_gives_maps_to_vit_decoders_and_matching():
  generator = make_tiny(stem='efficientnet_lite0')
  shapes = jax.eval_shape(generator.init, jax.random.key(0), random_rgb(1))
  params = shapes['params']
  assert 'conv_head' not in params['stem']
  assert params['vit']['embedding']['kernel'].shape == (1, 1, 112 + 192, 32)
  laterals = {
    name: x['lateral']['kernel'].shape[0]
    for name, x in params['feature_transform'].items()
    if 'lateral' in x
  }
  assert laterals == {'level2': 16, 'level3': 24, 'level4': 40, 'level5': 304}
  keys = jax.eval_shape(
    functools.partial(generator.apply, method='encode_reference'),
    shapes,
    random_rgb(1),
  ).keys
  assert keys.shape == (1, H * W // 16, 16 + 24 + 40 + 112 + 192)


def test_laterals_are_normalized_and_the_coarsest_ones_joined():
  rng = np.random.default_rng(0)
  pyramid = [
    jnp.asarray(rng.normal(3.0, 2.0, (1, 64 // s, 32 // s, c)), jnp.bfloat16)
    for s, c in ((2, 4), (4, 5), (8, 6), (16, 7), (32, 8))
  ]
  laterals = stem.make_laterals(pyramid)
  assert laterals[0] is None
  assert [x.shape for x in laterals[1:]] == [
    (1, 32, 16, 4),
    (1, 16, 8, 5),
    (1, 8, 4, 6),
    (1, 4, 2, 15),
  ]
  for x in laterals[1:]:
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(laterals[1].std(-1), 1, atol=1e-3)
