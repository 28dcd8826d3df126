"""--mode=pretrain: trains decoders, ViT and prior on pictures.

The paper replaces five maps of VGG with five decoders of ViT tokens, and computes its
perceptual and contextual losses with them, but does not say how they are trained.
Here they learn, before training, to reproduce these maps (`pretrain_objective.py`).
Without a pretrained ViT (`config.train.vit_weights`), the ViT is trained as well. With
a prior (`config.model.prior`), all of them also learn color.

The parameters in checkpoints and exports can be running averages of those that learn
(`config.pretrain.average`), which are more accurate at any time.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import ml_collections
import optax

from vitexco_jax.checkpoint import with_position_grid
from vitexco_jax.config import check
from vitexco_jax.errors import UserError
from vitexco_jax.generator import make_generator
from vitexco_jax.models import vit
from vitexco_jax.models.vitexco import Generator
from vitexco_jax.training import (
  crops,
  loop,
  multihost,
  pretrain_objective,
  pretrain_report,
)
from vitexco_jax.training.train import load_initial_weights

# (generator's parameters, heads' parameters) to those that learn, by group.
Select = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


class PretrainState(NamedTuple):
  """The state of a run without the data feed."""

  micro_step: jax.Array  # Number of completed micro-steps.
  params: dict[str, Any]  # The generator's; averages of those that learn.
  heads: dict[str, Any]  # Averages.
  learned: dict[str, Any]  # Current values of those that learn, by group.
  optimizer: optax.MultiStepsState
  key: jax.Array  # Raw random key; each micro-step folds its number in.


@multihost.report_lost_hosts()
def pretrain(
  config: ml_collections.ConfigDict, images: str, workdir: Path
) -> None:
  """Trains for `config.pretrain.updates`; writes a report.

  Args:
    config: of the run; `train.vit_weights` and `train.init` name initial weights.
    images: a folder of pictures or a TFDS data set. Frames of the records at
      `config.data.records`, if any, are used as well.
    workdir: folder of the run. Its checkpoints contain complete generators, so it
      can be exported, and training can start from it with `config.train.init`.

  Raises:
    UserError: there are too few pictures, the config is invalid, or as `loop.run`.
    KeyboardInterrupt: as `loop.run`.
  """
  loop.check_same_config(config)
  host, num_hosts = jax.process_index(), jax.process_count()
  with multihost.failing_together():
    check(config)
    settings = config.pretrain
    _check_fit(settings, config.model)
    config = with_position_grid(config)
    generator = make_generator(config)
    devices = jax.local_device_count() * num_hosts
    size = loop.micro_batch_size(settings, 'pretrain', devices)
    collection = crops.collect(images, Path(config.data.records))
    feed = crops.make_feed(
      collection,
      settings,
      config.augment.flip,
      config.data,
      config.seed,
      batch_size=size,
      host=host,
      hosts=num_hosts,
    )
    trains_vit = not config.train.vit_weights
    compare = pretrain_objective.make_compare(generator, settings, trains_vit)
    select = functools.partial(learned_params, settings, trains_vit)
    optimizer = make_optimizer(settings)
    loss = make_loss(compare, settings.weights, loop.AXIS)
    step = make_step(loss, select, settings, optimizer, loop.AXIS)
    validate = None
    if host == 0 and settings.weights.color:
      validate = pretrain_report.make_validate(generator, settings, collection)

  def load(state: PretrainState) -> PretrainState:
    state = load_initial_weights(config.train, config.model, state)
    return state._replace(learned=select(state.params, state.heads))

  def finish(state: PretrainState) -> None:
    pretrain_report.write(
      compare,
      settings,
      config.model.feature_transform.kind,
      collection,
      Path(workdir),
      state.params,
      state.heads,
    )

  loop.run(
    config,
    'pretrain',
    workdir,
    feed,
    init=functools.partial(
      init_state,
      generator,
      optimizer,
      select,
      bool(settings.weights.maps),
      config.data.size,
      config.seed,
    ),
    load=load,
    step=step,
    validate=validate,
    finish=finish,
  )


def _check_fit(
  settings: ml_collections.ConfigDict, model: ml_collections.ConfigDict
) -> None:
  """Raises UserError if `config.pretrain` and `config.model` do not fit."""
  if bool(settings.weights.color) != bool(model.prior.width):
    raise UserError(
      f'config.pretrain.weights.color={settings.weights.color} and '
      f'config.model.prior.width={model.prior.width} must both be above 0, '
      'or none'
    )
  sizes = vit.VARIANTS[model.vit.variant]
  stride = max(sizes.patch, 16)  # Of the coarsest level.
  if any(side % stride for side in settings.size):
    raise UserError(
      f'config.pretrain.size={tuple(settings.size)} must be multiples of {stride}'
    )
  if settings.first_block > sizes.blocks:
    raise UserError(
      f'config.pretrain.first_block={settings.first_block} must be at most '
      f'{sizes.blocks}, the number of blocks'
    )


def make_optimizer(settings: ml_collections.ConfigDict) -> optax.MultiSteps:
  """AdamW for each group of parameters, with clipped, accumulated gradients."""
  transforms = {
    group: optax.adamw(
      schedule(settings, group), weight_decay=settings.weight_decay
    )
    for group in settings.learning_rate
  }

  def labels(learned: Mapping[str, Any]) -> dict[str, str]:
    return {group: group for group in learned}

  return optax.MultiSteps(
    optax.chain(
      optax.clip_by_global_norm(settings.gradient_norm),
      optax.partition(transforms, labels),
    ),
    settings.accumulation,
  )


def schedule(
  settings: ml_collections.ConfigDict, group: str
) -> Callable[[int], float]:
  """The learning rate of a group by update: linear warmup, then cosine to 0."""
  return optax.warmup_cosine_decay_schedule(
    0.0,
    settings.learning_rate[group],
    round(settings.warmup * settings.updates),
    settings.updates,
  )


def init_state(
  generator: Generator,
  optimizer: optax.MultiSteps,
  select: Select,
  with_heads: bool,
  size: Sequence[int],
  seed: int,
) -> PretrainState:
  """Creates the initial state; the generator is initialized as in training.

  Args:
    generator: the networks.
    optimizer: of `make_optimizer`.
    select: selects the parameters that learn.
    with_heads: whether maps are learned.
    size: (height, width) of a picture with which the networks are initialized.
    seed: of the initial parameters and of the run.
  """
  key = jax.random.key(seed)
  image = jnp.zeros((1, *size, 3))
  params = generator.init(jax.random.fold_in(key, 0), image)['params']
  heads = {}
  if with_heads:
    features = generator.apply({'params': params}, image, method='features')
    variables = pretrain_objective.Heads().init(
      jax.random.fold_in(key, 1), features
    )
    heads = variables['params']
  learned = select(params, heads)
  return PretrainState(
    micro_step=jnp.zeros((), jnp.int32),
    params=params,
    heads=heads,
    learned=learned,
    optimizer=optimizer.init(learned),
    key=jax.random.key_data(jax.random.fold_in(key, 2)),
  )


def learned_params(
  settings: ml_collections.ConfigDict,
  trains_vit: bool,
  params: Mapping[str, Any],
  heads: Mapping[str, Any],
) -> dict[str, Any]:
  """Selects the parameters that learn, by group.

  Args:
    settings: `config.pretrain`.
    trains_vit: whether the ViT learns.
    params: of the generator.
    heads: parameters of the heads.
  """
  groups = {'feature_transform': params['feature_transform']}
  if trains_vit:
    groups['vit'] = _blocks_from(params['vit'], settings.first_block)
  if settings.weights.color:
    groups['prior'] = params['prior']
  return groups | {'heads': heads}


def _blocks_from(params: Mapping[str, Any], first: int) -> Mapping[str, Any]:
  """Selects the ViT's parameters from block `first` on, or all for 1."""
  if first == 1:
    return params
  encoder = params['Transformer']
  names = {f'encoderblock_{i}' for i in range(first - 1, len(encoder))}
  blocks = {name: encoder[name] for name in sorted(names & encoder.keys())}
  return {'Transformer': blocks | {'encoder_norm': encoder['encoder_norm']}}


