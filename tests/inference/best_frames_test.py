"""best_frames: the frames of a film that are worth coloring."""

import shutil

import cv2
import numpy as np
import pytest
from films import COUNT, make_plan, run_film
from painter import Painter
from three_shots import LENGTHS, embed, shot_picture

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.inference import best_frames, plan, reference_lists
from vitexco_jax.inference.plan import Shot
from vitexco_jax.media import video
from vitexco_jax.retrieval import embedding


def test_candidates_are_away_from_cuts():
  assert best_frames.candidates(Shot(10, 11, ()), 16) == [10]
  assert best_frames.candidates(Shot(10, 12, ()), 16) == [10, 11]
  assert best_frames.candidates(Shot(10, 20, ()), 16) == [13, 14, 15, 16]
  many = best_frames.candidates(Shot(0, 1000, ()), 16)
  assert (len(many), many[0], many[-1]) == (16, 3, 996)


def test_the_largest_group_comes_first_and_duplicates_are_left_out():
  angles = np.radians([0, 1, 2, 60, 61, 120])
  rows = np.stack([np.cos(angles), np.sin(angles)], 1)
  chosen = [*best_frames.choose(rows, range(6), 6, 0.98)]
  assert [row for row, _ in chosen][1:] in ([1, 5], [5, 1], [0, 5], [5, 0])
  covered = [x for _, x in chosen]
  assert covered == sorted(covered) and covered[-1] > 0.99
  # Row 5 is not usable, for example blurred.
  assert 5 not in dict(best_frames.choose(rows, range(5), 6, 0.98))
  assert len([*best_frames.choose(rows, range(6), 2, 0.98)]) == 2
  given = [*best_frames.choose(rows, range(5), 2, 0.98, [5])]
  assert [row for row, _ in given] == [5, 2]


def test_stills_are_references(tmp_path, three_shots, surveyed, monkeypatch):
  monkeypatch.setattr(embedding, 'make_embedder', lambda _: embed)
  output = tmp_path / 'stills'
  stills = best_frames.write_stills(get_config('tiny'), three_shots, output, 3)
  assert [still.shot for still in stills] == [1, 2, 3]  # Each is one picture.
  entries = reference_lists.read(output / 'stills.csv')
  choices = plan.list_references(output / 'stills.csv', surveyed)
  assert [entry.frame for entry in entries] == [x.frame for x in stills]
  starts = np.cumsum((0, *LENGTHS))
  for seed, (still, choice) in enumerate(zip(stills, choices, strict=True)):
    assert starts[seed] + 2 < still.frame < starts[seed + 1] - 3
    rgb = video.read_image(choice.picture)
    assert np.abs(np.int16(rgb) - shot_picture(seed)).mean() < 12
  assert (tmp_path / 'stills.jpg').exists()
  film_plan, _ = plan.make_plan(None, three_shots, (), output / 'manifest.csv')
  given = [shot.references[0] for shot in film_plan.shots]
  assert [x.frame for x in given] == [x.frame for x in stills]
  with pytest.raises(UserError, match='is not empty: name a new folder'):
    best_frames.check_output(output)


def test_blurred_frames_are_not_used(tmp_path):
  path = tmp_path / 'film.mkv'
  sharp = np.random.default_rng(0).integers(0, 256, (48, 64, 1), np.uint8)
  sharp = np.repeat(sharp, 3, -1)
  with video.VideoWriter(
    path, video.Format(48, 64), coding=video.Coding('ffv1')
  ) as writer:
    for i in range(9):
      rgb = sharp if i in (3, 5) else cv2.GaussianBlur(sharp, None, 2)
      writer.write(video.Frame(rgb))
  surveyed = plan.survey(path)
  film_plan = surveyed.plan._replace(shots=(Shot(0, 9, ()),))
  stills = [
    *best_frames.find(film_plan, path, embed, 3, get_config('tiny').use)
  ]
  assert {still.frame for still in stills} <= {3, 5}


def test_after_a_run_its_doubtful_frames_come_first(
  tmp_path, source, still, monkeypatch
):
  monkeypatch.setattr(embedding, 'make_embedder', lambda _: embed)
  red, green = still('red'), still('green')
  film_plan = make_plan(source, Shot(0, 8, (red,)), Shot(8, COUNT, (green,)))
  plan.write(tmp_path / 'plan.json', film_plan)
  output, again = tmp_path / 'color.mkv', tmp_path / 'repair'
  painter = Painter({-20: 0.1})  # The second shot is doubtful.
  run_film(source, film_plan, output, painter=painter, keep_work=True)
  config = get_config('tiny')
  inputs = config, source, again, 2, tmp_path / 'plan.json'
  (first, *_) = best_frames.write_stills(*inputs, output)
  assert first.frame == 8  # The one that the warning names.
  assert {x.frame >= 8 for x in reference_lists.read(again / 'stills.csv')} == {
    True
  }
  assert not (again / 'manifest.csv').exists()

  run_film(source, film_plan, output, keep_work=True, overwrite=True)
  shutil.rmtree(again)
  config = config.unlock() or config
  config.use.unsure_confidence = -1.0
  assert best_frames.write_stills(*inputs, output) == []
  assert not again.exists()
  (tmp_path / 'short.json').write_text(
    (tmp_path / 'plan.json').read_text().replace('23', '20')
  )
  with pytest.raises(UserError, match='has more frames than'):
    best_frames.write_stills(*inputs[:4], tmp_path / 'short.json', output)
  with pytest.raises(UserError, match='no segments of a finished film'):
    best_frames.write_stills(*inputs, tmp_path / 'other.mkv')
