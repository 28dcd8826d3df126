"""--mode=pretrain: the Feature Transform learns what it stands in for.

The paper puts five decoders of ViT tokens in the place of five maps of VGG, and
takes its perceptual and contextual losses from them, but leaves open how they
come to mean anything. Here they learn, before any colour does, to reproduce these
maps of the picture that the network is shown, in colour or in grey:

  tokens -> decoder -> linear head, thrown away in the end -> map of VGG16

Each place of VGG's map is brought to unit length, as the matching and the contextual
loss do with features before they look at them: what counts is the direction. A
decoder's own output is of another make. It is bounded below by a GELU, dropped out
at random while it learns, and in narrow configs has fewer channels than the map.
So it is compared through a linear head of its level: it has to hold what VGG's map
holds, in a form that a linear layer, such as the matching begins with, can use.

A level's loss is the share of the map's variance that is left unexplained, so that
all levels count alike. The report gives 1 minus that, of pictures held out.

Where no pretrained ViT is given (`config.train.vit_weights`), the ViT learns along
with the decoders, and its class token is drawn to what EfficientNet-lite0 makes of
the same picture in colour: to its pooled features, of 1280 channels, in projection
on as many directions as the token has, which are drawn at random once and for all.
Such a projection nearly keeps cosines, so class tokens can be compared as they are.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from vitexco_jax import color, files
from vitexco_jax.checkpoint import make_generator
from vitexco_jax.errors import UserError
from vitexco_jax.models import efficientnet, layers, vit
from vitexco_jax.models.vitexco import ALL_LEVELS
from vitexco_jax.pretrained import efficientnet_weights, vgg16
from vitexco_jax.training import crops, loop, multihost
from vitexco_jax.training.train import load_initial_weights

REPORT = 'pretrain.json'


class PretrainState(NamedTuple):
  """All that a run needs to go on, but the feed."""

  micro_step: jax.Array  # How many were taken.
  params: dict[str, Any]  # The generator's, of which two groups learn at most.
  heads: dict[str, Any]
  optimizer: optax.MultiStepsState
  key: jax.Array  # Raw random key; each micro-step folds its number in.


class Heads(nn.Module):
  """From the decoders' outputs to VGG16's maps, place by place."""

  @nn.compact
  def __call__(self, features: Iterable[jax.Array]) -> tuple[jax.Array, ...]:
    """[b, h, w, any] to [b, h, w, channels of the map] for each level."""
    return tuple(
      nn.Dense(channels, name=f'level{level}')(x)
      for level, channels, x in zip(
        ALL_LEVELS, vgg16.CHANNELS, features, strict=True
      )
    )


class Fit(NamedTuple):
  """How maps are reproduced; means of like Fits make the Fit of all pictures."""

  error: jax.Array  # Squared, mean over pictures, places and channels.
  square: jax.Array  # Of the target, likewise.
  mean: jax.Array  # [c], of the target over pictures and places.

  def variance(self) -> jax.Array:
    """Of the target about the mean of each channel, mean over channels."""
    return self.square - (self.mean**2).mean()

  def explained(self) -> jax.Array:
    """The share of the variance that is reproduced; below 0 at first."""
    return 1 - self.error / self.variance()


class Comparison(NamedTuple):
  """What the networks make of pictures, beside what they should."""

  fits: dict[str, Fit]  # By level: `level1`.
  class_token: jax.Array  # Mean of 1 - cosine; 0 where it need not match.


@multihost.together()
def pretrain(config: ml_collections.ConfigDict, images: str, workdir: Path):
  """Trains decoders, and ViT, until `config.pretrain.updates`; reports.

  Args:
    config: `train.vit_weights` and `train.init` are what it starts from.
    images: a folder of pictures or a data set of TFDS; frames of the records at
      `config.data.records`, if there are any, are looked at besides.
    workdir: of the run. Its checkpoints hold whole generators, so that it can be
      exported, and another run can start from it by `config.train.init`.

  Raises:
    UserError: there are too few pictures; else, as KeyboardInterrupt, as
      `loop.run`.
  """
  loop.check_same_config(config)
  host, hosts_ = jax.process_index(), jax.process_count()
  with multihost.failing_together():
    _check(config)
    devices = jax.local_device_count() * hosts_
    size = loop.micro_batch_size(config, 'pretrain', devices)
    collection = crops.collect(config, images)
    feed = crops.make_feed(config, collection, size, host, hosts_)
    optimizer = make_optimizer(config.pretrain)
    step = make_step(config, optimizer, loop.AXIS)
  loop.run(
    config,
    'pretrain',
    workdir,
    feed,
    init=functools.partial(init_state, config, optimizer),
    load=functools.partial(load_initial_weights, config),
    step=step,
    finish=functools.partial(_report, config, collection, Path(workdir)),
  )


def _check(config):
  settings = config.pretrain
  patch = vit.checked_sizes(**config.model.vit).patch
  stride = max(patch, 16)  # The last level's.
  for name, good, must in (
    (
      'size',
      all(side > 0 and side % stride == 0 for side in settings.size),
      f'be multiples of {stride}',
    ),
    ('crop', 0 < settings.crop <= 1, 'be above 0 and at most 1'),
    ('grey', 0 <= settings.grey <= 1, 'be at least 0 and at most 1'),
    ('warmup', 0 <= settings.warmup < 1, 'be at least 0 and below 1'),
    ('weight_decay', settings.weight_decay >= 0, 'be at least 0'),
    ('gradient_norm', settings.gradient_norm > 0, 'be above 0'),
  ):
    if not good:
      raise UserError(f'config.pretrain.{name}={settings[name]} must {must}')
  for group, rate in settings.learning_rate.items():
    if rate < 0:
      raise UserError(
        f'config.pretrain.learning_rate.{group}={rate} must be at least 0'
      )


def make_optimizer(settings: ml_collections.ConfigDict) -> optax.MultiSteps:
  """AdamW for each group of parameters on clipped gradients, accumulated."""
  transforms = {
    group: optax.adamw(
      schedule(settings, group), weight_decay=settings.weight_decay
    )
    for group in settings.learning_rate
  }

  def labels(learned):
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
  """A group's learning rate by update: it rises, then falls to 0."""
  return optax.warmup_cosine_decay_schedule(
    0.0,
    settings.learning_rate[group],
    round(settings.warmup * settings.updates),
    settings.updates,
  )