def _merge_learned(
  params: Mapping[str, Any], learned: Mapping[str, Any]
) -> dict[str, Any]:
  """Replaces those of the generator's parameters that learn."""
  groups = {name: x for name, x in learned.items() if name != 'heads'}
  flat = flax.traverse_util.flatten_dict
  return flax.traverse_util.unflatten_dict(flat(params) | flat(groups))


def make_step(
  loss: Callable[..., tuple[jax.Array, tuple[Any, ...]]],
  select: Select,
  settings: ml_collections.ConfigDict,
  optimizer: optax.MultiSteps,
  axis: str,
) -> Callable[
  [PretrainState, crops.Crops], tuple[PretrainState, dict[str, jax.Array]]
]:
  """Makes the pretraining step, to be pmapped over `axis`.

  It returns the new state and the metrics: the explained share of each level's
  variance as `explained/LEVEL`, squared errors of ab as `square/NAME`, each loss as
  `raw/NAME` and `weighted/NAME`, their sum `loss`, gradient norms and learning rates.

  Args:
    loss: of `make_loss`.
    select: selects the parameters that learn.
    settings: `config.pretrain`.
    optimizer: of `make_optimizer`.
    axis: the name of the mapped axis of devices.
  """

  def step(
    state: PretrainState, batch: crops.Crops
  ) -> tuple[PretrainState, dict[str, jax.Array]]:
    key = jax.random.wrap_key_data(state.key)
    key = jax.random.fold_in(key, state.micro_step)
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    (total, (raw, weighted, fits, colors)), gradients = jax.value_and_grad(
      loss, has_aux=True
    )(state.learned, state.params, batch, key)
    metrics = {'loss': total}
    metrics |= {f'raw/{name}': value for name, value in raw.items()}
    metrics |= {f'weighted/{name}': value for name, value in weighted.items()}
    metrics |= {f'square/{x}': colors[x] for x in ('error', 'gray') if colors}
    gradients, metrics = jax.lax.pmean((gradients, metrics), axis)
    metrics |= {f'explained/{name}': x.explained() for name, x in fits.items()}
    for group, gradient in gradients.items():
      metrics[f'gradient_norm/{group}'] = optax.tree.norm(gradient)
      metrics[f'learning_rate/{group}'] = schedule(settings, group)(
        state.optimizer.gradient_step
      )
    updates, optimizer_state = optimizer.update(
      gradients, state.optimizer, state.learned
    )
    learned = optax.apply_updates(state.learned, updates)
    # The first averages are over the few steps so far.
    steps = state.micro_step.astype(jnp.float32)
    decay = jnp.minimum(settings.average, (1 + steps) / (10 + steps))
    average = jax.tree.map(
      lambda old, new: new + decay * (old - new),
      select(state.params, state.heads),
      learned,
    )
    return PretrainState(
      state.micro_step + 1,
      _merge_learned(state.params, average),
      average['heads'],
      learned,
      optimizer_state,
      state.key,
    ), metrics

  return step


