"""Colors that are propagated in both directions between bound references."""

import numpy as np
import pytest
from films import (
  COUNT,
  contents,
  lossless,
  make_plan,
  mean_ab,
  one_shot,
  read_frames,
  run_film,
)
from painter import Painter

from vitexco_jax.inference import schedule
from vitexco_jax.inference.plan import Shot
from vitexco_jax.media.borders import Borders

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


def _dissolving(source, first, second):
  """A plan in which frames 7 to 11 show both shots."""
  shots = Shot(0, 12, first, dissolve=5), Shot(12, COUNT, second)
  return make_plan(source, *shots)


def _a_of_shots(path):
  return np.array([mean_ab(rgb)[0] for rgb in read_frames(path)])


def _cross_fade(first, second):
  share = np.clip((np.arange(COUNT) - 6) / 6, 0, 1)
  return (1 - share) * first + share * second


@pytest.mark.parametrize('bound', [{}, {'frame': 12}, {'frame': 17}])
def test_colors_of_both_shots_cross_fade_through_a_dissolve(
  tmp_path, source, still, bound
):
  first, second = still('red'), still('green', **bound)
  film_plan = _dissolving(source, (first,), (second,))
  output, painter = tmp_path / 'out.mkv', Painter()
  steps, _ = run_film(
    source, film_plan, output, painter=painter, options=lossless()
  )
  # From the next shot's reference, or from its first frame, back to frame 7.
  begin = bound.get('frame', 12)
  entering = [step.number for step in steps if step.rgb is None]
  assert entering[: begin - 6] == list(range(begin, 6, -1))
  assert len(steps) == schedule.count_steps(film_plan)
  assert painter.references[:2] == [(1, bool(bound)), (1, False)]
  np.testing.assert_allclose(
    _a_of_shots(output), _cross_fade(20, -20), atol=1.0
  )


@pytest.mark.parametrize('skipped', [0, 1])
def test_colors_fade_to_and_from_a_shot_that_stays_as_it_is(
  tmp_path, source, still, skipped
):
  references = [(still('red'),)] * 2
  references[skipped] = ()
  output = tmp_path / 'out.mkv'
  film_plan = _dissolving(source, *references)
  run_film(source, film_plan, output, options=lossless())
  expected = _cross_fade(*(20 * bool(x) for x in references))
  np.testing.assert_allclose(_a_of_shots(output), expected, atol=1.0)


def test_a_still_within_a_dissolve_belongs_to_its_shot(tmp_path, source, still):
  first, second = still('red', frame=9), still('green')
  output = tmp_path / 'out.mkv'
  film_plan = _dissolving(source, (first,), (second,))
  steps, _ = run_film(source, film_plan, output, options=lossless())
  assert len(steps) == schedule.count_steps(film_plan)
  np.testing.assert_allclose(
    _a_of_shots(output), _cross_fade(20, -20), atol=1.0
  )


@pytest.mark.parametrize('bound', [{}, {'frame': 12}, {'frame': 17}])
def test_shots_of_other_borders_cross_fade_too(tmp_path, source, still, bound):
  film_plan = _dissolving(source, (still('red'),), (still('green', **bound),))
  first, second = film_plan.shots
  second = second._replace(borders=Borders(8, 8))
  film_plan = film_plan._replace(shots=(first, second))
  output = tmp_path / 'out.mkv'
  steps, _ = run_film(source, film_plan, output, options=lossless())
  assert len(steps) == schedule.count_steps(film_plan)
  np.testing.assert_allclose(
    _a_of_shots(output)[:12], _cross_fade(20, -20)[:12], atol=1.0
  )


def test_a_film_resumes_within_a_dissolve(tmp_path, source, still):
  pair = (still('red'),), (still('green', frame=20),)
  film_plan = _dissolving(source, *pair)
  run_film(source, film_plan, tmp_path / 'whole.mkv')
  again = tmp_path / 'again.mkv'
  for stop in (3, 12, 4, 7, 3, 500):
    run_film(source, film_plan, again, stop)
  assert again.read_bytes() == (tmp_path / 'whole.mkv').read_bytes()


def test_the_next_shot_recolors_only_the_dissolve_before_it(
  tmp_path, source, still
):
  red, green = still('red'), still('green')
  output, scratch = tmp_path / 'out.mkv', tmp_path / 'scratch.mkv'
  both = {'overwrite': True, 'keep_work': True}
  run_film(source, _dissolving(source, (red,), (green,)), output, **both)
  changed = _dissolving(source, (red,), (red,))
  steps, _ = run_film(source, changed, output, **both)
  colored = sorted({step.number for step in steps if step.rgb is not None})
  assert colored == list(range(7, COUNT))
  run_film(source, changed, scratch)
  assert contents(output)[0][1] == contents(scratch)[0][1]


def test_a_part_of_a_dissolve_is_that_of_the_whole_film(
  tmp_path, source, still
):
  film_plan = _dissolving(source, (still('red'),), (still('green'),))
  whole, part = tmp_path / 'whole.mkv', tmp_path / 'part.mkv'
  run_film(source, film_plan, whole, options=lossless())
  run_film(source, film_plan, part, options=lossless(), frames=range(5, 10))
  np.testing.assert_array_equal(read_frames(part), read_frames(whole)[5:10])
