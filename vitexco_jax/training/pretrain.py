"""--mode=pretrain: the Feature Transform learns what it stands in for.

The paper puts five decoders of ViT tokens in the place of five maps of VGG, and
takes its perceptual and contextual losses from them, but leaves open how they
come to mean anything. Here they learn, before any color does, to reproduce these
maps of the picture that the network is shown, in color or in gray:

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
the same picture in color: to its pooled features, of 1280 channels, in projection
on as many directions as the token has, which are drawn at random once and for all.
Such a projection nearly keeps cosines, so class tokens can be compared as they are.

Where the network has a prior (`config.model.prior`), decoders, class token and the
prior learn color as well: from a view in gray they predict its ab and how far off
that is. The error e of each place counts as

  color:  sqrt(e^2 + 10^2) - 10, over 20: large errors do not dominate
  spread: log s + e / s, which is least where s is the error to be expected

Parameters that go into checkpoints and exports may be running averages of those
that learn (`config.pretrain.average`), which are better than these at any time.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from vitexco_jax import color, files
from vitexco_jax.checkpoint import adopt_position_grid, make_generator
from vitexco_jax.config import check
from vitexco_jax.errors import UserError
from vitexco_jax.media import pictures
from vitexco_jax.models import efficientnet, layers, prior, vit
from vitexco_jax.models.vitexco import ALL_LEVELS
from vitexco_jax.pretrained import efficientnet_weights, vgg16
from vitexco_jax.training import crops, loop, multihost
from vitexco_jax.training.train import load_initial_weights

REPORT = 'pretrain.json'
_ROBUST = 10.0  # In ab; errors that are larger count linearly.


class PretrainState(NamedTuple):
  """All that a run needs to go on, but the feed."""

  micro_step: jax.Array  # How many were taken.
  params: dict[str, Any]  # The generator's; of what learns, the average.
  heads: dict[str, Any]  # Likewise.
  learned: dict[str, Any]  # By group, as it is now.
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
  """What the networks make of pictures, compared with the truth."""

  fits: dict[str, Fit]  # By level: `level1`. Empty where maps do not count.
  class_token: jax.Array  # Mean of 1 - cosine; 0 where it need not match.
  color: dict[str, jax.Array]  # Of views in gray; empty without a prior.


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
    check(config)
    _check_fit(config)
    adopt_position_grid(config)
    devices = jax.local_device_count() * hosts_
    size = loop.micro_batch_size(config, 'pretrain', devices)
    collection = crops.collect(config, images)
    feed = crops.make_feed(config, collection, size, host, hosts_)
    optimizer = make_optimizer(config.pretrain)
    step = make_step(config, optimizer, loop.AXIS)
    colors = host == 0 and config.pretrain.weights.color
    validate = make_validate(config, collection) if colors else None
  loop.run(
    config,
    'pretrain',
    workdir,
    feed,
    init=functools.partial(init_state, config, optimizer),
    load=functools.partial(_load, config),
    step=step,
    validate=validate,
    finish=functools.partial(_report, config, collection, Path(workdir)),
  )


def _check_fit(config):
  """Checks values that must fit each other."""
  settings = config.pretrain
  if bool(settings.weights.color) != bool(config.model.prior.width):
    raise UserError(
      f'config.pretrain.weights.color={settings.weights.color} and '
      f'config.model.prior.width={config.model.prior.width} must both be above 0, '
      'or none'
    )
  make_generator(config)  # Checks `config.model`.
  sizes = vit.VARIANTS[config.model.vit.variant]
  stride = max(sizes.patch, 16)  # The last level's.
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
  heads = {}
  if config.pretrain.weights.maps:
    features = generator.apply({'params': params}, image, method='features')
    heads = Heads().init(jax.random.fold_in(key, 1), features)['params']
  learned = _learned(config, params, heads)
  return PretrainState(
    micro_step=jnp.zeros((), jnp.int32),
    params=params,
    heads=heads,
    learned=learned,
    optimizer=optimizer.init(learned),
    key=jax.random.key_data(jax.random.fold_in(key, 2)),
  )


def _load(
  config: ml_collections.ConfigDict, state: PretrainState
) -> PretrainState:
  """Puts weights that the config names in place."""
  state = load_initial_weights(config, state)
  return state._replace(learned=_learned(config, state.params, state.heads))


def _learned(config, params, heads):
  """The parameters that learn, by group."""
  groups = {'feature_transform': params['feature_transform']}
  if not config.train.vit_weights:
    groups['vit'] = _learned_blocks(params['vit'], config.pretrain.first_block)
  if config.pretrain.weights.color:
    groups['prior'] = params['prior']
  return groups | {'heads': heads}


def _learned_blocks(params, first):
  """The ViT's parameters from a block on, counted from 1; for 1 all."""
  if first == 1:
    return params
  encoder = params['Transformer']
  blocks = {f'encoderblock_{i}' for i in range(first - 1, len(encoder))}
  kept = {name: encoder[name] for name in sorted(blocks & encoder.keys())}
  return {'Transformer': kept | {'encoder_norm': encoder['encoder_norm']}}


