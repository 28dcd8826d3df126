"""Settings of a film: a run with other settings does not resume."""

import pytest
from films import (
  COUNT,
  lossless,
  make_plan,
  one_shot,
  run_film,
)
from painter import Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference.outputs import Options
from vitexco_jax.inference.plan import Shot
from vitexco_jax.media.borders import Borders

pytestmark = pytest.mark.usefixtures('small_blocks')


def test_other_borders_do_not_resume(tmp_path, source, still):
  shot = Shot(0, COUNT, (still('red'),))
  output = tmp_path / 'out.mkv'
  run_film(source, make_plan(source, shot), output, stop=6)
  other = make_plan(source, shot._replace(borders=Borders(4, 4)))
  with pytest.raises(UserError, match=r'was begun with `shot 1` .*within'):
    run_film(source, other, output)


@pytest.mark.parametrize(
  'change, sentence',
  [
    ({'options': Options(saturation=1.5)}, '`saturation` 1.0, which now'),
    ({'options': lossless()}, '`codec` h264, which now is ffv1'),
    ({'painter': Painter(size=(24, 40))}, r'`config.use.size` \(24, 32\)'),
    (
      {'made': 'green'},
      r'`shot 1` 0-22: red.png \w+, which now is .*green.png',
    ),
  ],
)
def test_other_settings_are_refused_with_the_difference(
  tmp_path, source, red, still, change, sentence
):
  output = tmp_path / 'out.mkv'
  run_film(source, red, output, stop=9)
  if 'made' in change:
    change = {'made': one_shot(source, still('green'))}
  with pytest.raises(UserError, match=sentence) as caught:
    run_film(**{'source': source, 'made': red, 'output': output} | change)
  assert 'out.mkv.part was begun with' in str(caught.value)
  assert run_film(source, red, output)[0][0].number == 8  # Nothing is lost.
