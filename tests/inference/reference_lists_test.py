"""Lists of references: valid and invalid files."""

from pathlib import Path

import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan


@pytest.mark.parametrize(
  'name, text, expected',
  [
    ('a.txt', 'zero.png\n\n two.png\n', [('zero', None), ('two', None)]),
    (
      'a.csv',
      'file,frame\nzero.png,4\ntwo.png,\n',
      [('zero', 4), ('two', None)],
    ),
    ('a.csv', 'file, time\nzero.png, 1.52\n', [('zero', 15)]),
    ('a.csv', 'time,file\n0:00:02.1,zero.png\n', [('zero', 21)]),
    ('a.csv', 'file,frame\nref_00011.png,3\n', [('ref_00011', 3)]),
  ],
)
def test_lists_of_references(surveyed, references, name, text, expected):
  (references / name).write_text(text)
  actual = plan.list_references(references / name, surveyed)
  assert [(Path(x.picture).stem, x.frame) for x in actual] == expected


@pytest.mark.parametrize(
  'text, sentence',
  [
    ('name,frame\nzero.png,4\n', 'needs a first line like file,frame'),
    ('file,frame\nnone.png,4\n', r'none\.png, which does not exist'),
    ('file,frame\nzero.png,x\n', "'x' is neither a frame"),
    ('file,frame\nzero.png,-1\n', "'-1' is neither a frame"),
    ('file,time\nzero.png,1:x\n', "'1:x' is neither a frame"),
    ('file,time\nzero.png,90\n', 'nothing is shown at 90'),
    ('file,frame\nzero.png,28\n', 'frame 28, but .* has 28 frames'),
    ('file,frame\n', 'has no pictures'),
    ('file,frame\nzero.png,1.5\n', "'1.5' is neither a frame"),
    ('file,frame\nzero.png,1_0\n', "'1_0' is neither a frame"),
    (f'file,frame\nzero.png,{"9" * 5000}\n', 'is neither a frame'),
    ('file,time\nzero.png,-0.2\n', "'-0.2' is neither a frame"),
    ('file,time\nzero.png,1:-5\n', "'1:-5' is neither a frame"),
    ('file,time\nzero.png,0:00:00:05\n', "'0:00:00:05' is neither a frame"),
    ('file,time\nzero.png,nan\n', "'nan' is neither a frame"),
    ('file,time\nzero.png,0:nan\n', "'0:nan' is neither a frame"),
    ('file,time\nzero.png,inf\n', "'inf' is neither a frame"),
    ('file,time\nzero.png,1e999\n', "'1e999' is neither a frame"),
    ('file,frame,time\nzero.png,1,1\n', 'line 2 has both a frame and a time'),
    ('file,frame\n,1\n', 'line 2 names no file'),
    ('file,frame\nzero.png,1,2\n', 'line 2 has more than 2 values'),
    ('file,frame,frame\nzero.png,1,2\n', 'needs a first line like'),
    (f'file\n{"x" * 5000}.png\n', 'x.png, which does not exist'),
    (f'file\n{"x" * 200_000}\n', 'is no CSV: field larger'),
    ('file\n\0.png\n', 'is not a text file in UTF-8'),
  ],
)
def test_invalid_lists_are_refused(surveyed, references, text, sentence):
  (references / 'a.csv').write_text(text)
  with pytest.raises(UserError, match=sentence):
    plan.list_references(references / 'a.csv', surveyed)