def init_state(
  config: ml_collections.ConfigDict, optimizer: optax.MultiSteps
) -> PretrainState:
  """A fresh state; the generator is the one that training would begin with."""
  key = jax.random.key(config.seed)
  generator = make_generator(config)
  image = jnp.zeros((1, *config.data.size, 3))
  params = generator.init(jax.random.fold_in(key, 0), image)['params']
  features = generator.apply({'params': params}, image, method='features')
  heads = Heads().init(jax.random.fold_in(key, 1), features)['params']
  return PretrainState(
    micro_step=jnp.zeros((), jnp.int32),
    params=params,
    heads=heads,
    optimizer=optimizer.init(_learned(config, params, heads)),
    key=jax.random.key_data(jax.random.fold_in(key, 2)),
  )


def _learned(config, params, heads):
  """The parameters that learn, by group."""
  groups = ['feature_transform']
  if not config.train.vit_weights:
    groups.append('vit')
  return {group: params[group] for group in groups} | {'heads': heads}


def make_compare(
  config: ml_collections.ConfigDict,
) -> Callable[..., Comparison]:
  """Makes `compare(params, heads, rgb, grey, key)`, a pure function.

  Its arguments are the generator's parameters and the heads', pictures `rgb`
  [b, h, w, 3] uint8, which of them are shown in grey, [b], and a key for dropout;
  without it there is none.
  """
  generator = make_generator(config)
  vgg = vgg16.load_vgg16()
  embed = None if config.train.vit_weights else _make_teacher(config)

  def compare(params, heads, rgb, grey, key=None):
    shown = jnp.where(grey[:, None, None, None], color.grey(rgb), rgb)
    shown = _unit_range(shown)
    features, embedding, _ = generator.apply(
      {'params': params},
      shown,
      train=key is not None,
      method='see',
      rngs={} if key is None else {'dropout': key},
    )
    found = Heads().apply({'params': heads}, features)
    wanted = map(_target, vgg16.vgg16_features(vgg, shown))
    fits = map(fit, found, wanted)
    distance = jnp.zeros(())
    if embed is not None:
      cosine = layers.l2_normalize(embedding) * embed(_unit_range(rgb))
      distance = 1 - cosine.sum(-1).mean()
    names = (f'level{level}' for level in ALL_LEVELS)
    return Comparison(dict(zip(names, fits, strict=True)), distance)

  return compare


def _unit_range(rgb: jax.Array) -> jax.Array:
  return rgb.astype(jnp.float32) / 255.0


def _target(vgg_map: jax.Array) -> jax.Array:
  """Brings each place to the length at which its mean square is 1."""
  return layers.l2_normalize(vgg_map) * jnp.sqrt(vgg_map.shape[-1])


def fit(found: jax.Array, wanted: jax.Array) -> Fit:
  """Compares maps, [b, h, w, c]."""
  return Fit(
    jnp.square(found - wanted).mean(),
    jnp.square(wanted).mean(),
    wanted.mean((0, 1, 2)),
  )


def _make_teacher(
  config: ml_collections.ConfigDict,
) -> Callable[[jax.Array], jax.Array]:
  """Makes what gives the class tokens' targets: [b, h, w, 3] to [b, d]."""
  params = efficientnet_weights.load_efficientnet_lite0()
  width = vit.VARIANTS[config.model.vit.variant].width
  # Of 1,150 grey pictures, a third have one of the same ImageNet synset for the
  # nearest by 192 of these, 37 % by all features.
  directions = nn.initializers.orthogonal()(
    jax.random.key(0), (efficientnet.WIDTH, width)
  )

  def embed(rgb):
    # Views need not have the size that it was trained at.
    side = efficientnet.SIZE
    rgb = jax.image.resize(rgb, (len(rgb), side, side, 3), 'bilinear')
    features = efficientnet.EfficientNetLite0().apply({'params': params}, rgb)
    return layers.l2_normalize(features @ directions)

  return embed


