"""Comparison with Scenic's ViT for the same parameters."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from vitexco_jax.models import vit


def _scenic_is_installed():
  try:  # `scenic` may be the unrelated package from PyPI.
    return importlib.util.find_spec('scenic.model_lib') is not None
  except ImportError:
    return False


pytestmark = [
  pytest.mark.skipif(
    not _scenic_is_installed(),
    reason='google-research/scenic is not installed: requirements/scenic.txt',
  ),
  pytest.mark.filterwarnings('default'),  # From its own imports.
]

_SIZES = vit.VARIANTS['test/16']
_SIDE = 3


def _scenic_vit():
  """Scenic's ViT, whose classifier keeps the width, and its parameters."""
  import ml_collections
  from scenic.projects.baselines import vit as scenic_vit

  model = scenic_vit.ViT(
    num_classes=_SIZES.width,
    mlp_dim=_SIZES.mlp,
    num_layers=_SIZES.blocks,
    num_heads=_SIZES.heads,
    patches=ml_collections.ConfigDict({'size': (_SIZES.patch,) * 2}),
    hidden_size=_SIZES.width,
    classifier='token',
  )
  image = jnp.zeros((1, _SIDE * _SIZES.patch, _SIDE * _SIZES.patch, 3))
  shapes = jax.eval_shape(
    lambda key: model.init(key, image, train=False), jax.random.key(0)
  )['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes
  )
  params['output_projection'] = {
    'kernel': np.eye(_SIZES.width, dtype=np.float32),
    'bias': np.zeros(_SIZES.width, np.float32),
  }
  return model, params


def _is_block(module, _):
  return (module.name or '').startswith('encoderblock_')


def test_one_tree_gives_the_same_streams_and_embedding():
  expected, params = _scenic_vit()
  side = _SIDE * _SIZES.patch
  image = np.random.default_rng(1).uniform(-1, 1, (2, side, side, 3))
  image = image.astype(np.float32)
  embedding, recorded = expected.apply(
    {'params': params},
    image,
    train=False,
    capture_intermediates=_is_block,
    mutable='intermediates',
  )

  actual = vit.VisionTransformer('test/16', taps=(1, 2), pos_grid=_SIDE)
  backbone = {k: v for k, v in params.items() if k != 'output_projection'}
  output = actual.apply({'params': backbone}, image)
  np.testing.assert_allclose(output.embedding, embedding, rtol=1e-4, atol=1e-4)
  blocks = recorded['intermediates']['Transformer']
  for i, tap in enumerate(output.taps):
    (stream,) = blocks[f'encoderblock_{i}']['__call__']
    np.testing.assert_allclose(
      tap, stream[:, 1:].reshape(tap.shape), rtol=1e-4, atol=1e-4
    )


def test_the_names_and_shapes_are_the_same():
  _, params = _scenic_vit()
  params.pop('output_projection')
  actual = vit.VisionTransformer('test/16', taps=(1,), pos_grid=_SIDE)
  shapes = jax.eval_shape(
    actual.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
  )['params']
  assert {
    name: leaf.shape
    for name, leaf in traverse_util.flatten_dict(params, sep='/').items()
  } == {
    name: leaf.shape
    for name, leaf in traverse_util.flatten_dict(shapes, sep='/').items()
  }
