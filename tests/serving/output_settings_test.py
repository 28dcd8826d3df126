"""output_settings: only values that the film knows."""

import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.serving import output_settings
from vitexco_jax.serving.output_settings import Settings

USUAL = 224, 384
NOTHING = dict.fromkeys(Settings._fields)


def test_defaults_are_those_of_the_program():
  settings = output_settings.parse(NOTHING, USUAL)
  assert settings == Settings()
  options = settings.options(deinterlace=True)
  assert options.saturation == 1 and options.deinterlace
  assert options.coding.codec == 'h264' and options.coding.quality is None


def test_values_reach_the_film():
  settings = output_settings.parse(
    {
      'saturation': 1.2,
      'smoothing': 500,
      'codec': 'prores',
      'quality': 2,
      'working_size': '336x576',
    },
    USUAL,
  )
  assert settings.working_size == (336, 576)
  options = settings.options()
  assert (options.saturation, options.smoothing) == (1.2, 500)
  assert options.coding == ('prores', None, 2)


@pytest.mark.parametrize(
  'body, message',
  [
    ([], 'an object of saturation'),
    ({'codec': 'h264'}, 'an object of saturation'),
    (NOTHING | {'path': '/etc/passwd'}, 'an object of saturation'),
    (NOTHING | {'saturation': -1}, 'from 0 to 4'),
    (NOTHING | {'saturation': float('nan')}, 'from 0 to 4'),
    (NOTHING | {'saturation': True}, 'from 0 to 4'),
    (NOTHING | {'smoothing': '1'}, 'from 0 to 100000'),
    (NOTHING | {'smoothing': float('inf')}, 'from 0 to 100000'),
    (NOTHING | {'codec': 'gif'}, 'one of h264, hevc, ffv1, prores'),
    (NOTHING | {'codec': ['h264']}, 'one of h264, hevc, ffv1, prores'),
    (NOTHING | {'quality': 1.5}, 'a whole number'),
    (NOTHING | {'quality': True}, 'a whole number'),
    (NOTHING | {'quality': 52}, 'from 0 to 51'),
    (NOTHING | {'codec': 'ffv1', 'quality': 1}, 'one quality'),
    (NOTHING | {'working_size': '9999x9999'}, 'one of 224x384'),
    (NOTHING | {'working_size': [224, 384]}, 'one of 224x384'),
  ],
)
def test_other_values_are_refused(body, message):
  with pytest.raises(UserError, match=message):
    output_settings.parse(body, USUAL)


def test_working_sizes_are_multiples_of_a_token():
  sizes = output_settings.working_sizes(USUAL)
  assert sizes[0] == USUAL and len(set(sizes)) == 5
  assert all(x % 16 == 0 for size in sizes for x in size)
