"""Validation of the generator's settings.

Each message starts with the name of the setting, such as `vit.variant`, so that
the caller can put its own prefix before it.
"""

from flax import linen as nn

from vitexco_jax.errors import UserError
from vitexco_jax.models import colorizer, feature_transform, stem, vit

LEVELS = tuple(range(1, 1 + len(feature_transform.STRIDES)))
_DTYPES = ('float32', 'bfloat16')


def check(generator: nn.Module) -> None:
  """Checks the attributes of a `Generator`, before any network is built.

  Raises:
    UserError: a setting is invalid, or two settings do not fit.
  """
  _check_networks(generator)
  _check_numbers(generator)


def _check_networks(generator: nn.Module) -> None:
  """Checks names, and the settings that several networks share."""
  _check_choice('dtype', generator.dtype, _DTYPES)
  _check_choice('stem', generator.stem, ('', *stem.NAMES))
  _check_choice(
    'colorizer.residual',
    generator.colorizer.get('residual', ''),
    colorizer.RESIDUALS,
  )
  _check_choice(
    'feature_transform.kind',
    generator.feature_transform.get('kind', 'bilinear'),
    feature_transform.KINDS,
  )
  patch = vit.checked_sizes(**generator.vit).patch
  if generator.stem and patch != stem.STRIDE:
    raise UserError(
      f'vit.variant is {generator.vit["variant"]!r}, which does not fit '
      f'stem={generator.stem}; use a variant with /{stem.STRIDE}'
    )
  taps = tuple(generator.vit['taps'])
  if len(taps) != len(LEVELS):
    raise UserError(
      f'vit.taps is {taps}; it must name five blocks, one for each level of the '
      'features'
    )
  levels = tuple(generator.correspondence['levels'])
  if not levels or len(set(levels).intersection(LEVELS)) != len(levels):
    raise UserError(
      f'correspondence.levels is {levels}; it must name one or more of 1, 2, 3, '
      '4, 5, each once'
    )


def _check_numbers(generator: nn.Module) -> None:
  """Checks the ranges of numbers."""
  block = generator.correspondence['block']
  if block < 1:
    raise UserError(f'correspondence.block is {block}; it must be above 0')
  temperature = generator.correspondence['temperature']
  if not temperature >= 0:
    raise UserError(
      f'correspondence.temperature is {temperature}; it must be at least 0'
    )
  dropout = generator.feature_transform['dropout']
  if not 0 <= dropout < 1:
    raise UserError(
      f'feature_transform.dropout is {dropout}; it must be at least 0 and below '
      '1'
    )
  if not generator.prior['width'] >= 0:
    raise UserError(
      f'prior.width is {generator.prior["width"]}; it must be at least 0'
    )
  for name in ('feature_transform', 'correspondence', 'colorizer'):
    width = getattr(generator, name)['width']
    optional = name == 'colorizer' and generator.colorizer.get('residual')
    if not (width > 0 or (width == 0 and optional)):
      raise UserError(f'{name}.width is {width}; it must be above 0')


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    known = ', '.join(filter(None, choices))
    none = ", and '' for none" if '' in choices else ''
    raise UserError(f'{name} is {value!r}; known are {known}{none}')
