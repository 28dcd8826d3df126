"""Training, Sec. III-D and IV: read `train` from top to bottom.

The step is a pure function of (state, clips). One forward pass serves both
gradients: the generator's terms see the discriminator's parameters as constants,
the discriminator's term sees the prediction as one, and their sum is
differentiated once. It runs on all devices of all hosts with `pmap`; gradients
are averaged over these, then accumulated over micro-steps by `optax.MultiSteps`.
What goes on around the step, from the first checkpoint to the last, is the loop's
(loop.py).
"""

import functools
import operator
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
  adopt_position_grid,
  check_params,
  load_params,
  make_generator,
)
from vitexco_jax.data import augment, input_pipeline
from vitexco_jax.errors import UserError
from vitexco_jax.media import image_grid
from vitexco_jax.models.discriminator import Discriminator
from vitexco_jax.models.vitexco import Generator, colorize_clip
from vitexco_jax.pretrained import efficientnet_weights, vgg16, vit_weights
from vitexco_jax.structs import Clips, Guidance, Reference
from vitexco_jax.training import following, loop, losses, multihost
from vitexco_jax.training.loop import AXIS


class TrainState(NamedTuple):
  """All that a run needs to go on, but the data feed."""

  micro_step: jax.Array  # How many were taken.
  params: dict[str, Any]  # By group: the generator's and `discriminator`.
  optimizer: optax.MultiStepsState
  spectral: dict[str, Any]  # Power-iteration vectors of the discriminator.
  key: jax.Array  # Raw random key; each micro-step folds its number in.


class Generated(NamedTuple):
  """One forward pass over clips."""

  lab: jax.Array  # [b, t, h, w, 3], the truth, l centered.
  ab: jax.Array  # [b, t, h, w, 2], predicted.
  guidance: Guidance  # Fields [b, t, h, w, c].


@multihost.together()
def train(config: ml_collections.ConfigDict, workdir: Path):
  """Trains until `config.train.updates`, resuming what `workdir` holds.

  Raises:
    UserError, KeyboardInterrupt: as `loop.run`.
  """
  loop.check_same_config(config)
  host, hosts_ = jax.process_index(), jax.process_count()
  with multihost.failing_together():
    vit_weights.check_trained(config)
    adopt_position_grid(config)
    size = micro_batch_size(config, jax.local_device_count() * hosts_)
    feed = input_pipeline.make_iterator(config, size, host, hosts_)
    optimizer = make_optimizer(config)
    step = make_step(config, optimizer, AXIS)
  preview = jax.jit(functools.partial(generate, make_generator(config)))
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
    UserError: micro-steps and devices cannot share the batch evenly, or another
      number cannot be trained with.
  """
  size = loop.micro_batch_size(config, 'train', devices)
  rates = (f'learning_rate.{group}' for group in config.train.learning_rate)
  for name in ('unroll', *rates):
    value = operator.attrgetter(name)(config.train)
    if value < 0:
      raise UserError(f'config.train.{name}={value} must be at least 0')
  above = 'correspondence.temperature', 'discriminator.width'
  for name in above:  # A softmax of temperature 0 has no gradient.
    value = operator.attrgetter(name)(config.model)
    if not value > 0:
      raise UserError(f'config.model.{name}={value} must be above 0')
  augment.check(config.augment)
  if not any(config.loss.weights.values()):
    raise UserError('config.loss.weights are all 0: nothing would be learned')
  return size


def make_optimizer(config: ml_collections.ConfigDict) -> optax.MultiSteps:
  """AdamW for each group of parameters, accumulated (Sec. IV)."""
  transforms = {
    group: optax.adamw(
      schedule(config, group),
      b1=config.train.b1,
      b2=config.train.b2,
      weight_decay=config.train.weight_decay,
    )
    if config.train.learning_rate[group] > 0
    else optax.set_to_zero()
    for group in config.train.learning_rate
  }

  def labels(params):
    return {group: group for group in params}

  return optax.MultiSteps(
    optax.partition(transforms, labels), config.train.accumulation
  )


def schedule(
  config: ml_collections.ConfigDict, group: str
) -> Callable[[int], float]:
  """A group's learning rate by update: constant, or polynomial to zero."""
  rate = config.train.learning_rate[group]
  return optax.polynomial_schedule(
    rate, 0.0, config.train.schedule_power, config.train.updates
  )


