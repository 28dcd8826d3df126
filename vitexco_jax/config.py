"""The configuration: its schema, files that define it, and old formats.

`check` compares a config with the schema, a table of all keys. It runs once where a
config enters: on the command line, with weights, and in the library's functions
that take a config. What depends on more than the config, such as the number of
devices or the content of a folder, is checked where that is known.
"""

import math
import runpy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from vitexco_jax import files
from vitexco_jax.errors import UserError, nearest

FORMAT = 1  # Of `config.json`; increase it if keys are added or renamed.
PAPER = 'configs/vitexco.py'
_SHOWN = 60  # Characters of a value in a message.


class Rule(NamedTuple):
  """What a value must be."""

  kind: type
  words: str  # Completes the sentence "config.NAME=VALUE must be ...".
  fits: Callable[[Any], bool]  # Is called only if the value has the type.


# --- Rules ---

_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number'}


def _whole(least: int, most: int | None = None) -> Rule:
  return _number(int, least, most)


def _real(
  least: float | None = None,
  most: float | None = None,
  *,
  above: float | None = None,
  below: float | None = None,
) -> Rule:
  return _number(float, least, most, above, below)


def _number(kind, least=None, most=None, above=None, below=None) -> Rule:
  bounds = {'at least': least, 'above': above}
  bounds |= {'at most': most, 'below': below}
  words = [f'{name} {x}' for name, x in bounds.items() if x is not None]

  def fits(value):
    return (
      math.isfinite(value)
      and (least is None or value >= least)
      and (most is None or value <= most)
      and (above is None or value > above)
      and (below is None or value < below)
    )

  return Rule(kind, ' and '.join(words) or 'finite', fits)


def _choice(*names: str) -> Rule:
  words = 'one of ' + ', '.join(filter(None, names))
  if '' in names:
    words += ", or '' for none"
  return Rule(str, words, lambda value: value in names)


def _size(least: int, multiple: int = 1) -> Rule:
  words = f'(height, width), at least {least}'
  if multiple > 1:
    words += f' and a multiple of {multiple}'
  words += ' on both sides'

  def fits(value):
    return len(value) == 2 and all(
      _is(int, x) and x >= least and x % multiple == 0 for x in value
    )

  return Rule(tuple, words, fits)


def _taps(value: tuple[int, ...]) -> bool:
  return len(value) == 5 and all(_is(int, x) and x >= 1 for x in value)


def _levels(value: tuple[int, ...]) -> bool:
  chosen = set(value) if all(_is(int, x) for x in value) else set()
  return 0 < len(value) == len(chosen & {1, 2, 3, 4, 5})


_TEXT = Rule(str, 'a text', lambda value: True)
_SWITCH = Rule(bool, 'true or false', lambda value: True)
_RATE = _real(0)
_SHARE = _real(0, 1)

