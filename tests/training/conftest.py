"""Pictures and initial states that the tests of training share."""

import cv2
import jax
import numpy as np
import optax
import pytest
import tiny_pretraining
import tiny_training

from vitexco_jax.media import video
from vitexco_jax.training import pretrain


@pytest.fixture(scope='session')
def initial_state():
  """A training state with all groups of parameters."""
  config = tiny_training.make_config('adversarial')
  optimizer = optax.MultiSteps(optax.sgd(1.0), 1)
  return jax.jit(tiny_training.make_init(config, optimizer))()


@pytest.fixture(scope='module')
def small_teachers():
  with tiny_pretraining.small_teachers():
    yield


@pytest.fixture(scope='session')
def pretrain_state():
  """The initial state of pretraining with `small_teachers`."""
  config = tiny_pretraining.make_config()
  optimizer = pretrain.make_optimizer(config.pretrain)
  with tiny_pretraining.small_teachers():
    return jax.jit(tiny_pretraining.make_init(config, optimizer))()


@pytest.fixture(scope='session')
def images(tmp_path_factory):
  """A folder tree of smooth pictures, each with its own color."""
  folder = tmp_path_factory.mktemp('images')
  rng = np.random.default_rng(0)
  for i in range(tiny_pretraining.NUM_PICTURES):
    noise = rng.uniform(0, 255, (4, 6, 3)) * 0.5 + rng.uniform(0, 127, 3)
    rgb = cv2.resize(noise, (60, 40), interpolation=cv2.INTER_CUBIC)
    path = folder / f'{i % 3}' / f'{i}.png'
    path.parent.mkdir(exist_ok=True)
    video.write_image(path, np.uint8(rgb.clip(0, 255)))
  return folder
