"""Trials of references: what is tried, how it ranks, and what is said."""

from pathlib import Path

import numpy as np
import pytest
from films import tint
from painter import Painter

from vitexco_jax.inference import contact_sheet, plan, trial
from vitexco_jax.inference.plan import Choice
from vitexco_jax.media import video

# Confidence of the matching by the reference's mean a.
_CONFIDENCES = {10: 0.3, 20: 0.9, -20: 0.55, 0: 0.99}


def embed(pictures):
  """Takes all pictures as equally similar."""
  return np.full((len(pictures), 64), 1 / 8, np.float32)


@pytest.fixture
def pictures(tmp_path):
  paths = {}
  for name, a in (('near', 10), ('right', 20), ('fair', -20), ('far', 0)):
    paths[name] = str(tmp_path / f'{name}.png')
    video.write_image(tmp_path / f'{name}.png', tint(a))
  return paths


@pytest.fixture
def painter():
  made = Painter(_CONFIDENCES)
  made.config.use.tried = 3
  return made


def _candidates(pictures, names):
  scores = {'near': 0.8, 'right': 0.7, 'fair': 0.6, 'far': 0.5}
  return [Choice(pictures[name], scores[name]) for name in names]


def test_the_most_similar_ones_are_tried_and_the_best_is_selected(
  pictures, painter, surveyed
):
  candidates = _candidates(pictures, ['far', 'fair', 'near', 'right'])
  tried = trial.try_on_shot(surveyed.moments[0], candidates, painter)
  assert [x.picture for x in tried] == [x.picture for x in candidates]
  assert [x.confidence for x in tried] == [None, 0.55, 0.3, 0.9]
  assert [x.coverage for x in tried] == [None, 1, 0, 1]
  (best,) = plan.select(tried)
  assert Path(best.picture).name == 'right.png'
  # Each frame is matched without the colors of another one.
  assert painter.references == 9 * [(1, False)]


def test_the_same_confidence_everywhere_beats_a_small_part():
  broad = Choice('broad', 0.5, confidence=0.5, coverage=0.6)
  small = Choice('small', 0.6, confidence=0.55, coverage=0.4)
  assert plan.select([small, broad]) == (broad,)
  assert plan.select([Choice('untried', 0.9), small]) == (small,)


@pytest.mark.parametrize(
  'confidence, coverage, verdict',
  [
    (0.7, 0.9, 'same scene'),
    (0.5, 0.5, 'similar'),
    (0.4, 0.1, 'unlike: find another'),
    (None, None, ''),
  ],
)
def test_verdicts(confidence, coverage, verdict):
  choice = Choice('a', 0.9, confidence=confidence, coverage=coverage)
  assert choice.verdict == verdict


def test_a_plan_says_how_shots_are_covered(
  pictures, painter, surveyed, tmp_path
):
  choices = [Choice(pictures['near']), Choice(pictures['right'], frame=10)]
  made = plan.match(surveyed, choices, embed, painter)
  first, second, third = made.shots
  # A bound reference is not tried.
  assert second.references[0].frame == 10 and not second.references[0].verdict
  assert Path(first.references[0].picture).name == 'right.png'
  assert first.references[0].verdict == 'same scene'

  made = plan.match(surveyed, choices[:1], embed, painter)
  doubts = plan.doubts(made, surveyed.seconds)
  assert len(doubts) == 3
  assert doubts[1].startswith(
    'shot 2, from 0:00:00.9 (frames 9 to 20): near.png matches only 0% of it'
  )
  assert not plan.doubts(surveyed.plan, surveyed.seconds)
  skipped = second._replace(references=())
  table = contact_sheet.table(made._replace(shots=(*made.shots[:2], skipped)))
  assert 'near.png, unlike: find another' in table
  assert table.endswith('stays as it is')
  plan.write(tmp_path / 'plan.json', made)
  assert plan.read(tmp_path / 'plan.json').shots == made.shots


def test_a_gallery_offers_several_pictures(pictures, painter, surveyed):
  names = ['near', 'right', 'fair']

  class Gallery:
    def search(self, query, count):
      assert count == 3
      return np.float32([[0.8, 0.7, 0.6]]), np.array([[0, 1, 2]])

    def path(self, number):
      return Path(pictures[names[number]])

  for shot in plan.retrieve(surveyed, Gallery(), painter).shots:
    assert [Path(x.picture).name for x in shot.references] == ['right.png']
