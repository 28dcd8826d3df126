"""Settings of the generator that must fit each other.

Types, ranges, and choices of single values are in `schema.SCHEMA`. A message starts
with the name of the setting, such as `vit.variant`, so that the caller can put its
own prefix before it.
"""

from flax import linen as nn

from vitexco_jax.errors import UserError
from vitexco_jax.models import feature_transform, stem, vit

LEVELS = tuple(range(1, 1 + len(feature_transform.STRIDES)))


def check(generator: nn.Module) -> None:
  """Checks the attributes of a `Generator`, before any network is built.

  Raises:
    UserError: two settings do not fit.
  """
  taps = tuple(generator.vit['taps'])
  patch = vit.checked_sizes(generator.vit['variant'], taps).patch
  if generator.stem and patch != stem.STRIDE:
    raise UserError(
      f'vit.variant={generator.vit["variant"]} must have /{stem.STRIDE} to fit '
      f'stem={generator.stem}'
    )
  if len(taps) != len(LEVELS):
    raise UserError(
      f'vit.taps={taps} must be five blocks, one for each level of the features'
    )
