"""stretches: division of a shot at its bound references, and runs of blocks."""

from vitexco_jax.inference.shot_plan import NONE, Choice, Shot
from vitexco_jax.inference.stretches import Block, runs, stretches


def test_a_shot_is_divided_at_its_bound_references():
  first, second = Choice('a.png', frame=10), Choice('b.png', frame=16)
  other = Choice('c.png')
  parts = list(stretches(Shot(10, 20, (second, other, first))))
  assert [part[:5] for part in parts] == [
    (10, 16, first, second, (other,)),
    (16, 20, second, None, (other,)),
  ]
  assert parts[0].backwards == (
    '0000010.backwards',
    10,
    16,
    16,
    second,
    (other,),
  )
  assert parts[0].backwards.steps == 7
  assert parts[1].backwards is None and parts[1].entering is None


def test_colors_propagate_only_backwards_to_the_start_of_a_shot():
  (before, _) = stretches(Shot(0, 9, (Choice('a.png', frame=5),)))
  assert (before.start, before.stop) == (0, 5)
  assert not before.propagates_forwards


def test_a_shot_without_a_reference_uses_the_prior():
  (part,) = stretches(Shot(3, 7, (Choice(NONE),)))
  assert part[:5] == (3, 7, None, None, ()) and part.propagates_forwards


def test_consecutive_blocks_are_one_run():
  blocks = [Block(*x, '') for x in ((0, 4), (4, 8), (12, 16), (16, 17))]
  assert runs(blocks) == [blocks[:2], blocks[2:]]
  assert runs([]) == []
