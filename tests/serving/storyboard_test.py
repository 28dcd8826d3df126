"""storyboard: shots and their references as the user edits them."""

import numpy as np

from vitexco_jax.inference.plan import Choice, Shot
from vitexco_jax.media import video
from vitexco_jax.media.borders import Borders
from vitexco_jax.serving import storyboard
from vitexco_jax.serving.jobs import Preview
from vitexco_jax.serving.storyboard import BY_PRIOR, Look, Row

ONE, TWO = Choice('one', 0.9), Choice('two', 0.5)
TRIAL = Preview(3, b'', b'')


def _row(start, stop, *references, candidates=(ONE, TWO), **more):
  shot = Shot(start, stop, references, **more)
  return Row(shot, candidates, np.ones((1, 2)), b'%d' % start, [b'%d' % start])


def test_a_skipped_shot_gets_its_references_back():
  row = _row(0, 10, TWO)._replace(trial=TRIAL)
  skipped = row.skip()
  assert skipped.shot.skipped and skipped.trial is None
  assert skipped.skip() == skipped
  assert skipped.unskip().shot == row.shot
  assert row.unskip() is row
  assert _row(0, 10).unskip().shot.references == (ONE,)  # The best one.
  assert _row(0, 10, candidates=()).unskip().shot.by_prior


def test_a_new_reference_is_used_by_the_shot_of_its_frame():
  still = Choice('still', frame=12)
  before, after = (
    storyboard.add_reference(row, still)
    for row in (_row(0, 10, ONE), _row(10, 20, ONE))
  )
  assert before.shot.references == (ONE,)
  assert before.candidates[2] == Choice('still')
  assert after.shot.references == (still,)
  again = storyboard.add_reference(after, Choice('early', frame=11))
  assert [x.picture for x in again.shot.references] == ['early', 'still']
  again = storyboard.add_reference(again, Choice('other', frame=12))
  assert [x.picture for x in again.shot.references] == ['early', 'other']


def test_a_removed_reference_is_replaced():
  row = _row(0, 10, ONE)._replace(trial=TRIAL)
  assert storyboard.remove_reference(row, 'two').trial == TRIAL
  row = storyboard.remove_reference(row, 'one')
  assert row.shot.references == row.candidates == (TWO,)
  row = storyboard.remove_reference(row, 'two')
  assert row.shot.references == BY_PRIOR and row.candidates == ()


def test_joined_shots_keep_both_references():
  still = Choice('two', 0.7, 15)
  first = _row(0, 10, ONE, borders=Borders(4, 2, 0, 0))
  second = _row(
    10, 20, still, candidates=(ONE, still), borders=Borders(3, 3, 0, 0)
  )
  row = storyboard.join(first, second)
  assert row.shot == Shot(0, 20, (ONE, still), Borders(3, 2, 0, 0))
  assert row.embedding.shape == (2, 2) and row.moments == [b'0', b'10']
  skipped = storyboard.join(_row(0, 10), _row(10, 20))
  assert skipped.shot.skipped
  prior = storyboard.join(_row(0, 10), _row(10, 20, *BY_PRIOR))
  assert prior.shot.by_prior


def test_divided_shots_keep_their_references():
  looks = [Look(b'a', b'c'), Look(b'b', b'd')]
  still = Choice('two', 0.7, 15)
  row = _row(0, 20, ONE, still, candidates=(ONE, still))
  parts = storyboard.divide(row, 12, looks)
  assert [(x.shot.start, x.shot.stop) for x in parts] == [(0, 12), (12, 20)]
  assert parts[0].shot.references == (ONE, Choice('two', 0.7))
  assert parts[1].shot.references == (still,)
  assert parts[1].thumbnail == b'd' and parts[1].moments == [b'b']
  assert storyboard.join(*parts).shot.references == (ONE, still)
  for references in ((), BY_PRIOR):
    parts = storyboard.divide(_row(0, 20, *references), 12, looks)
    assert [x.shot.references for x in parts] == [references, references]
  assert storyboard.middles(row.shot, 12) == (6, 16)


def test_a_dissolve_stays_at_its_end():
  looks = [Look(b'a', b'c'), Look(b'b', b'd')]
  row = _row(0, 20, ONE, dissolve=6)
  for frame, dissolve in ((10, 6), (17, 3)):
    parts = storyboard.divide(row, frame, looks)
    assert [x.shot.dissolve for x in parts] == [0, dissolve]
  assert storyboard.join(row, _row(20, 30, ONE)).shot.dissolve == 0
  assert storyboard.join(_row(-9, 0, ONE, dissolve=2), row).shot.dissolve == 6


def test_borders_are_not_compared_with_references():
  frame = np.full((200, 1000, 3), 255, np.uint8)
  frame[:50] = 0
  look = storyboard.look(
    video.encode_image('.png', frame), Borders(50, 0, 0, 0)
  )
  moment = video.decode_image(look.moment, 'moment')
  thumbnail = video.decode_image(look.thumbnail, 'thumbnail')
  assert moment.min() > 250 and moment.shape == (136, 910, 3)
  assert thumbnail.min() < 5 and thumbnail.shape == (48, 240, 3)
