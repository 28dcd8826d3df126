"""Colors that are propagated in both directions between bound references."""

import numpy as np
import pytest
from films import (
  COUNT,
  lossless,
  mean_ab,
  one_shot,
  read_frames,
  run_film,
)
from painter import Painter

from vitexco_jax.inference import schedule

pytestmark = pytest.mark.usefixtures('small_blocks')


def test_colors_propagate_in_both_directions_from_a_bound_reference(
  tmp_path, source, still
):
  film_plan = one_shot(source, still('red', frame=9))
  output = tmp_path / 'out.mkv'
  painter = Painter()
  steps, _ = run_film(
    source, film_plan, output, painter=painter, options=lossless()
  )
  assert painter.references == [(1, True), (1, True)]
  assert len(steps) == schedule.count_steps(film_plan) == COUNT + 10
  backwards = [step.number for step in steps if step.rgb is None]
  assert backwards == list(range(9, -1, -1))
  actual = np.array([mean_ab(rgb) for rgb in read_frames(output)])
  away = [abs(i - 9) for i in range(COUNT)]  # As many steps from its frame.
  np.testing.assert_allclose(actual[:, 0], 20, atol=1.0)
  np.testing.assert_allclose(actual[:, 1], away, atol=1.0)


@pytest.mark.parametrize('sure', [0.8, 0.6, 0.9])
def test_between_two_references_their_colors_are_mixed(
  tmp_path, source, still, sure
):
  film_plan = one_shot(source, still('green', frame=2), still('red', frame=18))
  output = tmp_path / 'out.mkv'
  painter = Painter({-20: sure, 20: 0.8})
  run_film(source, film_plan, output, painter=painter, options=lossless())
  actual = np.array([mean_ab(rgb)[0] for rgb in read_frames(output)])
  np.testing.assert_allclose(actual[:3], -20, atol=1.0)
  np.testing.assert_allclose(actual[18:], 20, atol=1.0)
  share = (np.arange(2, 18) - 2) / 16
  weights = share, (1 - share) * np.exp((sure - 0.8) / 0.1)
  expected = 20 * (weights[0] - weights[1]) / (weights[0] + weights[1])
  np.testing.assert_allclose(actual[2:18], expected, atol=1.5)


def test_interrupted_stretches_resume_to_the_same_result(
  tmp_path, source, still
):
  bound = still('green', frame=5), still('red', frame=18)
  film_plan = one_shot(source, *bound, still('red'))
  run_film(source, film_plan, tmp_path / 'whole.mkv')
  again = tmp_path / 'again.mkv'
  counts = [
    len(run_film(source, film_plan, again, stop)[0]) for stop in (3, 8, 25, 500)
  ]
  assert counts[:3] == [3, 8, 25]
  assert again.read_bytes() == (tmp_path / 'whole.mkv').read_bytes()


def test_colors_propagated_only_backwards_are_saved_too(
  tmp_path, source, still
):
  film_plan = one_shot(source, still('green', frame=5))
  output = tmp_path / 'out.mkv'
  # Frames 5 to 0 backwards, 0 to 4 forwards, then the first of what follows.
  run_film(source, film_plan, output, stop=12)
  steps, _ = run_film(source, film_plan, output)
  assert [step.number for step in steps] == list(range(5, COUNT))
