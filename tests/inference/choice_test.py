"""Choice of references: bound, most similar, or the same for all shots."""

from pathlib import Path

import pytest
from three_shots import embed, shot_picture

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan
from vitexco_jax.inference.plan import Choice
from vitexco_jax.media import video


def test_each_shot_uses_bound_or_most_similar_references(surveyed, references):
  choices = plan.list_references(references, surveyed)
  film_plan = plan.match(surveyed, choices, embed)
  names = [
    [(Path(x.picture).name, x.frame) for x in shot.references]
    for shot in film_plan.shots
  ]
  assert names == [
    [('zero.png', None)],
    [('ref_00011.png', 11)],
    [('two.png', None)],
  ]
  assert all(0.95 < shot.references[0].score <= 1 for shot in film_plan.shots)


@pytest.mark.parametrize(
  'frames, picture, expected',
  [
    ('00001 00002 00003', 'ref_00003', 2),
    ('00001 00002 00003', '00002', 1),
    ('a_0100 a_0101 a_0102', 'ref_101', 1),
    ('a_0100 a_0101 a_0102', 'a_0102', 2),
    ('s2_e7 s2_e8', 'ref_8', 1),
    ('ref_00007 ref_00008', 'ref_00008', 1),
    ('one three two', 'ref_00002', 2),  # Without numbers they are counted.
    ('one three two', 'three', 1),
    ('00001 00002', 'garden', None),
  ],
)
def test_a_picture_is_bound_to_the_file_of_its_name_or_number(
  tmp_path, surveyed, frames, picture, expected
):
  for folder in ('film', 'one'):
    (tmp_path / folder).mkdir()
  for name in frames.split():
    video.write_image(tmp_path / f'film/{name}.png', shot_picture(0))
  video.write_image(tmp_path / f'one/{picture}.jpg', shot_picture(0))
  film_plan = surveyed.plan._replace(video=str(tmp_path / 'film'))
  surveyed = surveyed._replace(plan=film_plan)
  (choice,) = plan.list_references(tmp_path / 'one', surveyed)
  assert choice.frame == expected


def test_a_number_of_no_file_or_of_several_is_refused(tmp_path):
  files = [tmp_path / name for name in ('a1.png', 'b1.png', 'b2.png')]
  with pytest.raises(UserError, match='ref_0: no frame is numbered 0 in'):
    plan.named_frame('ref_0', files)
  with pytest.raises(UserError, match='ref_1: several frames are numbered 1'):
    plan.named_frame('ref_1', files)


def test_the_same_for_all_shots(surveyed):
  film_plan = plan.same_for_all(surveyed, ['a.png', plan.FIRST_FRAME])
  first, second = Choice(plan.FIRST_FRAME), Choice('a.png')
  assert [shot.references for shot in film_plan.shots] == [
    (first._replace(frame=0), second),
    (first, second),
    (first, second),
  ]


def test_a_time_within_a_frame_that_is_shown_for_long(surveyed, references):
  starts = [0.0, 0.04, *(9 + 0.04 * i for i in range(surveyed.plan.frames - 2))]
  slow = surveyed._replace(seconds=starts)
  text = 'file,time\ntwo.png,5.0\ntwo.png,8.9\n'
  (references / 'slow.csv').write_text(text)
  actual = plan.list_references(references / 'slow.csv', slow)
  # Times may be rounded: 8.9 s is close to the next frame.
  assert [choice.frame for choice in actual] == [1, 2]
