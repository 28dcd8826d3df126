"""shot_plan: shots without a reference, and times as text."""

from fractions import Fraction

import pytest

from vitexco_jax.inference.shot_plan import NONE, Choice, Shot, clock


def test_a_shot_uses_the_prior_only_if_none_is_its_only_reference():
  assert Shot(0, 9, (Choice(NONE),)).by_prior
  assert not Shot(0, 9, (Choice('a.png'),)).by_prior
  assert not Shot(0, 9, (Choice(NONE), Choice('a.png'))).by_prior


@pytest.mark.parametrize(
  'seconds, text',
  [
    (0, '0:00:00.0'),
    (59.96, '0:01:00.0'),  # Rounded before it is split.
    (Fraction(15, 2), '0:00:07.5'),
    (36_000.04, '10:00:00.0'),
  ],
)
def test_clock(seconds, text):
  assert clock(seconds) == text