def _with_learned(params, learned):
  """The generator's parameters, with those that learn in their places."""
  groups = {name: x for name, x in learned.items() if name != 'heads'}
  flat = flax.traverse_util.flatten_dict
  return flax.traverse_util.unflatten_dict(flat(params) | flat(groups))


def make_compare(
  config: ml_collections.ConfigDict,
) -> Callable[..., Comparison]:
  """Makes `compare(params, heads, rgb, in_gray, key)`, a pure function.

  Its arguments are the generator's parameters and the heads', pictures `rgb`
  [b, h, w, 3] uint8, which of them are shown in gray, [b], and a key for dropout;
  without it there is none.
  """
  generator = make_generator(config)
  weights = config.pretrain.weights
  vgg = vgg16.load_vgg16() if weights.maps else None
  embed = None if config.train.vit_weights else _make_teacher(config)

  def compare(params, heads, rgb, in_gray, key=None):
    lab = color.rgb_to_lab(_unit_range(rgb))
    luminance = color.center(lab)[..., :1]
    shown = jnp.where(
      in_gray[:, None, None, None], vit.gray(luminance), _unit_range(rgb)
    )
    apply = functools.partial(
      generator.apply,
      {'params': params},
      train=key is not None,
      rngs={} if key is None else {'dropout': key},
    )
    levels = ALL_LEVELS if weights.maps else prior.LEVELS
    compared = {}
    if weights.color:
      seen, colors = apply(shown, luminance, levels, method='see_and_predict')
      compared = compare_colors(colors, lab[..., 1:], in_gray)
    else:
      seen = apply(shown, levels, method='see')
    fits = {}
    if weights.maps:
      found = Heads().apply({'params': heads}, seen.features)
      wanted = map(_target, vgg16.vgg16_features(vgg, shown))
      names = (f'level{level}' for level in ALL_LEVELS)
      fits = dict(zip(names, map(fit, found, wanted), strict=True))
    distance = jnp.zeros(())
    if embed is not None:
      count = -int(-config.pretrain.taught * len(rgb) // 1)
      cosine = layers.l2_normalize(seen.embedding[:count]) * embed(
        _unit_range(rgb[:count])
      )
      distance = 1 - cosine.sum(-1).mean()
    return Comparison(fits, distance, compared)

  return compare


def compare_colors(
  colors: prior.PriorColor, true_ab: jax.Array, counted: jax.Array
) -> dict[str, jax.Array]:
  """Compares predicted colors with the true ones.

  Args:
    colors: at stride 4.
    true_ab: [b, h, w, 2].
    counted: [b] bool, which of the pictures count; mean 0 where none does.

  Returns:
    The losses `color` and `spread`, and the squared errors of ab of the prior,
    `error`, and of gray, `gray`; means over places.
  """
  true_ab = layers.average_pool(true_ab, prior.STRIDE)
  square = jnp.square(colors.ab - true_ab).sum(-1)
  distance = jax.lax.stop_gradient(jnp.sqrt(square + 0.25))
  spread = colors.spread[..., 0]
  values = {
    'color': (jnp.sqrt(square + _ROBUST**2) - _ROBUST) / (2 * _ROBUST),
    'spread': jnp.log(spread) + distance / spread,
    'error': square,
    'gray': jnp.square(true_ab).sum(-1),
  }
  share = counted / jnp.maximum(counted.sum(), 1)
  return {name: share @ x.mean((1, 2)) for name, x in values.items()}


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
  # Of 1,150 gray pictures, a third have one of the same ImageNet synset for the
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
  [PretrainState, crops.Crops], tuple[PretrainState, dict[str, jax.Array]]
]:
  """Makes the step, to be pmapped over `axis`.

  It returns the new state and the metrics: the share `explained/LEVEL` of each
  level's variance, each loss as `raw/NAME` and `weighted/NAME`, their sum `loss`,
  gradient norms and learning rates.
  """
  compare = make_compare(config)
  settings = config.pretrain

  def loss(learned, params, batch, key):
    found = compare(
      _with_learned(params, learned),
      learned['heads'],
      batch.rgb,
      batch.gray,
      key,
    )
    # Variances are those of the batch of all devices.
    fits = jax.lax.pmean(jax.lax.stop_gradient(found.fits), axis)
    shares = [x.error / fits[name].variance() for name, x in found.fits.items()]
    raw = {'maps': sum(shares) / len(shares)} if shares else {}
    if 'vit' in learned:
      raw['class_token'] = found.class_token
    for name in ('color', 'spread') if found.color else ():
      raw[name] = found.color[name]
    weighted = {
      name: settings.weights[name] * value for name, value in raw.items()
    }
    return sum(weighted.values()), (raw, weighted, fits, found.color)

  def step(state: PretrainState, batch: crops.Crops):
    key = jax.random.wrap_key_data(state.key)
    key = jax.random.fold_in(key, state.micro_step)
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    learned = state.learned
    (total, (raw, weighted, fits, colors)), grads = jax.value_and_grad(
      loss, has_aux=True
    )(learned, state.params, batch, key)
    metrics = {'loss': total}
    metrics |= {f'raw/{name}': value for name, value in raw.items()}
    metrics |= {f'weighted/{name}': value for name, value in weighted.items()}
    metrics |= {f'square/{x}': colors[x] for x in ('error', 'gray') if colors}
    grads, metrics = jax.lax.pmean((grads, metrics), axis)
    metrics |= {f'explained/{name}': x.explained() for name, x in fits.items()}
    for group, tree in grads.items():
      metrics[f'gradient_norm/{group}'] = optax.tree.norm(tree)
      metrics[f'learning_rate/{group}'] = schedule(settings, group)(
        state.optimizer.gradient_step
      )
    updates, optimizer_state = optimizer.update(grads, state.optimizer, learned)
    learned = optax.apply_updates(learned, updates)
    # At first the average is that of the few steps there were.
    steps = state.micro_step.astype(jnp.float32)
    decay = jnp.minimum(settings.average, (1 + steps) / (10 + steps))
    average = jax.tree.map(
      lambda old, new: new + decay * (old - new),
      _learned(config, state.params, state.heads),
      learned,
    )
    return PretrainState(
      state.micro_step + 1,
      _with_learned(state.params, average),
      average['heads'],
      learned,
      optimizer_state,
      state.key,
    ), metrics

  return step