SCHEMA = {
  'variant': _TEXT,
  'seed': _whole(0),
  'data.records': _TEXT,
  'data.size': _size(32, 16),
  'data.frame_step': _whole(1),
  'data.run_length': _whole(3),
  'data.min_frames': _whole(2),
  'data.quality.min_chroma': _real(0),
  'data.quality.min_motion': _real(0),
  'data.quality.max_blockiness': _real(0),
  'data.quality.max_blur': _real(0),
  'data.flow': _choice('deepflow', 'dis'),
  'data.retrieved_share': _SHARE,
  'data.first_frame_share': _SHARE,
  'data.warped_share': _SHARE,
  'data.nearby_share': _SHARE,
  'data.threads': _whole(0),
  'data.workers': _whole(0),
  'retrieval.network': _choice('vit', 'efficientnet_lite0'),
  'retrieval.weights': _TEXT,
  'retrieval.gray': _SWITCH,
  'retrieval.index': _choice('exact', 'ivf'),
  'retrieval.count': _whole(1),
  'retrieval.near_duplicate': _real(-1, 1),
  'augment.flip': _SHARE,
  'augment.crop': _real(0.1, 1),
  'augment.blur': _real(0, 10),
  'augment.flicker': _SHARE,
  'augment.grain': _real(0, 50),
  'augment.luminance_noise': _real(0, 50),
  'model.dtype': _choice('float32', 'bfloat16'),
  'model.stem': _choice('', 'efficientnet_lite0'),
  'model.vit.variant': _choice(
    *('Ti/16', 'Ti/8', 'S/16', 'S/8', 'B/16', 'B/8', 'test/16')
  ),
  'model.vit.taps': Rule(tuple, 'five blocks, counted from 1', _taps),
  'model.vit.gelu': _choice('tanh', 'erf'),
  'model.vit.pos_grid': _whole(0),
  'model.feature_transform.kind': _choice('bilinear', 'subpixel'),
  'model.feature_transform.width': _real(above=0),
  'model.feature_transform.dropout': _real(0, below=1),
  'model.correspondence.levels': Rule(
    tuple, 'one or more of 1, 2, 3, 4, 5, each once', _levels
  ),
  'model.correspondence.width': _real(above=0),
  'model.correspondence.temperature': _real(0),
  'model.correspondence.block': _whole(1),
  'model.colorizer.width': _real(0),
  'model.colorizer.residual': _choice('', 'warped', 'blend'),
  'model.colorizer.blend_logit': _real(),
  'model.colorizer.blend_tolerance': _real(above=0),
  'model.prior.width': _real(0),
  'model.prior.unsure_spread': _real(above=0),
  'model.prior.same_cosine': _real(-1, 1),
  'model.motion.previous_tolerance': _real(above=0),
  'model.motion.anchor_tolerance': _real(above=0),
  'model.motion.anchor_lightness': _real(above=0),
  'model.motion.flow_alpha': _real(above=0),
  'model.discriminator.width': _real(above=0),
  **{
    f'loss.weights.{name}': _real(0)
    for name in (
      *('l1', 'adversarial', 'perceptual', 'contextual', 'temporal'),
      *('smoothness', 'warped'),
    )
  },
  'loss.features': _choice('feature_transform', 'vgg16'),
  'loss.l1_same_video_only': _SWITCH,
  'pretrain.size': _size(16, 16),
  'pretrain.crop': _real(above=0, most=1),
  'pretrain.gray': _SHARE,
  'pretrain.updates': _whole(1),
  'pretrain.batch_size': _whole(1),
  'pretrain.accumulation': _whole(1),
  'pretrain.learning_rate.vit': _RATE,
  'pretrain.learning_rate.feature_transform': _RATE,
  'pretrain.learning_rate.prior': _RATE,
  'pretrain.learning_rate.heads': _RATE,
  'pretrain.first_block': _whole(1),
  'pretrain.warmup': _real(0, below=1),
  'pretrain.weight_decay': _real(0),
  'pretrain.gradient_norm': _real(above=0),
  'pretrain.taught': _real(above=0, most=1),
  'pretrain.average': _real(0, below=1),
  'pretrain.validation': _TEXT,
  'pretrain.weights.maps': _real(0),
  'pretrain.weights.class_token': _real(0),
  'pretrain.weights.color': _real(0),
  'pretrain.weights.spread': _real(0),
  'pretrain.log_every': _whole(1),
  'pretrain.checkpoint_every': _whole(1),
  'train.updates': _whole(1),
  'train.batch_size': _whole(1),
  'train.accumulation': _whole(1),
  'train.clip_length': _whole(2),
  **{
    f'train.learning_rate.{name}': _RATE
    for name in (
      *('stem', 'vit', 'feature_transform', 'correspondence', 'colorizer'),
      *('discriminator', 'prior'),
    )
  },
  'train.schedule_power': _real(0),
  'train.b1': _real(0, below=1),
  'train.b2': _real(0, below=1),
  'train.weight_decay': _real(0),
  'train.unroll': _whole(0),
  'train.vit_weights': _TEXT,
  'train.init': _TEXT,
  'train.log_every': _whole(1),
  'train.strip_every': _whole(1),
  'train.checkpoint_every': _whole(1),
  'use.size': _size(32),
  'use.temperature': _real(0),
  'use.anchor': _SHARE,
  'use.refine': _whole(1, 4),
  'use.enlarge': _whole(1, 4),
  'use.components': _whole(0, 4096),
  'use.mix_tolerance': _real(above=0),
  'use.unsure_confidence': _real(-1, 1),
  'use.unsure_frames': _whole(1),
}

_GROUPS = {
  name[:end] for name in SCHEMA for end, x in enumerate(name) if x == '.'
}


def check(config: Mapping[str, Any], where: str = '') -> None:
  """Checks all values of a config, and values that must fit each other.

  Args:
    config: nested by groups.
    where: where it comes from, to begin the message with.

  Raises:
    UserError: a key is unknown or missing, or a value is wrong; names the key as
      `config.NAME`.
  """
  _check_values(flatten(config), where)


