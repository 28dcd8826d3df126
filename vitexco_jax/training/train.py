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
from collections.abc import Callable, Mapping, Sequence
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
from vitexco_jax.generator import make_discriminator, make_generator
from vitexco_jax.media import image_grid
from vitexco_jax.models.discriminator import Discriminator
from vitexco_jax.models.vitexco import Generator
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
    settings = config.train
    devices = jax.local_device_count() * num_hosts
    size = loop.micro_batch_size(settings, 'train', devices)
    check_learns(config.model, config.loss.weights, settings.learning_rate)
    vit_weights.check_trained(settings, config.model.vit.variant)
    config = with_position_grid(config)
    generator = make_generator(config)
    discriminator = make_discriminator(config)
    feed = input_pipeline.make_iterator(
      input_pipeline.open_records(
        config.data, settings.clip_length, config.variant
      ),
      settings.clip_length,
      config.data,
      config.augment,
      generator.flow_alpha,
      config.seed,
      batch_size=size,
      host=host,
      hosts=num_hosts,
    )
    optimizer = make_optimizer(settings)
    terms = objective.make_terms(
      generator,
      discriminator,
      config.loss,
      config.augment,
      settings.unroll,
      AXIS,
    )
    step = make_step(terms, config.loss.weights, settings, optimizer, AXIS)
  preview = jax.jit(functools.partial(forward.generate, generator))
  loop.run(
    config,
    'train',
    workdir,
    feed,
    init=functools.partial(
      init_state,
      generator,
      discriminator,
      optimizer,
      settings.learning_rate,
      config.data.size,
      config.seed,
    ),
    load=functools.partial(load_initial_weights, settings, config.model),
    step=step,
    draw=functools.partial(draw_strip, preview),
    measure=functools.partial(following.measure, preview),
  )


def check_learns(
  model: ml_collections.ConfigDict,
  weights: Mapping[str, float],
  rates: Mapping[str, float],
) -> None:
  """Checks that the networks can learn.

  Args:
    model: `config.model`.
    weights: `config.loss.weights`.
    rates: `config.train.learning_rate`.

  Raises:
    UserError: there is no gradient, or nothing would learn.
  """
  temperature = model.correspondence.temperature
  if not temperature:  # A softmax of temperature 0 has no gradient.
    raise UserError(
      f'config.model.correspondence.temperature={temperature} must be above 0'
    )
  for name, values in (
    ('loss.weights', weights),
    ('train.learning_rate', rates),
  ):
    if not any(values.values()):
      raise UserError(f'config.{name} are all 0: nothing would be learned')


