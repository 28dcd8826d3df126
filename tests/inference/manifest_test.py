"""Manifests of references: reading, following, and writing them."""

from fractions import Fraction
from pathlib import Path

import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.inference import manifest, reference_lists
from vitexco_jax.inference.shot_plan import Choice, Plan, Shot

HEAD = '# source_video=film.mp4\nenabled,end,reference\n'


def _plan(*stops):
  starts = (0, *stops[:-1])
  shots = tuple(
    Shot(*x, (Choice('x.png'),)) for x in zip(starts, stops, strict=True)
  )
  return Plan('film.mp4', 64, 48, stops[-1], Fraction(25), shots)


def _rows(folder, text):
  (folder / 'a.csv').write_text(text)
  return reference_lists.read_manifest(folder / 'a.csv')


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'a.png').touch()
  (tmp_path / 'ref_000060.png').touch()
  inner = tmp_path / 'lists'
  inner.mkdir()
  return inner


def test_rows_divide_shots_and_give_them_references(folder):
  rows = _rows(
    folder, f'{HEAD}true,0:00:01,a.png\nfalse,2,\nTRUE,3.2,ref_000060.png\n'
  )
  picture = folder.parent / 'ref_000060.png'  # Above the manifest's folder.
  bound = {folder.parent / 'a.png': None, picture: 60}
  seconds = [i / 25 for i in range(100)]
  followed = manifest.follow(_plan(40, 100), seconds, rows, bound)
  actual = [
    (x.start, x.stop, [(Path(y.picture).name, y.frame) for y in x.references])
    for x in followed.shots
  ]
  assert actual == [
    (0, 25, [('a.png', None)]),
    (25, 40, []),
    (40, 50, []),
    (50, 80, [('ref_000060.png', 60)]),
    (80, 100, []),  # After the last row.
  ]


def test_times_of_another_frame_rate_meet_the_nearest_frame(folder):
  rows = _rows(folder, f'{HEAD}true,0.99,a.png\ntrue,9:00,a.png\n')
  bound = {folder.parent / 'a.png': None}
  seconds = [i / 24 for i in range(48)]
  plan = _plan(48)._replace(frame_rate=Fraction(24))
  shots = manifest.follow(plan, seconds, rows, bound).shots
  assert [(x.start, x.stop) for x in shots] == [(0, 24), (24, 48)]


def test_a_manifest_that_is_written_reads_the_same(folder):
  plan = _plan(40, 50, 100)
  frames = [(10, 31), (), (60,)]
  for i in (10, 31):
    (folder / f'ref_{i:06d}.png').touch()
  text = manifest.to_text(plan, frames, folder)
  assert text.startswith('# source_video=')
  rows = _rows(folder, text)
  assert [row.end for row in rows] == [21 / 25, 40 / 25, 2, 4]
  names = [row.picture and row.picture.name for row in rows]
  assert names == [
    'ref_000010.png',
    'ref_000031.png',
    None,
    'ref_000060.png',
  ]


def test_lists_name_the_pictures_of_enabled_rows(folder):
  text = HEAD.replace('reference\n', 'color_reference,prompt\n')
  _rows(folder, f'{text}true,1,a.png,red\nfalse,2,none.png,\ntrue,3,a.png,\n')
  entries = reference_lists.read(folder / 'a.csv')
  assert [x.path for x in entries] == [folder.parent / 'a.png']


@pytest.mark.parametrize(
  'text, sentence',
  [
    (f'{HEAD}true,x,a.png\n', "row 1: end='x' is no time"),
    (f'{HEAD}true,2,a.png\ntrue,1,a.png\n', 'row 2 ends before it begins'),
    (f'{HEAD}perhaps,2,a.png\n', "enabled='perhaps' must be true or false"),
    (f'{HEAD}true,2,\n', 'row 1 names no reference'),
    (f'{HEAD}true,2,none.png\n', r'none\.png, which does not exist'),
    ('enabled,end\ntrue,2\n', 'needs a first line like enabled,end,reference'),
    (f'{HEAD}false,2,\n', 'has no pictures'),
  ],
)
def test_invalid_manifests_get_one_sentence(folder, text, sentence):
  (folder / 'a.csv').write_text(text)
  with pytest.raises(UserError, match=sentence):
    reference_lists.read(folder / 'a.csv')
