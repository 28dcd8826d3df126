"""Settings of a film: a run with other settings does not resume."""

import pytest
from films import (
  COUNT,
  lossless,
  make_plan,
  run_film,
)
from painter import Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference.outputs import Options
from vitexco_jax.inference.plan import Shot
from vitexco_jax.media.borders import Borders

pytestmark = pytest.mark.usefixtures('small_blocks')


def test_a_changed_shot_is_colored_again(tmp_path, source, still):
  shot = Shot(0, COUNT, (still('red'),))
  output = tmp_path / 'out.mkv'
  run_film(source, make_plan(source, shot), output, stop=6)
  other = make_plan(source, shot._replace(borders=Borders(4, 4)))
  assert run_film(source, other, output)[0][0].number == 0


@pytest.mark.parametrize(
  'change, sentence',
  [
    ({'options': Options(saturation=1.5)}, '`saturation` 1.0, which now'),
    ({'options': lossless()}, '`codec` h264, which now is ffv1'),
    ({'painter': Painter(size=(24, 40))}, r'`config.use.size` \(24, 32\)'),
  ],
)
def test_other_settings_are_refused_with_the_difference(
  tmp_path, source, red, change, sentence
):
  output = tmp_path / 'out.mkv'
  run_film(source, red, output, stop=9)
  with pytest.raises(UserError, match=sentence) as caught:
    run_film(**{'source': source, 'made': red, 'output': output} | change)
  assert 'out.mkv.part was begun with' in str(caught.value)
  assert run_film(source, red, output)[0][0].number == 8  # Nothing is lost.