def make_step(
  config: ml_collections.ConfigDict, optimizer: optax.MultiSteps, axis: str
) -> Callable[
  [PretrainState, crops.Views], tuple[PretrainState, dict[str, jax.Array]]
]:
  """Makes the step, to be pmapped over `axis`.

  It returns the new state and the metrics: the share `explained/LEVEL` of each
  level's variance, each loss as `raw/NAME` and `weighted/NAME`, their sum `loss`,
  gradient norms and learning rates.
  """
  compare = make_compare(config)
  settings = config.pretrain

  def loss(learned, params, batch, key):
    groups = {name: x for name, x in learned.items() if name != 'heads'}
    found = compare(
      params | groups, learned['heads'], batch.rgb, batch.grey, key
    )
    # Variances are those of the batch of all devices.
    fits = jax.lax.pmean(jax.lax.stop_gradient(found.fits), axis)
    shares = [x.error / fits[name].variance() for name, x in found.fits.items()]
    raw = {'maps': sum(shares) / len(shares)}
    if 'vit' in learned:
      raw['class_token'] = found.class_token
    weighted = {
      name: settings.weights[name] * value for name, value in raw.items()
    }
    return sum(weighted.values()), (raw, weighted, fits)

  def step(state: PretrainState, batch: crops.Views):
    key = jax.random.wrap_key_data(state.key)
    key = jax.random.fold_in(key, state.micro_step)
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    learned = _learned(config, state.params, state.heads)
    (total, (raw, weighted, fits)), grads = jax.value_and_grad(
      loss, has_aux=True
    )(learned, state.params, batch, key)
    metrics = {'loss': total}
    metrics |= {f'raw/{name}': value for name, value in raw.items()}
    metrics |= {f'weighted/{name}': value for name, value in weighted.items()}
    grads, metrics = jax.lax.pmean((grads, metrics), axis)
    metrics |= {f'explained/{name}': x.explained() for name, x in fits.items()}
    for group, tree in grads.items():
      metrics[f'gradient_norm/{group}'] = optax.tree.norm(tree)
      metrics[f'learning_rate/{group}'] = schedule(settings, group)(
        state.optimizer.gradient_step
      )
    updates, optimizer_state = optimizer.update(grads, state.optimizer, learned)
    learned = optax.apply_updates(learned, updates)
    heads = learned.pop('heads')
    return PretrainState(
      state.micro_step + 1,
      state.params | learned,
      heads,
      optimizer_state,
      state.key,
    ), metrics

  return step


def _report(
  config: ml_collections.ConfigDict,
  collection: crops.Collection,
  workdir: Path,
  state: PretrainState,
):
  """Prints and writes what is reproduced of the pictures that were held out."""
  compare = jax.jit(make_compare(config))
  found = {'colour': [], 'grey': []}
  for rgb in crops.held_out(collection, tuple(config.pretrain.size)):
    for how, each in found.items():
      grey = np.array([how == 'grey'])
      made = compare(state.params, state.heads, rgb[None], grey)
      each.append(jax.device_get(made))
  pictures = len(found['grey'])
  if not pictures:
    print('No picture that was held out can be read: nothing is reported.')
    return
  report = {
    'updates': config.pretrain.updates,
    'kind': config.model.feature_transform.kind,
    'trained_on': {
      'pictures': len(collection.keys),
      'frames': len(collection.frames),
    },
    'held_out': pictures,
  }
  for how, each in found.items():
    mean = jax.tree.map(lambda *x: np.mean(x, 0, np.float64), *each)
    report[how] = {name: float(x.explained()) for name, x in mean.fits.items()}
    if not config.train.vit_weights:
      report[how]['class_token'] = 1 - float(mean.class_token)
  print(describe(report))
  files.write(workdir / REPORT, json.dumps(report, indent=2) + '\n')


def describe(report: Mapping[str, Any]) -> str:
  """The report as a table of Markdown."""
  columns = list(report['grey'])
  heading = [x.replace('_', ' ').replace('level', 'level ') for x in columns]
  lines = [
    f"Share of the variance of VGG16's maps that {report['kind']} decoders "
    f'explain, and cosine of the class token, of {report["held_out"]} pictures '
    'held out:',
    '',
    f'| shown | {" | ".join(heading)} |',
    '|---' * (len(columns) + 1) + '|',
  ]
  for how in ('colour', 'grey'):
    values = (f'{report[how][name]:.3f}' for name in columns)
    lines.append(f'| {how} | {" | ".join(values)} |')
  return '\n'.join(lines)
