"""The schedule of a film: blocks, steps, and disk space."""

import pytest
from films import COUNT, make_plan

from vitexco_jax.inference import schedule
from vitexco_jax.inference.shot_plan import Choice, Shot

pytestmark = pytest.mark.usefixtures('small_blocks')

PLAN = make_plan(
  'film.mkv',
  Shot(0, 9, (Choice('a', frame=2), Choice('b', frame=7))),
  Shot(9, COUNT, (Choice('a'),)),
)


def _keys(hashes, settings):
  tasks = schedule.make_tasks(PLAN, settings, hashes)
  return [task.key for task in tasks]


def test_tasks_are_divided_into_blocks():
  tasks = schedule.make_tasks(PLAN, {}, {'a': '1', 'b': '2'})
  blocks = [[(x.start, x.stop) for x in task.blocks] for task in tasks]
  assert blocks == [
    [(0, 2)],
    [(2, 6), (6, 7)],
    [(7, 9)],
    [(9, 13), (13, 17), (17, 21), (21, 23)],
  ]
  # Frames 2 to 6 get colors of two stills.
  assert schedule.count_parts(PLAN) == len(tasks) + 1


def test_a_range_has_hidden_blocks_before_it():
  tasks = schedule.make_tasks(PLAN, {}, {'a': '1', 'b': '2'}, range(4, 14))
  blocks = [[(x.start, x.stop, x.shown) for x in task.blocks] for task in tasks]
  # Nothing is propagated into frames 7 and 8 from frames before the range.
  assert blocks == [
    [(2, 4, False), (4, 6, True), (6, 7, True)],
    [(7, 9, True)],
    [(9, 13, True), (13, 14, True)],
  ]
  assert [task.steps for task in tasks] == [5 + 6, 2, 5]
  (task,) = schedule.make_tasks(PLAN, {}, {'a': '1', 'b': '2'}, range(1, 2))
  assert [x[:2] for x in task.blocks] == [(1, 2)]  # It depends on frame 2 only.


def test_keys_depend_on_settings_and_on_the_references_in_use():
  keys = _keys({'a': '1', 'b': '2'}, {'codec': 'ffv1'})
  assert _keys({'a': '1', 'b': '2'}, {'codec': 'ffv1'}) == keys
  other = _keys({'a': '1', 'b': '3'}, {'codec': 'ffv1'})
  assert other[3] == keys[3] and other[0] == keys[0]
  assert other[1] != keys[1] and other[2] != keys[2]
  assert not set(keys) & set(_keys({'a': '1', 'b': '2'}, {'codec': 'h264'}))


def test_only_blocks_of_a_dissolve_depend_on_the_next_shot():
  first = Shot(0, 12, (Choice('a'),), dissolve=6)
  film_plan = make_plan('film.mkv', first, Shot(12, COUNT, (Choice('b'),)))
  one, other = (
    schedule.make_tasks(film_plan, {}, hashes)
    for hashes in ({'a': '1', 'b': '2'}, {'a': '1', 'b': '3'})
  )
  blocks = [(x.start, x.stop) for x in one[0].blocks]
  assert blocks == [(0, 4), (4, 6), (6, 8), (8, 12)]
  same = [x == y for x, y in zip(one[0].blocks, other[0].blocks, strict=True)]
  assert same == [True, True, False, False]
  assert one[0].key == other[0].key and one[1].key != other[1].key
  # Frame 12 and those of the dissolve are visited backwards.
  assert schedule.count_steps(film_plan) == COUNT + 7
  assert schedule.scratch_bytes(film_plan, (48, 64), 2) == 9 * 48 * 64 * 7


def test_steps_and_disk_space_include_backward_propagation():
  # Frames 0 and 1, and 2 to 6, are also visited backwards, from 2 and from 7.
  assert schedule.count_steps(PLAN) == COUNT + 3 + 6
  one, two = (schedule.scratch_bytes(PLAN, (48, 64), n) for n in (1, 2))
  assert (one, two) == (9 * 48 * 64 * 6, 9 * 48 * 64 * 9)
