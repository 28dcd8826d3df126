"""Builds the networks that a config describes."""

import json
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitexco_jax import traces
from vitexco_jax.errors import UserError
from vitexco_jax.models import settings
from vitexco_jax.models.discriminator import Discriminator
from vitexco_jax.models.motion import Motion
from vitexco_jax.models.vitexco import Generator


def make_generator(
  config: ml_collections.ConfigDict, in_use: bool = False
) -> Generator:
  """Builds the generator that `config.model` describes.

  Args:
    config: the whole config.
    in_use: whether it matches at `config.use.temperature`, and
      `config.use.matched_cells` if references are divided into cells; otherwise it
      matches at the temperature of the training.

  Raises:
    UserError: a setting is invalid; names it with its prefix `config.`.
  """
  model = config.model.to_dict()
  del model['discriminator']
  model['mixture']['anchor_weight'] = config.use.anchor
  if in_use:
    model['correspondence']['temperature'] = config.use.temperature
    model['correspondence']['cells'] = config.use.matched_cells
  motion = Motion(**model.pop('motion'))
  generator = Generator(**model, motion=motion)
  try:
    settings.check(generator)
  except UserError as error:
    raise UserError(f'config.model.{error}') from error
  return generator


def make_discriminator(
  config: ml_collections.ConfigDict,
) -> Discriminator | None:
  """Builds the discriminator, or returns None if its loss has no weight."""
  if not config.loss.weights.adversarial:
    return None
  dtype = jnp.dtype(config.model.dtype)
  return Discriminator(**config.model.discriminator, dtype=dtype)


def abstract_params(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the shapes and dtypes of the generator's parameters."""
  generator = make_generator(config)
  size = 1, *config.data.size, 3

  def trace() -> bytes:
    image = jax.ShapeDtypeStruct(size, np.float32)
    key = jax.random.key(0)
    params = jax.eval_shape(generator.init, key, image)['params']
    flat = flax.traverse_util.flatten_dict(params, sep='/')
    listed = {name: (x.shape, x.dtype.name) for name, x in flat.items()}
    return json.dumps(listed).encode()

  stored = json.loads(traces.recall('params', f'{generator} {size}', trace))
  return flax.traverse_util.unflatten_dict(
    {name: jax.ShapeDtypeStruct(*x) for name, x in stored.items()}, sep='/'
  )