def init_state(
  config: ml_collections.ConfigDict, optimizer: optax.MultiSteps
) -> TrainState:
  """A fresh state."""
  key = jax.random.key(config.seed)
  image = jnp.zeros((1, *config.data.size, 3))
  params = make_generator(config).init(jax.random.fold_in(key, 0), image)
  params = params['params']
  spectral = {}
  if config.loss.weights.adversarial:
    made = Discriminator(**config.model.discriminator).init(
      jax.random.fold_in(key, 1), jnp.concatenate([image, image], -1)
    )
    params['discriminator'] = made['params']
    spectral = made['batch_stats']
  return TrainState(
    micro_step=jnp.zeros((), jnp.int32),
    params=params,
    optimizer=optimizer.init(params),
    spectral=spectral,
    key=jax.random.key_data(jax.random.fold_in(key, 2)),
  )


def load_initial_weights(
  config: ml_collections.ConfigDict, state: TrainState
) -> TrainState:
  """Puts `config.train.init` and `config.train.vit_weights` in place."""
  params = dict(state.params)
  if config.train.init:
    found = load_params(config.train.init)
    own = _of_generator(params)
    if 'prior' not in found:  # An earlier export's; a fresh one stays.
      own.pop('prior', None)
    check_params(found, own, f'config.train.init={config.train.init}')
    params |= found
  elif config.model.stem:
    pretrained = efficientnet_weights.load_efficientnet_lite0()
    params['stem'] = {name: pretrained[name] for name in params['stem']}
  if config.train.vit_weights:
    if config.model.stem:
      raise UserError(
        f'config.train.vit_weights={config.train.vit_weights} are of a ViT that '
        'sees pixels: give --config.model.stem= as well'
      )
    params['vit'] = vit_weights.load_vit_weights(
      config.train.vit_weights, params['vit'], config.model.vit.gelu
    )
  return state._replace(params=params)


def _of_generator(params: Mapping[str, Any]) -> dict[str, Any]:
  return {name: x for name, x in params.items() if name != 'discriminator'}


def generate(
  generator: Generator,
  params: Mapping[str, Any],
  clips: Clips,
  degrade: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  unroll: int = 1,
  key: jax.Array | None = None,
) -> Generated:
  """Colors clips.

  Args:
    generator: the networks.
    params: by group.
    clips: [b, t, h, w, ...].
    degrade: of (l [b, t, h, w, 1], key), gives what the networks see of l;
      None: l itself.
    unroll: frames that the scan unrolls.
    key: for `degrade` and dropout; without it there is neither.

  Returns:
    Truth, prediction and guidance.
  """
  train_ = key is not None
  variables = {'params': _of_generator(params)}
  rngs = [{}, {}]
  lab = color.center(color.rgb_to_lab(_unit_range(clips.rgb)))
  luminance = clean = lab[..., :1]
  if train_:
    film, *dropout = jax.random.split(key, 3)
    rngs = [{'dropout': k} for k in dropout]
    if degrade is not None:
      luminance = degrade(luminance, film)
  reference: Reference = generator.apply(
    variables,
    _unit_range(clips.reference),
    train_,
    method='encode_reference',
    rngs=rngs[0],
  )
  guidance = generator.apply(
    variables, luminance, reference, train_, method='guide', rngs=rngs[1]
  )
  first = clips.first_frame[:, None, None, None]
  backward_flow = None
  if generator.blends:
    # The frame before the first, if there is one, is the first itself.
    backward_flow = jnp.pad(
      clips.backward_flow, ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0))
    )
  ab, _ = colorize_clip(
    functools.partial(generator.apply, variables, method='colorize_frame'),
    luminance,
    guidance,
    jnp.where(first, reference.lab, 0.0),
    clean,
    backward_flow,
    unroll=unroll,
  )
  return Generated(lab, ab, guidance)


def _unit_range(rgb: jax.Array) -> jax.Array:
  return rgb.astype(jnp.float32) / 255.0


