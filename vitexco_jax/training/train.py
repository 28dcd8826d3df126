"""Training, Sec. III-D and IV: read `train` from top to bottom.

The step is a pure function of (state, clips). One forward pass serves both
networks: the generator's losses treat the discriminator's parameters as constants,
the discriminator's loss treats the prediction as a constant, and their sum is
differentiated once, with respect to the parameters that learn. The step runs on all
devices of all hosts with `pmap`; gradients are averaged over devices, then
accumulated over micro-steps by `optax.MultiSteps`. Checkpoints, logs and
interruptions are the task of `loop.py`.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from vitexco_jax import color
from vitexco_jax.checkpoint import (
  check_params,
  load_params,
  with_position_grid,
)
from vitexco_jax.config import check
from vitexco_jax.data import input_pipeline
from vitexco_jax.errors import UserError
from vitexco_jax.generator import make_generator
from vitexco_jax.media import image_grid
from vitexco_jax.models.discriminator import Discriminator
from vitexco_jax.pretrained import efficientnet_weights, vit_weights
from vitexco_jax.structs import Clips
from vitexco_jax.training import following, forward, loop, multihost, objective
from vitexco_jax.training.loop import AXIS


class TrainState(NamedTuple):
  """The state of a run without the data feed."""

  micro_step: jax.Array  # Number of completed micro-steps.
  params: dict[str, Any]  # By group: the generator's and `discriminator`.
  optimizer: optax.MultiStepsState  # Of the groups that learn.
  spectral: dict[str, Any]  # Power-iteration vectors of the discriminator.
  key: jax.Array  # Raw random key; each micro-step folds its number in.


@multihost.report_lost_hosts()
def train(config: ml_collections.ConfigDict, workdir: Path) -> None:
  """Trains for `config.train.updates`; resumes the run in `workdir`, if any.

  Raises:
    UserError, KeyboardInterrupt: as `loop.run`.
  """
  loop.check_same_config(config)
  host, num_hosts = jax.process_index(), jax.process_count()
  with multihost.failing_together():
    check(config)
    size = micro_batch_size(config, jax.local_device_count() * num_hosts)
    vit_weights.check_trained(config)
    config = with_position_grid(config)
    feed = input_pipeline.make_iterator(config, size, host, num_hosts)
    optimizer = make_optimizer(config)
    step = make_step(config, optimizer, AXIS)
  preview = jax.jit(functools.partial(forward.generate, make_generator(config)))
  loop.run(
    config,
    'train',
    workdir,
    feed,
    init=functools.partial(init_state, config, optimizer),
    load=functools.partial(load_initial_weights, config),
    step=step,
    draw=functools.partial(draw_strip, preview),
    measure=functools.partial(following.measure, preview),
  )


def micro_batch_size(config: ml_collections.ConfigDict, devices: int) -> int:
  """Clips in a micro-step on all devices of all hosts together.

  Raises:
    UserError: the batch cannot be divided evenly among micro-steps and devices,
      another number is out of its range, or nothing would learn.
  """
  size = loop.micro_batch_size(config, 'train', devices)
  temperature = config.model.correspondence.temperature
  if not temperature:  # A softmax of temperature 0 has no gradient.
    raise UserError(
      f'config.model.correspondence.temperature={temperature} must be above 0'
    )
  for name, values in (
    ('loss.weights', config.loss.weights),
    ('train.learning_rate', config.train.learning_rate),
  ):
    if not any(values.values()):
      raise UserError(f'config.{name} are all 0: nothing would be learned')
  return size


def split_params(
  config: ml_collections.ConfigDict, params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Splits parameters by group into those that learn and frozen ones.

  A group learns if its learning rate is above 0. Frozen groups get no gradient and
  take no part in the state of the optimizer.
  """
  rates = config.train.learning_rate
  learning = {group: x for group, x in params.items() if rates[group] > 0}
  frozen = {group: x for group, x in params.items() if not rates[group] > 0}
  return learning, frozen


def make_optimizer(config: ml_collections.ConfigDict) -> optax.MultiSteps:
  """AdamW for each group that learns, with accumulated gradients (Sec. IV)."""
  transforms = {
    group: optax.adamw(
      schedule(config, group),
      b1=config.train.b1,
      b2=config.train.b2,
      weight_decay=config.train.weight_decay,
    )
    for group, rate in config.train.learning_rate.items()
    if rate > 0
  }

  def labels(learning: Mapping[str, Any]) -> dict[str, str]:
    return {group: group for group in learning}

  return optax.MultiSteps(
    optax.partition(transforms, labels), config.train.accumulation
  )


def schedule(
  config: ml_collections.ConfigDict, group: str
) -> Callable[[int], float]:
  """The learning rate of a group by update: constant, or polynomial to 0."""
  rate = config.train.learning_rate[group]
  return optax.polynomial_schedule(
    rate, 0.0, config.train.schedule_power, config.train.updates
  )


def init_state(
  config: ml_collections.ConfigDict, optimizer: optax.MultiSteps
) -> TrainState:
  """Creates the initial state."""
  key = jax.random.key(config.seed)
  image = jnp.zeros((1, *config.data.size, 3))
  params = make_generator(config).init(jax.random.fold_in(key, 0), image)
  params = params['params']
  spectral = {}
  if config.loss.weights.adversarial:
    variables = Discriminator(**config.model.discriminator).init(
      jax.random.fold_in(key, 1), jnp.concatenate([image, image], -1)
    )
    params['discriminator'] = variables['params']
    spectral = variables['batch_stats']
  learning, _ = split_params(config, params)
  return TrainState(
    micro_step=jnp.zeros((), jnp.int32),
    params=params,
    optimizer=optimizer.init(learning),
    spectral=spectral,
    key=jax.random.key_data(jax.random.fold_in(key, 2)),
  )


