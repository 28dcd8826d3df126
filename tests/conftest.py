"""Every test sees two CPU devices, so that pmap is real."""

import os
import sys
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update('jax_num_cpu_devices', 2)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


@pytest.fixture(scope='module')
def quick_compiler(tmp_path_factory):
  """For whole training steps: compiled with less care, and only once."""
  settings = {
    'jax_disable_most_optimizations': True,
    'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('programs')),
    'jax_persistent_cache_min_compile_time_secs': 0.2,
  }
  before = {name: jax.config.values[name] for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture(scope='session')
def tiny_weights(tmp_path_factory):
  """An export of random `:tiny` weights, with which colours come out lively."""
  import numpy as np

  from configs.vitexco import get_config
  from vitexco_jax import checkpoint

  config = get_config('tiny')
  rng = np.random.default_rng(0)

  def draw(x):
    fan_in = max(1, int(np.prod(x.shape[:-1])))
    return rng.normal(size=x.shape).astype(np.float32) / fan_in**0.5

  params = jax.tree.map(draw, checkpoint.abstract_params(config))
  out = params['colorizer']['out']
  out['kernel'], out['bias'] = 0.05 * out['kernel'], 0.1 * out['bias']
  path = tmp_path_factory.mktemp('weights') / 'tiny'
  checkpoint.export(path, params, config)
  return path
