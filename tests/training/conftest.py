"""The initial state that the tests of training share."""

import jax
import optax
import pytest
import tiny_training

from vitexco_jax.training import train


@pytest.fixture(scope='session')
def initial_state():
  """A training state with all groups of parameters."""
  config = tiny_training.make_config('adversarial')
  optimizer = optax.MultiSteps(optax.sgd(1.0), 1)
  return jax.jit(lambda: train.init_state(config, optimizer))()
