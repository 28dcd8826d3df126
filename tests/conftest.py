"""Fixtures of all tests; JAX has two CPU devices, so that pmap is tested."""

import importlib.metadata
import logging
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Compilation takes most of the time. Programs are compiled with few
# optimizations (a sixth of the time) and are stored for all tests, workers, and
# child processes of a run.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
# Later releases lack this flag, and XLA stops at unknown ones.
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  os.environ['XLA_FLAGS'] = ' '.join(
    [os.environ.get('XLA_FLAGS', ''), '--xla_cpu_use_fusion_emitters=false']
  )
if 'PYTEST_XDIST_WORKER' not in os.environ:
  _programs = tempfile.TemporaryDirectory()  # Removed when the run ends.
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _programs.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 2)

_TESTS = Path(__file__).resolve().parent
sys.path[:0] = map(str, (_TESTS.parent, _TESTS / 'support', _TESTS / 'trials'))


@pytest.fixture(scope='session', autouse=True)
def messages():
  """Messages of the library are printed, as by the command line."""
  from vitexco_jax.cli import messages

  messages.show_log()
  logging.getLogger('vitexco_jax').propagate = True  # For `caplog`.


@pytest.fixture(scope='session')
def tiny_weights(tmp_path_factory):
  """An export of random `:tiny` weights, which give visible colors."""
  import tiny_weights

  path = tmp_path_factory.mktemp('weights') / 'tiny'
  tiny_weights.write(path)
  return path
