"""cut_list: EDL and CSV of the cuts, with and without time codes."""

import csv
import re
from fractions import Fraction

import pytest

from vitexco_jax.inference import cut_list
from vitexco_jax.inference.shot_plan import Choice, Plan, Shot

_NTSC = Fraction(30_000, 1001)


def _plan(rate, name='a film.mov'):
  shots = (
    Shot(0, 40, (Choice('stills/one, two.png'), Choice('b.png'))),
    Shot(40, 1800, ()),
    Shot(1800, 1801, (Choice('none'),)),
  )
  return Plan(f'/films/{name}', 64, 48, 1801, rate, shots)


@pytest.mark.parametrize(
  'rate, code, mode, edges',
  [
    (
      Fraction(24),
      '00:59:58:00',
      'NON-DROP FRAME',
      ['00:59:58:00', '00:59:59:16', '01:01:13:00', '01:01:13:01'],
    ),
    (
      _NTSC,
      '01:00:00;00',
      'DROP FRAME',
      ['01:00:00;00', '01:00:01;10', '01:01:00;02', '01:01:00;03'],
    ),
    (
      _NTSC,
      '',
      'NON-DROP FRAME',
      ['00:00:00:00', '00:00:01:10', '00:01:00:00', '00:01:00:01'],
    ),
  ],
)
def test_edl(rate, code, mode, edges):
  head, *events = cut_list.to_edl(_plan(rate), code).split('\n\n')
  assert head.splitlines() == ['TITLE: a film', f'FCM: {mode}']
  lines = events[0].splitlines()
  # An event of CMX 3600: number, reel, track, kind, four time codes.
  form = re.compile(
    r'(\d{3})  (AX) {6} (V) {5}(C) {8}' + ' '.join(4 * ['(.{11})'])
  )
  for number, line in enumerate(lines[::2]):
    span = edges[number : number + 2]
    expected = [f'{number + 1:03d}', 'AX', 'V', 'C'] + span + span
    assert list(form.fullmatch(line).groups()) == expected
  assert lines[1::2] == ['* FROM CLIP NAME: a film.mov'] * 3


def test_names_cannot_add_events():
  text = cut_list.to_edl(_plan(Fraction(25), 'a\n002  AX\udcff.mov'), '')
  assert len(text.splitlines()) == 9
  text.encode()


def test_a_rate_without_time_codes_has_no_edl():
  assert cut_list.to_edl(_plan(Fraction(1000)), '') == ''


def test_csv():
  plan = _plan(Fraction(25))
  seconds = [i / 25 for i in range(1800)] + [100.0]  # The last one is late.
  text = cut_list.to_csv(plan, seconds, '10:00:00:00')
  rows = list(csv.DictReader(text.splitlines()))
  assert [row['references'] for row in rows] == [
    'one, two.png;b.png',
    'skip',
    'none',
  ]
  assert rows[1] == {
    'shot': '2',
    'start': '40',
    'stop': '1800',
    'start_time': '0:00:01.600',
    'stop_time': '0:01:40.000',
    'start_code': '10:00:01:15',
    'stop_code': '10:01:12:00',
    'references': 'skip',
  }
  assert rows[2]['stop_time'] == '0:01:40.040'
