"""Settings of the generator that must fit each other."""

import re

import jax
import pytest
from tiny_generator import make_tiny, random_rgb

from vitexco_jax.errors import UserError
from vitexco_jax.models import settings


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {
        'stem': 'efficientnet_lite0',
        'vit': {'variant': 'Ti/8', 'taps': (8, 9, 10, 11, 12)},
      },
      'vit.variant=Ti/8 must have /16 to fit stem=efficientnet_lite0',
    ),
    (
      {'vit': {'variant': 'test/16', 'taps': (1, 2)}},
      'vit.taps=(1, 2) must be five blocks',
    ),
    (
      {'vit': {'variant': 'test/16', 'taps': (1, 1, 2, 2, 3)}},
      'vit.taps=(1, 1, 2, 2, 3) must be blocks of test/16, counted from 1 to 2',
    ),
  ],
)
def test_invalid_settings_are_named(changes, message):
  with pytest.raises(UserError, match=f'^{re.escape(message)}'):
    settings.check(make_tiny(**changes))


def test_settings_are_checked_before_any_network_is_built():
  vit = {'variant': 'Ti/17', 'taps': (1, 1, 2, 2, 2)}
  with pytest.raises(UserError, match='^vit.variant='):
    jax.eval_shape(make_tiny(vit=vit).init, jax.random.key(0), random_rgb(1))
