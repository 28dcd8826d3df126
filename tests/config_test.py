"""The schema of the configuration, and configs of earlier versions."""

import json

import pytest

from configs.vitexco import get_config
from vitexco_jax import config as configs
from vitexco_jax import files
from vitexco_jax.errors import UserError

VARIANTS = ('paper', 'small', 'tiny', 'paper_tiny')


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_config_passes_and_survives_json(variant):
  config = get_config(variant)
  configs.check(config)
  stored = json.loads(json.dumps(configs.to_json(config)))
  assert stored['format'] == configs.FORMAT
  restored = configs.from_json(stored, '')
  assert restored.to_dict() == config.to_dict()
  assert restored.is_locked


@pytest.mark.parametrize(
  'name, value, sentence',
  [
    ('seed', -1, 'must be at least 0'),
    ('data.min_frames', 5, 'at most half of config.data.run_length=8'),
    ('data.nearby_share', 0.9, 'sum of at most 1'),
  ],
)
def test_wrong_values_are_named(name, value, sentence):
  config = get_config('tiny')
  config.update_from_flattened_dict({name: value})
  with pytest.raises(UserError, match=rf'config\.{name}=.*{sentence}'):
    configs.check(config)


def test_a_colorizer_without_network_needs_a_residual():
  config = get_config('paper_tiny')
  config.model.colorizer.width = 0.0
  config.model.colorizer.residual = 'warped'
  configs.check(config)
  config.model.colorizer.residual = ''
  with pytest.raises(UserError, match='colorizer.width=0 must be above 0'):
    configs.check(config)


def test_keys_that_are_unknown_or_missing_are_named():
  stored = get_config('tiny').to_dict()
  stored['train']['batchsize'] = 3
  with pytest.raises(
    UserError, match=r'config\.train\.batchsize is unknown; did you mean'
  ):
    configs.check(stored)
  del stored['train']
  with pytest.raises(UserError, match=r'there is no config\.train\.updates'):
    configs.check(stored)


def _first_export():
  """The config of an export before there were formats, and most keys."""
  config = get_config('small').to_dict()
  for group in ('augment', 'retrieval', 'pretrain', 'use'):
    del config[group]
  for name in ('prior', 'motion', 'stem'):
    del config['model'][name]
  del config['model']['vit']['pos_grid']
  config['model']['colorizer'] = {'width': 0.25, 'residual': True}
  config['train']['luminance_noise'] = 1.5
  return json.loads(json.dumps(config))


def test_a_config_without_a_format_number_is_read():
  config = configs.from_json(_first_export(), '')
  assert config.model.colorizer.residual == 'warped'
  assert config.augment.luminance_noise == 1.5
  assert config.use.temperature == config.model.correspondence.temperature
  assert config.use.anchor == 0 and config.use.refine == 1
  assert config.model.prior.width == 0 and config.model.stem == ''
  assert config.model.motion.flow_alpha == 10


def test_keys_that_an_earlier_format_lacks_get_the_values_of_the_paper(
  monkeypatch,
):
  stored = configs.to_json(get_config('tiny'))
  del stored['use']['components'], stored['model']['motion']
  monkeypatch.setattr(configs, 'FORMAT', configs.FORMAT + 1)
  config = configs.from_json(stored, '')
  paper = get_config('paper')
  assert config.use.components == paper.use.components
  assert config.model.motion == paper.model.motion


def test_the_config_of_the_shipped_weights_is_read():
  path = files.shipped('weights/small/config.json')
  config = configs.from_json(json.loads(path.read_text()), '')
  assert config.variant == 'small' and config.retrieval.gray


def test_gray_is_renamed():
  stored = get_config('small').to_dict()
  stored['retrieval']['grey'] = not stored['retrieval'].pop('gray')
  stored['pretrain']['grey'] = 0.25
  del stored['pretrain']['gray']
  config = configs.from_json(stored, '')
  assert config.retrieval.gray is False and config.pretrain.gray == 0.25


def test_a_later_format_is_refused():
  stored = configs.to_json(get_config('tiny')) | {'format': 99}
  with pytest.raises(
    UserError, match=r'^it: the format is 99.*update the prog'
  ):
    configs.from_json(stored, 'it: ')


def test_a_missing_key_of_this_format_is_named():
  stored = configs.to_json(get_config('tiny'))
  del stored['use']['size']
  with pytest.raises(UserError, match=r'^it: there is no config\.use\.size'):
    configs.from_json(stored, 'it: ')
