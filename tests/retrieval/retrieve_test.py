"""The picture and the text of a query."""

import cv2
import numpy as np
import pytest

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.retrieval import build, retrieve

COUNT = 8


def _picture(seed):
  rgb = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
  return cv2.resize(rgb, (128, 96), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def config():
  config = get_config('tiny')
  config.retrieval.network = 'vit'
  config.retrieval.count = 3
  # An untrained network finds all pictures similar.
  config.retrieval.near_duplicate = 0.9999
  return config


@pytest.fixture(scope='module')
def built(config, tmp_path_factory):
  """A gallery of eight pictures."""
  home = tmp_path_factory.mktemp('home')
  (home / 'images').mkdir()
  for i in range(COUNT):
    video.write_image(home / f'images/{i}.png', _picture(i))
  build.build_gallery(config, str(home / 'images'), home / 'gallery')
  return home / 'gallery'


def _write_video(path, seeds, each=4):
  with video.VideoWriter(path, video.Format(96, 128)) as writer:
    for seed in seeds:
      for _ in range(each):
        writer.write(video.Frame(_picture(seed)))


def test_a_picture_of_the_gallery_finds_itself(config, built, tmp_path, capsys):
  query = tmp_path / 'query.png'
  video.write_image(query, _picture(5))
  output = tmp_path / 'best.png'
  (best,) = retrieve.retrieve(config, query, built, output)
  assert best[0] == ('5.png', pytest.approx(1, abs=1e-5))
  scores = [score for _, score in best]
  assert len(best) == 3 and scores == sorted(scores, reverse=True)
  printed = capsys.readouterr().out
  assert 'query.png\n  1.000  5.png\n' in printed and str(output) in printed
  strip = video.read_image(output)
  assert strip.shape[1] == 4 + 4 * (240 + 4)  # The query, then three.
  # The query below its label, and the same picture to the right.
  shown = strip[22:202, 4:244], strip[22:202, 248:488]
  np.testing.assert_array_equal(*shown)
  assert shown[0].std() > 10


def test_a_video_is_sampled_in_each_third(config, built, tmp_path, capsys):
  query = tmp_path / 'query.mp4'
  _write_video(query, [1, 6, 3])
  actual = retrieve.retrieve(config, query, built, tmp_path / 'best.png')
  assert [rows[0][0] for rows in actual] == ['1.png', '6.png', '3.png']
  printed = capsys.readouterr().out
  for index in (2, 6, 10):
    assert f'query.mp4, frame {index}\n' in printed


@pytest.mark.parametrize('frames', [1, 2])
def test_a_short_video_has_fewer_moments(config, built, tmp_path, frames):
  query = tmp_path / 'query.mkv'
  _write_video(query, [4], frames)
  actual = retrieve.retrieve(config, query, built, tmp_path / 'best.png')
  assert len(actual) == frames
  assert {rows[0][0] for rows in actual} == {'4.png'}


def test_a_video_shorter_than_its_header_claims(monkeypatch, tmp_path):
  query = tmp_path / 'query.mp4'
  _write_video(query, [4], 3)

  monkeypatch.setattr(video.VideoReader, 'num_frames', 1000)
  frames = retrieve._moments(query)
  assert list(frames) == ['query.mp4, frame 2']


@pytest.mark.parametrize(
  ('query', 'folder', 'output', 'sentence'),
  [
    ('none.png', 'gallery', 'best.png', 'none.png'),
    ('query.png', 'nowhere', 'best.png', 'nowhere is not a gallery'),
    ('query.png', 'gallery', 'best.txt', 'best.txt cannot be written'),
  ],
)
def test_unusable_inputs_are_refused(
  config, built, tmp_path, query, folder, output, sentence
):
  video.write_image(tmp_path / 'query.png', _picture(0))
  with pytest.raises(UserError, match=sentence):
    retrieve.retrieve(
      config, tmp_path / query, built.parent / folder, tmp_path / output
    )
  assert not (tmp_path / output).exists()
