"""The schema: types, bounds, and choices, which agree with the modules."""

import pytest

from configs.vitexco import get_config
from vitexco_jax import flow
from vitexco_jax.errors import UserError
from vitexco_jax.models import (
  colorizer,
  feature_transform,
  motion,
  prior,
  stem,
  vit,
)
from vitexco_jax.schema import SCHEMA


@pytest.mark.parametrize(
  'name, value, sentence',
  [
    ('seed', -1, 'must be at least 0'),
    ('seed', True, 'must be a whole number'),
    ('data.size', (32, 40), r'at least 32 and a multiple of 16 on both sides'),
    ('data.size', (32, 48, 64), r'must be \(height, width\)'),
    ('data.flow', 'raft', 'must be one of deepflow, dis'),
    ('augment.flip', 1.5, 'must be at least 0 and at most 1'),
    ('augment.crop', 0.0, 'must be at least 0.1 and at most 1'),
    ('augment.blur', float('nan'), 'must be at least 0 and at most 10'),
    ('model.dtype', 'float31', 'must be one of float32, bfloat16'),
    ('model.stem', 'vgg', "one of efficientnet_lite0, or '' for none"),
    ('model.vit.variant', 'Ti/17', 'must be one of Ti/16'),
    ('model.vit.taps', (1, 1, 2, 2), 'must be five blocks'),
    ('model.vit.gelu', 'relu', 'must be one of tanh, erf'),
    ('model.correspondence.levels', (), 'must be one or more of 1, 2'),
    ('model.correspondence.levels', (2, 6), 'must be one or more of 1, 2'),
    ('model.correspondence.levels', (2, 2), 'must be one or more of 1, 2'),
    ('model.correspondence.block', 0, 'must be at least 1'),
    ('model.correspondence.width', 0.0, 'must be above 0'),
    ('model.feature_transform.dropout', 1.0, 'at least 0 and below 1'),
    ('model.colorizer.width', float('nan'), 'must be at least 0'),
    ('model.mixture.channels', -1, 'must be at least 0'),
    ('use.anchor', 1.5, 'must be at least 0 and at most 1'),
    ('use.refine', 5, 'must be at least 1 and at most 4'),
  ],
)
def test_wrong_values_are_named(name, value, sentence):
  with pytest.raises(UserError, match=rf'config\.{name}=.*{sentence}'):
    SCHEMA[name].check(name, value)


def test_choices_are_those_of_the_modules():
  for name, known in {
    'data.flow': flow.METHODS,
    'model.stem': ('', *stem.NAMES),
    'model.vit.variant': tuple(vit.VARIANTS),
    'model.feature_transform.kind': feature_transform.KINDS,
    'model.colorizer.residual': colorizer.RESIDUALS,
  }.items():
    rule = SCHEMA[name]
    assert all(map(rule.fits, known)) and not rule.fits('other')


def test_numbers_agree_with_the_defaults_of_the_modules():
  model = get_config('paper').model
  assert motion.Motion(**model.motion) == motion.Motion()
  result = prior.Prior()
  assert model.prior.unsure_spread == result.unsure_spread
  assert model.prior.same_cosine == result.same_cosine
  assert flow.backward_flow.__defaults__ == (model.motion.flow_alpha,)
