"""The configuration: checks, files that define it, and old formats.

`check` compares a config with the schema, a table of all keys. It runs once where a
config enters: on the command line, with weights, and in the library's functions
that take a config. What depends on more than the config, such as the number of
devices or the content of a folder, is checked where that is known.
"""

import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from vitexco_jax import files
from vitexco_jax.errors import UserError, nearest
from vitexco_jax.schema import SCHEMA, shown

# The format of `config.json`. Increase it if keys are added, which get the values of
# the paper's config in older files, or renamed.
FORMAT = 3
PAPER = 'configs/vitexco.py'
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
      raise UserError(f'config.{name}={shown(value)} must be a group of values')
    known = nearest(name, SCHEMA)
    raise UserError(f'config.{shown(name)} is unknown{known}')
  rule.check(name, value)


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
    and values['model.colorizer.kind'] == 'u_net'
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
    files.check_regular(Path(path))
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
  if version < FORMAT:
    # What was added is off in the paper's config, was a constant, or does not depend
    # on the weights.
    values = flatten(load(':paper')) | values
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
  """Renames keys, and converts values that meant something else."""
  values = {_RENAMED.get(name, name): x for name, x in values.items()}
  for name in _NEEDED:
    if name not in values:
      raise UserError(f'{where}there is no config.{name}')
  residual = values.get('model.colorizer.residual')
  if isinstance(residual, bool):
    values['model.colorizer.residual'] = 'warped' if residual else ''
  if residual == 'blend':
    if values.get('model.colorizer.width'):
      raise UserError(
        f"{where}config.model.colorizer.residual='blend' with a U-Net is not "
        'supported: train these weights again'
      )
    values['model.colorizer.kind'] = 'mixture'
    values['model.mixture.channels'] = 0
    del values['model.colorizer.residual'], values['model.colorizer.width']
  if 'model.correspondence.temperature' in values:
    trained = values['model.correspondence.temperature']
    values.setdefault('use.temperature', trained)
  return values