def make_terms(config: ml_collections.ConfigDict, axis: str | None) -> Callable:
  """Makes `terms(params, spectral, clips, key)`, the losses of Sec. III-D.

  It returns all terms without their weights by name, `discriminator` being that
  of the discriminator, and the new spectral vectors. Terms of weight 0 are left
  out. `axis` is that of the devices, which share the batch.
  """
  generator = make_generator(config)
  discriminator = Discriminator(
    **config.model.discriminator, dtype=jnp.dtype(config.model.dtype)
  )
  weights = config.loss.weights
  if config.loss.features not in ('feature_transform', 'vgg16'):
    raise UserError(
      f'config.loss.features is {config.loss.features!r}; known are '
      'feature_transform, vgg16'
    )
  vgg = vgg16.load_vgg16() if config.loss.features == 'vgg16' else None
  unroll = config.train.unroll
  if not unroll:  # A scan's gradient crawls on XLA's CPU back end.
    cpu = jax.default_backend() == 'cpu'
    unroll = config.train.clip_length if cpu else 1

  def features(params, rgb, levels):
    """What the perceptual and contextual losses look at."""
    if vgg is not None:
      return vgg16.vgg16_features(vgg, rgb, levels)
    frozen = jax.lax.stop_gradient(_of_generator(params))
    return generator.apply({'params': frozen}, rgb, levels, method='features')

  degrade = functools.partial(
    augment.degrade,
    blur=config.augment.blur,
    flicker=config.augment.flicker,
    grain=config.augment.grain,
    luminance_noise=config.augment.luminance_noise,
  )

  def terms(params, spectral, clips, key):
    lab, ab, guidance = generate(generator, params, clips, degrade, unroll, key)
    t = lab.shape[1]

    def frames(x):  # All but the first, batch and time as one axis.
      return x[:, 1:].reshape(-1, *x.shape[2:])

    def before(x):  # The frame before each of those.
      return x[:, :-1].reshape(-1, *x.shape[2:])

    def pairs(ab):  # L not centered.
      whole = color.uncenter(jnp.concatenate([lab[..., :1], ab], -1))
      return jnp.concatenate([frames(whole), before(whole)], -1)

    true_lab, true_ab = frames(lab), frames(lab[..., 1:])
    out = {}
    if weights.l1:
      same = None
      if config.loss.l1_same_video_only:
        same = jnp.repeat(clips.same_video.astype(jnp.float32), t - 1)
      out['l1'] = losses.l1(frames(ab), true_ab, same)
    if weights.warped:
      same = jnp.repeat(clips.same_video.astype(jnp.float32), t)
      out['warped'] = losses.l1(
        guidance.warped_ab.reshape(-1, *lab.shape[2:4], 2),
        lab[..., 1:].reshape(-1, *lab.shape[2:4], 2),
        same,
      )
    if weights.perceptual or weights.contextual:
      predicted = jnp.concatenate([true_lab[..., :1], frames(ab)], -1)
      seen = features(
        params, color.lab_to_rgb(color.uncenter(predicted)), (3, 4, 5)
      )
    if weights.perceptual:
      (true_seen,) = features(params, frames(_unit_range(clips.rgb)), (5,))
      out['perceptual'] = losses.perceptual(seen[-1], true_seen)
    if weights.contextual:
      of_reference = features(params, _unit_range(clips.reference), (3, 4, 5))
      out['contextual'] = losses.contextual(
        seen, [jnp.repeat(x, t - 1, 0) for x in of_reference]
      )
    if weights.temporal:
      out['temporal'] = losses.temporal(
        frames(ab),
        before(ab),
        clips.flow.reshape(-1, *clips.flow.shape[2:]),
        clips.visible.reshape(-1, *clips.visible.shape[2:]),
      )
    if weights.smoothness:
      out['smoothness'] = losses.smoothness(frames(ab), true_lab)
    if weights.adversarial:
      real, fake = pairs(lab[..., 1:]), pairs(ab)

      def scores(params, fake):
        variables = {'params': params, 'batch_stats': spectral}
        scores, new = discriminator.apply(
          variables,
          jnp.concatenate([real, fake]),
          True,
          mutable='batch_stats',
        )
        return jnp.split(scores, 2), new['batch_stats']

      # The two calls share their forward pass: XLA sees the same expression.
      own = params['discriminator']
      seen_by_generator, _ = scores(jax.lax.stop_gradient(own), fake)
      seen_by_itself, spectral = scores(own, jax.lax.stop_gradient(fake))
      out['adversarial'] = losses.adversarial_generator(
        *seen_by_generator, axis
      )
      out['discriminator'] = losses.adversarial_discriminator(
        *seen_by_itself, axis
      )
    return out, spectral

  return terms


