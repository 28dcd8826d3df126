"""A tiny config, random crops, small teachers, and the parts of pretraining."""

import contextlib
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from configs.vitexco import get_config
from vitexco_jax.generator import make_generator
from vitexco_jax.pretrained import vgg16
from vitexco_jax.training import crops, loop, pretrain, pretrain_objective

NUM_PICTURES = 70


def make_config(**values):
  """`:tiny` without records; `values` are those of `config.pretrain`."""
  config = get_config('tiny')
  config.data.records = 'nowhere'
  config.model.feature_transform.kind = 'subpixel'
  config.pretrain.update(values)
  return config


def random_crops(n, seed=0):
  """Crops of 32x48 pixels; every second one is shown in gray."""
  rng = np.random.default_rng(seed)
  rgb = rng.integers(0, 256, (n, 4, 6, 3)).repeat(8, 1).repeat(8, 2)
  return crops.Crops(np.uint8(rgb), np.arange(n) % 2 == 0)


def make_select(config):
  """Returns the function that selects the parameters that learn."""
  trains_vit = not config.train.vit_weights
  return functools.partial(pretrain.learned_params, config.pretrain, trains_vit)


def make_init(config, optimizer):
  """Returns the function that creates the initial state."""
  return functools.partial(
    pretrain.init_state,
    make_generator(config),
    optimizer,
    make_select(config),
    bool(config.pretrain.weights.maps),
    config.data.size,
    config.seed,
  )


def make_compare(config):
  trains_vit = not config.train.vit_weights
  return pretrain_objective.make_compare(
    make_generator(config), config.pretrain, trains_vit
  )


def make_step(config, optimizer):
  weights = config.pretrain.weights
  loss = pretrain.make_loss(make_compare(config), weights, loop.AXIS)
  return pretrain.make_step(
    loss, make_select(config), config.pretrain, optimizer, loop.AXIS
  )


def make_feed(config, collection, batch_size):
  return crops.make_feed(
    collection,
    config.pretrain,
    config.augment.flip,
    config.data,
    config.seed,
    batch_size,
  )


@contextlib.contextmanager
def small_teachers():
  """Replaces VGG16 and EfficientNet, which are slow, by small networks."""
  rng = np.random.default_rng(0)

  def layer(c_in, c_out):
    kernel = rng.normal(0, (2 / 9 / c_in) ** 0.5, (3, 3, c_in, c_out))
    return {'kernel': np.float32(kernel), 'bias': np.zeros(c_out, np.float32)}

  def make_teacher(width):
    directions = jax.random.normal(jax.random.key(1), (6, width))

    def embed(rgb):  # The mean colors of two halves.
      x = rgb.reshape(len(rgb), 2, -1, 3).mean(2).reshape(len(rgb), 6)
      x = x @ directions
      return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    return embed

  channels = (6, 8, 8, 8, 8)
  params, c_in = {}, 3
  for name in vgg16._NAMES:
    c_out = channels[int(name[4]) - 1]
    params[name] = layer(c_in, c_out)
    c_in = c_out
  with (
    mock.patch.object(vgg16, 'CHANNELS', channels),
    mock.patch.object(vgg16, 'load_vgg16', lambda: params),
    mock.patch.object(pretrain_objective, 'make_teacher', make_teacher),
  ):
    yield