def make_validate(
  config: ml_collections.ConfigDict, collection: crops.Collection
) -> Callable[[Mapping[str, Any]], dict[str, float]]:
  """Makes `validate(params)`: how well held-out pictures are colorized.

  They are those of the collection, and those of the folder
  `config.pretrain.validation` if that is set: frames of other videos, say.

  Returns:
    A function of the generator's parameters. It returns for each set of pictures
    the PSNR with the prior's colors and without color, dB, and squared errors of
    ab.
  """
  size = tuple(config.pretrain.size)
  sets = {'held_out': list(crops.held_out(collection, size))}
  if config.pretrain.validation:
    source = pictures.open_pictures(config.pretrain.validation)
    sets['validation'] = [
      crops.cut(crops.read(source, key), size)
      for key in source.keys()  # noqa
    ]
  generator = make_generator(config)

  @jax.jit
  def measure(params, rgb):
    rgb = _unit_range(rgb)[None]
    lab = color.rgb_to_lab(rgb)
    luminance = color.center(lab)[..., :1]
    colors = generator.apply(
      {'params': params}, luminance, method='predict_color'
    )
    ab = jax.image.resize(colors.ab, lab[..., 1:].shape, 'bilinear')

    def psnr(ab):
      painted = color.lab_to_rgb(jnp.concatenate([lab[..., :1], ab], -1))
      return -10 * jnp.log10(jnp.square(painted - rgb).mean() + 1e-10)

    found = compare_colors(colors, lab[..., 1:], np.array([True]))
    return {
      'psnr': psnr(ab),
      'psnr_gray': psnr(0 * ab),
      'error': found['error'],
      'error_gray': found['gray'],
      'spread': found['spread'],
    }

  def validate(params):
    row = {}
    for name, shown in sets.items():
      each = [jax.device_get(measure(params, rgb)) for rgb in shown]
      for key in each[0] if each else ():
        row[f'{name}/{key}'] = float(np.mean([x[key] for x in each]))
    return row

  return validate