def override(
  config: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Returns a copy of a config with other values, by dotted name.

  Raises:
    UserError: a key is unknown, or a value is wrong.
  """
  for name, value in values.items():
    _check_value(name, value)
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(values)
  check(config)
  return config


def _check_values(values: Mapping[str, Any], where: str) -> None:
  try:
    for name, value in values.items():
      _check_value(name, value)
    for name in SCHEMA:
      if name not in values:
        raise UserError(f'there is no config.{name}')
    _check_together(values)
  except UserError as error:
    raise UserError(f'{where}{error}') from None


def _check_value(name: str, value: Any) -> None:
  rule = SCHEMA.get(name)
  if rule is None:
    if name in _GROUPS:
      raise UserError(
        f'config.{name}={_shown(value)} must be a group of values'
      )
    shown = _shown(name)
    raise UserError(f'config.{shown} is unknown' + nearest(shown, SCHEMA))
  if not _is(rule.kind, value):
    kind = _KINDS.get(rule.kind, rule.words)
    raise UserError(f'config.{name}={_shown(value)} must be {kind}')
  if not rule.fits(value):
    raise UserError(f'config.{name}={_shown(value)} must be {rule.words}')


def _shown(value: Any) -> str:
  """Returns a value for a message: one short line, whatever it is."""
  text = str(value)
  if text.isprintable() and len(text) <= _SHOWN:
    return text
  return ascii(text)[:_SHOWN] + '...'


def _is(kind: type, value: Any) -> bool:
  """Tests the type of a value; whole numbers are numbers, too."""
  if kind is float:
    return type(value) in (int, float)
  if kind is tuple:
    return isinstance(value, tuple | list)
  return type(value) is kind


def _check_together(values: Mapping[str, Any]) -> None:
  """Checks values that must fit each other."""
  least, length = values['data.min_frames'], values['data.run_length']
  if least > (length + 1) // 2:
    raise UserError(
      f'config.data.min_frames={least} must be at most half of '
      f'config.data.run_length={length}'
    )
  names = [f'data.{x}_share' for x in ('first_frame', 'warped', 'nearby')]
  if sum(values[name] for name in names) > 1:
    given = ', '.join(f'config.{name}={values[name]}' for name in names)
    raise UserError(f'{given} must have a sum of at most 1')
  if not values['model.colorizer.width'] and (
    not values['model.colorizer.residual']
  ):
    raise UserError(
      'config.model.colorizer.width=0 must be above 0 without '
      'config.model.colorizer.residual'
    )


# --- Config files ---


def load(spec: str) -> ml_collections.ConfigDict:
  """Returns `get_config(VARIANT)` of FILE[:VARIANT].

  Args:
    spec: without a file, it is a variant of the config of the program.

  Raises:
    UserError: the file or variant does not exist, or the config is invalid.
  """
  path, _, variant = spec.partition(':')
  path = path or str(files.shipped(PAPER))
  try:
    files.check_regular(path)
  except UserError as error:
    raise UserError(
      f'{error}; a config of the program is, for example, :small'
    ) from error
  try:
    get_config = runpy.run_path(path)['get_config']
  except (SyntaxError, KeyError, ValueError, RecursionError) as error:
    raise UserError(
      f'{path} is not a Python file with a get_config()'
    ) from error
  try:
    config = get_config(*filter(None, [variant]))
  except (ValueError, TypeError) as error:
    raise UserError(str(error)) from error
  check(config)
  return config


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values of a nested config by dotted name."""
  return dict(_values(config, ''))


def _values(group: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
  for key, value in group.items():
    name = prefix + key
    inner = isinstance(value, Mapping | ml_collections.ConfigDict)
    if inner and name in _GROUPS:
      yield from _values(value, f'{name}.')
    else:
      yield name, value


# --- Old formats ---

_RENAMED = {
  'retrieval.grey': 'retrieval.gray',
  'pretrain.grey': 'pretrain.gray',
  'train.luminance_noise': 'augment.luminance_noise',
}
# Keys that configs of all formats have.
_NEEDED = ('variant', 'data.size', 'model.vit.variant')


def from_json(
  stored: Mapping[str, Any], where: str
) -> ml_collections.ConfigDict:
  """Makes a config of what `to_json` returned, in this version or earlier.

  Args:
    stored: JSON values; not trusted.
    where: where they come from, to begin messages with.

  Returns:
    A locked config with all keys of the schema.

  Raises:
    UserError: the format is unknown, or a value is missing or wrong.
  """
  stored = dict(stored)
  version = stored.pop('format', 0)
  if type(version) is not int or not 0 <= version <= FORMAT:
    raise UserError(
      f'{where}the format is {version}, but this version of the program reads '
      f'formats up to {FORMAT}: update the program'
    )
  values = flatten(stored)
  if version == 0:
    values = _from_format_0(values, where)
  _check_values(values, where)
  nested: dict[str, Any] = {}
  for name, value in values.items():
    *groups, key = name.split('.')
    group = nested
    for part in groups:
      group = group.setdefault(part, {})
    group[key] = SCHEMA[name].kind(value)
  return ml_collections.ConfigDict(nested).lock()


def to_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns a config as JSON values, with the number of the format."""
  return {'format': FORMAT, **config.to_dict()}


def _from_format_0(values: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Adds keys that did not exist, with values that mean what was then."""
  values = {_RENAMED.get(name, name): x for name, x in values.items()}
  for name in _NEEDED:
    if name not in values:
      raise UserError(f'{where}there is no config.{name}')
  residual = values.get('model.colorizer.residual')
  if isinstance(residual, bool):
    values['model.colorizer.residual'] = 'warped' if residual else ''
  if 'model.correspondence.temperature' in values:
    trained = values['model.correspondence.temperature']
    values.setdefault('use.temperature', trained)
  # What was added later is off in the paper's config, or was a constant.
  return flatten(load(':paper')) | values
