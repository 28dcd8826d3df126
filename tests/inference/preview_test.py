"""preview: one frame of each shot in color."""

from pathlib import Path

import numpy as np
import pytest
from films import COUNT, make_plan, mean_ab
from painter import Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference import preview
from vitexco_jax.inference.plan import Choice, Shot
from vitexco_jax.media import image_grid, video


def test_the_frame_is_far_from_bound_stills():
  def choose(*frames):
    choices = tuple(Choice('a', frame=x) for x in frames)
    return preview.choose(Shot(10, 21, choices or (Choice('a'),)))

  assert (choose(), choose(12), choose(10, 20)) == (15, 20, 15)
  assert choose(10) == 20


def test_each_shot_has_a_row(tmp_path, source, still, monkeypatch, caplog):
  caplog.set_level('INFO')
  monkeypatch.setattr(preview, '_ROWS', 2)
  drawn = []
  draw = image_grid.draw
  monkeypatch.setattr(
    image_grid, 'draw', lambda *x: drawn.append(x) or draw(*x)
  )
  plan = make_plan(
    source,
    Shot(0, 8, (still('red'),)),
    Shot(8, 12, ()),
    Shot(12, COUNT, (still('green', frame=12),)),
  )
  output = tmp_path / 'sheet.jpg'
  preview.preview(Painter(), source, plan, output)
  (first, labels), (second, others) = drawn
  assert [len(row) for row in (*first, *second)] == [3, 1, 3]
  assert 'frame 4: red.png, confidence 0.80' in labels[0]
  assert labels[1].endswith('stays as it is')
  assert 'frame 22: green.png' in others[0]
  assert abs(mean_ab(first[0][1])[0] - 20) < 1.5
  assert abs(mean_ab(second[0][1])[0] + 20) < 1.5
  pages = [output, tmp_path / 'sheet_2.jpg']
  assert sorted(tmp_path.iterdir()) == sorted(pages)
  assert 'Preview of 3 shots' in caplog.text
  assert np.ptp(video.read_image(pages[1])) > 0
  with pytest.raises(UserError, match='sheet_2.jpg exists: set `overwrite`'):
    output.unlink()
    preview.preview(Painter(), source, plan, output)
  preview.preview(Painter(), source, plan, output, frames=range(9, 12))
  assert len(drawn[-1][0]) == 1


@pytest.mark.parametrize('name', ['out.mp4', 'sheets', 'out.txt'])
def test_the_output_must_be_an_image(tmp_path, name):
  with pytest.raises(UserError, match='out|sheets'):
    preview.check_output(tmp_path / name, False, [])
  (tmp_path / 'a.jpg').touch()
  for inputs in ([], [Path(tmp_path / 'a.jpg')]):
    with pytest.raises(UserError, match='a.jpg'):
      preview.check_output(tmp_path / 'a.jpg', bool(inputs), inputs)