def split_params(
  rates: Mapping[str, float], params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Splits parameters by group into those that learn and frozen ones.

  A group learns if its learning rate is above 0. Frozen groups get no gradient and
  take no part in the state of the optimizer.

  Args:
    rates: `config.train.learning_rate`.
    params: by group.
  """
  learning = {group: x for group, x in params.items() if rates[group] > 0}
  frozen = {group: x for group, x in params.items() if not rates[group] > 0}
  return learning, frozen


def make_optimizer(settings: ml_collections.ConfigDict) -> optax.MultiSteps:
  """AdamW for each group that learns, with accumulated gradients (Sec. IV)."""
  transforms = {
    group: optax.adamw(
      schedule(settings, group),
      b1=settings.b1,
      b2=settings.b2,
      weight_decay=settings.weight_decay,
    )
    for group, rate in settings.learning_rate.items()
    if rate > 0
  }

  def labels(learning: Mapping[str, Any]) -> dict[str, str]:
    return {group: group for group in learning}

  return optax.MultiSteps(
    optax.partition(transforms, labels), settings.accumulation
  )


def schedule(
  settings: ml_collections.ConfigDict, group: str
) -> Callable[[int], float]:
  """The learning rate of a group by update: constant, or polynomial to 0."""
  rate = settings.learning_rate[group]
  return optax.polynomial_schedule(
    rate, 0.0, settings.schedule_power, settings.updates
  )


def init_state(
  generator: Generator,
  discriminator: Discriminator | None,
  optimizer: optax.MultiSteps,
  rates: Mapping[str, float],
  size: Sequence[int],
  seed: int,
) -> TrainState:
  """Creates the initial state.

  Args:
    generator: the network.
    discriminator: the other one; None: it is not trained.
    optimizer: of `make_optimizer`.
    rates: `config.train.learning_rate`.
    size: (height, width) of the frames.
    seed: of the initial parameters and of the run.
  """
  key = jax.random.key(seed)
  image = jnp.zeros((1, *size, 3))
  params = generator.init(jax.random.fold_in(key, 0), image)['params']
  spectral = {}
  if discriminator is not None:
    variables = discriminator.init(
      jax.random.fold_in(key, 1), jnp.concatenate([image, image], -1)
    )
    params['discriminator'] = variables['params']
    spectral = variables['batch_stats']
  learning, _ = split_params(rates, params)
  return TrainState(
    micro_step=jnp.zeros((), jnp.int32),
    params=params,
    optimizer=optimizer.init(learning),
    spectral=spectral,
    key=jax.random.key_data(jax.random.fold_in(key, 2)),
  )


def load_initial_weights(
  settings: ml_collections.ConfigDict,
  model: ml_collections.ConfigDict,
  state: loop.S,
) -> loop.S:
  """Loads the weights of `config.train.init` and `config.train.vit_weights`.

  Without `init`, a stem gets its pretrained weights. Groups without weights keep
  their initial values.

  Args:
    settings: `config.train`.
    model: `config.model`.
    state: the initial state.

  Raises:
    UserError: weights cannot be read, or do not fit the architecture.
  """
  params = dict(state.params)
  if settings.init:
    loaded = load_params(settings.init)
    expected = forward.generator_params(params)
    for name in ('prior', 'colorizer'):  # Some exports have none.
      if name not in loaded:
        expected.pop(name, None)
    check_params(loaded, expected, f'config.train.init={settings.init}')
    params |= loaded
  elif model.stem:
    pretrained = efficientnet_weights.load_efficientnet_lite0()
    params['stem'] = {name: pretrained[name] for name in params['stem']}
  if settings.vit_weights:
    if model.stem:
      raise UserError(
        f'config.train.vit_weights={settings.vit_weights} are of a ViT that '
        'sees pixels: set `config.model.stem=` as well'
      )
    params['vit'] = vit_weights.load_vit_weights(
      settings.vit_weights, params['vit'], model.vit.gelu
    )
  return state._replace(params=params)


def make_step(
  terms: objective.Terms,
  weights: Mapping[str, float],
  settings: ml_collections.ConfigDict,
  optimizer: optax.MultiSteps,
  axis: str,
) -> Callable[[TrainState, Clips], tuple[TrainState, dict[str, jax.Array]]]:
  """Makes the training step, to be pmapped over `axis`.

  It returns the new state and the metrics: each loss as `raw/NAME` and
  `weighted/NAME`, their sum `loss`, the share of each in the sum of the generator's
  losses as `share/NAME`, and of each group that learns `gradient_norm/GROUP` and
  `learning_rate/GROUP`.

  Args:
    terms: the losses of a batch.
    weights: `config.loss.weights`.
    settings: `config.train`.
    optimizer: of `make_optimizer`.
    axis: the name of the mapped axis of devices.
  """

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
    return jnp.asarray(sum(weighted.values())), (raw, weighted, spectral)

  def step(
    state: TrainState, clips: Clips
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.wrap_key_data(state.key)
    key = jax.random.fold_in(key, state.micro_step)
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    learning, frozen = split_params(settings.learning_rate, state.params)
    (total, (raw, weighted, spectral)), gradients = jax.value_and_grad(
      loss, has_aux=True
    )(learning, frozen, state.spectral, clips, key)
    gradients, total, raw, weighted = jax.lax.pmean(
      (gradients, total, raw, weighted), axis
    )
    metrics = {'loss': total, **_loss_metrics(raw, weighted)}
    for group, gradient in gradients.items():
      metrics[f'gradient_norm/{group}'] = optax.tree.norm(gradient)
      metrics[f'learning_rate/{group}'] = schedule(settings, group)(
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