def make_step(
  config: ml_collections.ConfigDict,
  optimizer: optax.MultiSteps,
  axis: str,
) -> Callable[[TrainState, Clips], tuple[TrainState, dict[str, jax.Array]]]:
  """Makes the training step, to be pmapped over `axis`.

  It returns the new state and the metrics: each loss as `raw/NAME` and
  `weighted/NAME`, their sum `loss`, the share of each in the generator's part of
  that as `share/NAME`, gradient norms and learning rates.
  """
  terms = make_terms(config, axis)
  weights = config.loss.weights
  frozen = [g for g, rate in config.train.learning_rate.items() if not rate]

  def loss(params, spectral, clips, key):
    # Nothing is computed for gradients that nobody wants.
    params = params | jax.lax.stop_gradient(
      {g: params[g] for g in frozen if g in params}
    )
    raw, spectral = terms(params, spectral, clips, key)
    weighted = {
      name: value * weights.get(name, 1.0) for name, value in raw.items()
    }
    return sum(weighted.values()), (raw, weighted, spectral)

  def step(state: TrainState, clips: Clips):
    key = jax.random.wrap_key_data(state.key)
    key = jax.random.fold_in(key, state.micro_step)
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    (total, (raw, weighted, spectral)), grads = jax.value_and_grad(
      loss, has_aux=True
    )(state.params, state.spectral, clips, key)
    metrics = {'loss': total}
    metrics |= {f'raw/{name}': value for name, value in raw.items()}
    metrics |= {f'weighted/{name}': value for name, value in weighted.items()}
    grads, metrics = jax.lax.pmean((grads, metrics), axis)
    own = {
      name: metrics[f'weighted/{name}']
      for name in raw
      if name != 'discriminator'
    }
    whole = jnp.maximum(sum(own.values()), 1e-12)
    metrics |= {f'share/{name}': value / whole for name, value in own.items()}
    for group, tree in grads.items():
      metrics[f'gradient_norm/{group}'] = optax.tree.norm(tree)
      metrics[f'learning_rate/{group}'] = schedule(config, group)(
        state.optimizer.gradient_step
      )
    updates, optimizer_state = optimizer.update(
      grads, state.optimizer, state.params
    )
    return TrainState(
      state.micro_step + 1,
      optax.apply_updates(state.params, updates),
      optimizer_state,
      spectral,
      state.key,
    ), metrics

  return step


def draw_strip(
  preview: Callable[[Mapping[str, Any], Clips], Generated],
  params: Mapping[str, Any],
  clips: Clips,
) -> np.ndarray:
  """Draws the last frame of each clip beside what the networks made of it.

  Returns:
    [h, w, 3] uint8: a column for each clip, with reference, frame, warped
    color, confidence, prediction and truth.
  """
  made = jax.tree.map(lambda x: np.asarray(x)[:, -1], preview(params, clips))

  def paint(ab):
    lab = np.concatenate([made.lab[..., :1], ab], -1)
    rgb = color.fade_to_rgb(color.uncenter(jnp.asarray(lab)))
    return np.asarray(jnp.round(rgb * 255), np.uint8)

  confidence = np.clip(made.guidance.confidence, 0, 1).repeat(3, -1) * 255
  rows = {
    'reference': clips.reference,
    'frame': paint(np.zeros_like(made.ab)),
    'warped': paint(made.guidance.warped_ab),
    'confidence': confidence.astype(np.uint8),
    'prediction': paint(made.ab),
    'truth': clips.rgb[:, -1],
  }
  return image_grid.draw(list(rows.values()), list(rows))
