"""Networks of a config: training and use, discriminator, wrong settings."""

import pytest

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.generator import make_discriminator, make_generator


def test_use_and_training_have_temperatures_of_their_own():
  config = get_config('tiny')
  config.model.correspondence.temperature = 0.25
  config.use.temperature = 0.125
  for in_use, expected in ((False, 0.25), (True, 0.125)):
    generator = make_generator(config, in_use=in_use)
    assert generator.correspondence['temperature'] == expected
  assert generator.mixture['anchor_weight'] == config.use.anchor


def test_there_is_a_discriminator_if_its_loss_has_a_weight():
  config = get_config('tiny')
  config.loss.weights.adversarial = 0.5
  assert make_discriminator(config).width == config.model.discriminator.width
  config.loss.weights.adversarial = 0.0
  assert make_discriminator(config) is None


def test_a_wrong_setting_is_named_as_in_the_config():
  config = get_config('tiny')
  config.model.vit.taps = (1, 1, 2, 2, 3)  # It has two blocks.
  with pytest.raises(UserError, match=r'^config\.model\.vit\.taps='):
    make_generator(config)
