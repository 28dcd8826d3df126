"""Times as text; `ranges_test` and `reference_lists_test` have more of them."""

from fractions import Fraction

import pytest

from vitexco_jax.inference import times


@pytest.mark.parametrize(
  'text, seconds',
  [('83.4', 83.4), ('0:01:23.4', 83.4), ('1:00:00', 3600), ('.5', 0.5)],
)
def test_parsed_times(text, seconds):
  assert times.parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize('text', ['', '-1', '1:2:3:4', 'nan', '1e9', '1:x'])
def test_other_text_is_no_time(text):
  with pytest.raises(ValueError):
    times.parse_seconds(text)


def test_formatted_times_can_be_parsed():
  for frame in (0, 1, 89_999, 7_200_123):
    seconds = frame / Fraction(24000, 1001)
    text = times.format_time(seconds)
    assert abs(times.parse_seconds(text) - seconds) < 0.001
  assert times.format_time(Fraction(7199_9996, 10_000)) == '2:00:00.000'
