"""time_codes: counting, drop-frame labels, and codes that do not exist."""

from fractions import Fraction

import pytest

from vitexco_jax.media import time_codes

_FILM, _PAL, _NTSC = (
  Fraction(24_000, 1001),
  Fraction(25),
  Fraction(30_000, 1001),
)


@pytest.mark.parametrize(
  'code, count, rate, expected',
  [
    ('01:00:00:00', 0, _PAL, '01:00:00:00'),
    ('01:00:00:00', 25 * 61 + 3, _PAL, '01:01:01:03'),
    ('00:59:59:23', 1, _FILM, '01:00:00:00'),
    ('23:59:59:24', 1, _PAL, '00:00:00:00'),
    ('00:00:59:29', 1, _NTSC, '00:01:00:00'),
    ('00:00:59;29', 1, _NTSC, '00:01:00;02'),
    ('00:09:59;29', 1, _NTSC, '00:10:00;00'),
    ('00:00:59.29', 1, _NTSC, '00:01:00;02'),
    ('00:00:59;59', 1, 2 * _NTSC, '00:01:00;04'),
    ('00:00:00;00', 107_892, _NTSC, '01:00:00;00'),  # SMPTE 12M: one hour.
  ],
)
def test_later_codes(code, count, rate, expected):
  assert time_codes.after(code, count, rate) == expected


def test_drop_frame_counting_equals_a_slow_count():
  labels = [
    f'{minute // 60:02d}:{minute % 60:02d}:{second:02d};{frame:02d}'
    for minute in range(58, 83)
    for second in range(60)
    for frame in range(30)
    if minute % 10 == 0 or second or frame > 1
  ]
  for count in range(0, len(labels), 7):
    assert time_codes.after(labels[0], count, _NTSC) == labels[count]
    apart = time_codes.index(labels[count], _NTSC) - time_codes.index(
      labels[0], _NTSC
    )
    assert apart == count


@pytest.mark.parametrize(
  'code, rate',
  [
    ('', _PAL),
    ('1:00:00:00', _PAL),
    ('ff:ff:ff:ff', _PAL),
    ('24:00:00:00', _PAL),
    ('00:60:00:00', _PAL),
    ('00:00:00:25', _PAL),
    ('00:00:00;00', _PAL),  # Drop-frame counting is for 29.97 and 59.94.
    ('00:01:00;01', _NTSC),  # This label is skipped.
    ('00:00:00:00', Fraction(1, 3)),
    ('00:00:00:00', Fraction(1000)),
  ],
)
def test_codes_that_do_not_exist_are_left_out(code, rate):
  assert time_codes.index(code, rate) is None
  assert time_codes.after(code, 5, rate) == ''
