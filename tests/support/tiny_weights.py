"""An export of random `:tiny` weights that give visible colors."""

import jax
import numpy as np
from flax import traverse_util

from configs.vitexco import get_config
from vitexco_jax import checkpoint
from vitexco_jax.generator import abstract_params
from vitexco_jax.models import vit


def _draw(shapes):
  """Returns random arrays of these shapes; drawing them compiles nothing."""
  rng = np.random.default_rng(0)

  def draw(x):
    fan_in = max(1, int(np.prod(x.shape[:-1])))
    return rng.normal(size=x.shape).astype(np.float32) / fan_in**0.5

  return jax.tree.map(draw, shapes)


def write(path, alike=False):
  """Writes the export.

  Args:
    path: of its folder.
    alike: whether a picture matches itself best: theta and phi are the same.
  """
  config = get_config('tiny')
  params = _draw(abstract_params(config))
  out = params['colorizer']['output']
  out['kernel'], out['bias'] = 0.1 * out['kernel'], 0.1 * out['bias']
  if alike:
    matching = params['correspondence']
    matching['phi'] = matching['theta']
  checkpoint.export(path, params, config)


def write_vit(path, grid=14):
  """Writes weights for the ViT of both tiny variants under AugReg's names."""
  model = vit.VisionTransformer('test/16', taps=(1,), pos_grid=grid)
  image = np.zeros((1, 32, 32, 3), np.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(1), image)['params']
  np.savez(path, **traverse_util.flatten_dict(_draw(shapes), sep='/'))