def _report(
  config: ml_collections.ConfigDict,
  collection: crops.Collection,
  workdir: Path,
  state: PretrainState,
):
  """Prints and writes what is reproduced of the pictures that were held out."""
  compare = jax.jit(make_compare(config))
  found = {'color': [], 'gray': []}
  for rgb in crops.held_out(collection, tuple(config.pretrain.size)):
    for how, each in found.items():
      in_gray = np.array([how == 'gray'])
      made = compare(state.params, state.heads, rgb[None], in_gray)
      each.append(jax.device_get(made))
  count = len(found['gray'])
  if not count:
    print('No picture that was held out can be read: nothing is reported.')
    return
  report = {
    'updates': config.pretrain.updates,
    'kind': config.model.feature_transform.kind,
    'trained_on': {
      'pictures': len(collection.keys),
      'frames': len(collection.frames),
    },
    'held_out': count,
  }
  for how, each in found.items():
    mean = jax.tree.map(lambda *x: np.mean(x, 0, np.float64), *each)
    if how == 'gray' and mean.color:
      report['prior'] = {x: float(mean.color[x]) for x in ('error', 'gray')}
    report[how] = {name: float(x.explained()) for name, x in mean.fits.items()}
    if not config.train.vit_weights:
      report[how]['class_token'] = 1 - float(mean.class_token)
  print(describe(report))
  files.write(workdir / REPORT, json.dumps(report, indent=2) + '\n')


def describe(report: Mapping[str, Any]) -> str:
  """The report as a table of Markdown."""
  columns = list(report['gray'])
  heading = [x.replace('_', ' ').replace('level', 'level ') for x in columns]
  lines = [
    f"Share of the variance of VGG16's maps that {report['kind']} decoders "
    f'explain, and cosine of the class token, of {report["held_out"]} pictures '
    'held out:',
    '',
    f'| shown | {" | ".join(heading)} |',
    '|---' * (len(columns) + 1) + '|',
  ]
  for how in ('color', 'gray'):
    values = (f'{report[how][name]:.3f}' for name in columns)
    lines.append(f'| {how} | {" | ".join(values)} |')
  if 'prior' in report:
    error, of_gray = report['prior']['error'], report['prior']['gray']
    lines += [
      '',
      f'Mean squared error of ab by the prior: {error:.1f}; of gray: '
      f'{of_gray:.1f}.',
    ]
  return '\n'.join(lines)
