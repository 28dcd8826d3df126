"""An export of random `:tiny` weights, with which colours come out lively."""

import jax
import numpy as np

from configs.vitexco import get_config
from vitexco_jax import checkpoint


def write(path):
  config = get_config('tiny')
  rng = np.random.default_rng(0)

  def draw(x):
    fan_in = max(1, int(np.prod(x.shape[:-1])))
    return rng.normal(size=x.shape).astype(np.float32) / fan_in**0.5

  params = jax.tree.map(draw, checkpoint.abstract_params(config))
  out = params['colorizer']['out']
  out['kernel'], out['bias'] = 0.05 * out['kernel'], 0.1 * out['bias']
  checkpoint.export(path, params, config)
