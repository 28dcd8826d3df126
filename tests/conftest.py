"""Fixtures of all tests; JAX has two CPU devices, so that pmap is tested."""

import logging
import os
import sys
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update('jax_num_cpu_devices', 2)

_TESTS = Path(__file__).resolve().parent
sys.path[:0] = map(str, (_TESTS.parent, _TESTS / 'support', _TESTS / 'trials'))


@pytest.fixture(scope='session', autouse=True)
def messages():
  """Messages of the library are printed, as by the command line."""
  from vitexco_jax.cli import messages

  messages.show_log()
  logging.getLogger('vitexco_jax').propagate = True  # For `caplog`.


@pytest.fixture(scope='module')
def quick_compiler(tmp_path_factory):
  """Compiles faster and with fewer optimizations, for whole training steps."""
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
  """An export of random `:tiny` weights, which give visible colors."""
  import tiny_weights

  path = tmp_path_factory.mktemp('weights') / 'tiny'
  tiny_weights.write(path)
  return path