def make_loss(
  compare: Callable[..., pretrain_objective.Comparison],
  weights: Mapping[str, float],
  axis: str,
) -> Callable[..., tuple[jax.Array, tuple[Any, ...]]]:
  """Makes `loss(learned, params, batch, key)`.

  It returns the sum of the weighted losses and, for the log, the losses, the weighted
  losses, the fits of maps, and the errors of colors.

  Args:
    compare: of `pretrain_objective.make_compare`.
    weights: `config.pretrain.weights`.
    axis: the name of the mapped axis of devices.
  """

  def loss(
    learned: Mapping[str, Any],
    params: Mapping[str, Any],
    batch: crops.Crops,
    key: jax.Array,
  ) -> tuple[jax.Array, tuple[Any, ...]]:
    comparison = compare(
      _merge_learned(params, learned),
      learned['heads'],
      batch.rgb,
      batch.gray,
      key,
    )
    # Variances are over the batch of all devices.
    fits = jax.lax.pmean(jax.lax.stop_gradient(comparison.fits), axis)
    shares = [
      x.error / fits[name].variance() for name, x in comparison.fits.items()
    ]
    raw = {'maps': sum(shares) / len(shares)} if shares else {}
    if comparison.class_token is not None:
      raw['class_token'] = comparison.class_token
    if comparison.color:
      raw |= {name: comparison.color[name] for name in ('color', 'spread')}
    weighted = {name: weights[name] * value for name, value in raw.items()}
    return sum(weighted.values()), (raw, weighted, fits, comparison.color)

  return loss
