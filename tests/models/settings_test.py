"""Validation of the generator's settings: messages name the setting."""

import re

import jax
import pytest
from tiny_generator import make_tiny, random_rgb

from vitexco_jax.errors import UserError
from vitexco_jax.models import settings


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'dtype': 'float16'}, "dtype is 'float16'; known are float32, bfloat16"),
    (
      {'stem': 'resnet'},
      "stem is 'resnet'; known are efficientnet_lite0, and '' for none",
    ),
    (
      {
        'stem': 'efficientnet_lite0',
        'vit': {'variant': 'Ti/8', 'taps': (8, 9, 10, 11, 12)},
      },
      "vit.variant is 'Ti/8', which does not fit stem=efficientnet_lite0; use a "
      'variant with /16',
    ),
    (
      {'vit': {'variant': 'test/16', 'taps': (1, 2)}},
      'vit.taps is (1, 2); it must name five blocks',
    ),
    (
      {'colorizer': {'width': 1 / 16, 'residual': 'flow'}},
      "colorizer.residual is 'flow'; known are warped, blend, and '' for none",
    ),
    ({'colorizer': {'width': 0}}, 'colorizer.width is 0; it must be above 0'),
    ({'prior': {'width': -1}}, 'prior.width is -1; it must be at least 0'),
  ],
)
def test_invalid_settings_are_named(changes, message):
  with pytest.raises(UserError, match=f'^{re.escape(message)}'):
    settings.check(make_tiny(**changes))


@pytest.mark.parametrize(
  ('group', 'name', 'value'),
  [
    ('correspondence', 'levels', (2, 2)),
    ('correspondence', 'block', 0),
    ('correspondence', 'temperature', -1.0),
    ('correspondence', 'width', 0),
    ('feature_transform', 'kind', 'nearest'),
    ('feature_transform', 'dropout', 1.0),
  ],
)
def test_invalid_settings_of_a_network_are_named(group, name, value):
  usual = getattr(make_tiny(), group)
  generator = make_tiny(**{group: {**usual, name: value}})
  message = f'{group}.{name} is {value!r}; '
  with pytest.raises(UserError, match=f'^{re.escape(message)}'):
    settings.check(generator)


def test_settings_are_checked_before_any_network_is_built():
  with pytest.raises(UserError, match='^stem is'):
    jax.eval_shape(
      make_tiny(stem='resnet').init, jax.random.key(0), random_rgb(1)
    )