def load_initial_weights(
  config: ml_collections.ConfigDict, state: loop.S
) -> loop.S:
  """Loads the weights of `config.train.init` and `config.train.vit_weights`.

  Without `init`, a stem gets its pretrained weights. Groups without weights keep
  their initial values.

  Raises:
    UserError: weights cannot be read, or do not fit the architecture.
  """
  params = dict(state.params)
  if config.train.init:
    loaded = load_params(config.train.init)
    expected = forward.generator_params(params)
    for name in ('prior', 'colorizer'):  # Some exports have none.
      if name not in loaded:
        expected.pop(name, None)
    check_params(loaded, expected, f'config.train.init={config.train.init}')
    params |= loaded
  elif config.model.stem:
    pretrained = efficientnet_weights.load_efficientnet_lite0()
    params['stem'] = {name: pretrained[name] for name in params['stem']}
  if config.train.vit_weights:
    if config.model.stem:
      raise UserError(
        f'config.train.vit_weights={config.train.vit_weights} are of a ViT that '
        'sees pixels: set `config.model.stem=` as well'
      )
    params['vit'] = vit_weights.load_vit_weights(
      config.train.vit_weights, params['vit'], config.model.vit.gelu
    )
  return state._replace(params=params)


def make_step(
  config: ml_collections.ConfigDict,
  optimizer: optax.MultiSteps,
  axis: str,
) -> Callable[[TrainState, Clips], tuple[TrainState, dict[str, jax.Array]]]:
  """Makes the training step, to be pmapped over `axis`.

  It returns the new state and the metrics: each loss as `raw/NAME` and
  `weighted/NAME`, their sum `loss`, the share of each in the sum of the generator's
  losses as `share/NAME`, and of each group that learns `gradient_norm/GROUP` and
  `learning_rate/GROUP`.
  """
  terms = objective.make_terms(config, axis)
  weights = config.loss.weights

  def loss(
    learning: dict[str, Any],
    frozen: dict[str, Any],
    spectral: Mapping[str, Any],
    clips: Clips,
    key: jax.Array,
  ) -> tuple[jax.Array, tuple[Any, ...]]:
    raw, spectral = terms(frozen | learning, spectral, clips, key)
    weighted = {
      name: value * weights.get(name, 1.0) for name, value in raw.items()
    }
    return sum(weighted.values()), (raw, weighted, spectral)

  def step(
    state: TrainState, clips: Clips
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.wrap_key_data(state.key)
    key = jax.random.fold_in(key, state.micro_step)
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    learning, frozen = split_params(config, state.params)
    (total, (raw, weighted, spectral)), gradients = jax.value_and_grad(
      loss, has_aux=True
    )(learning, frozen, state.spectral, clips, key)
    gradients, total, raw, weighted = jax.lax.pmean(
      (gradients, total, raw, weighted), axis
    )
    metrics = {'loss': total, **_loss_metrics(raw, weighted)}
    for group, gradient in gradients.items():
      metrics[f'gradient_norm/{group}'] = optax.tree.norm(gradient)
      metrics[f'learning_rate/{group}'] = schedule(config, group)(
        state.optimizer.gradient_step
      )
    updates, optimizer_state = optimizer.update(
      gradients, state.optimizer, learning
    )
    return TrainState(
      state.micro_step + 1,
      frozen | optax.apply_updates(learning, updates),
      optimizer_state,
      spectral,
      state.key,
    ), metrics

  return step


def _loss_metrics(
  raw: Mapping[str, jax.Array], weighted: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """Losses for the log, with the shares of the generator's losses."""
  generator = {
    name: value for name, value in weighted.items() if name != 'discriminator'
  }
  total = jnp.maximum(sum(generator.values()), 1e-12)
  return {
    **{f'raw/{name}': value for name, value in raw.items()},
    **{f'weighted/{name}': value for name, value in weighted.items()},
    **{f'share/{name}': value / total for name, value in generator.items()},
  }


def draw_strip(
  preview: Callable[[Mapping[str, Any], Clips], forward.Generated],
  params: Mapping[str, Any],
  clips: Clips,
) -> np.ndarray:
  """Draws a contact sheet of the last frame of each clip.

  Args:
    preview: colorizes clips.
    params: by group.
    clips: [b, t, h, w, ...].

  Returns:
    [h, w, 3] uint8: a column for each clip, with reference, frame, warped
    color, confidence, prediction and truth.
  """
  generated = preview(params, clips)
  last = jax.tree.map(lambda x: np.asarray(x)[:, -1], generated)

  def paint(ab: np.ndarray) -> np.ndarray:
    lab = np.concatenate([last.lab[..., :1], ab], -1)
    rgb = color.fade_to_rgb(color.uncenter(jnp.asarray(lab)))
    return np.asarray(jnp.round(rgb * 255), np.uint8)

  confidence = np.clip(last.guidance.confidence, 0, 1).repeat(3, -1) * 255
  rows = {
    'reference': clips.reference,
    'frame': paint(np.zeros_like(last.ab)),
    'warped': paint(last.guidance.warped_ab),
    'confidence': confidence.astype(np.uint8),
    'prediction': paint(last.ab),
    'truth': clips.rgb[:, -1],
  }
  return image_grid.draw(list(rows.values()), list(rows))
