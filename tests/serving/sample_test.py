"""sample: a gray film of the photos."""

import numpy as np

from vitexco_jax.inference.survey import survey
from vitexco_jax.media import video
from vitexco_jax.serving import sample, uploads


def test_the_film_has_a_shot_of_each_photo(tmp_path):
  path = tmp_path / 'sample.mp4'
  pictures = sample.make(path)
  assert list(pictures) == list(sample.PHOTOS)
  for drawing in pictures.values():
    still = video.decode_image(drawing.png, 'still')
    assert still.shape == (288, 384, 3) and np.ptp(still, -1).mean() > 20
  facts = uploads.check_video(path)
  assert (facts.width, facts.height, facts.frames) == (384, 288, 144)
  shots = survey(path).plan.shots
  assert [x.start for x in shots] == [0, 48, 96]
  with video.VideoReader(path) as reader:
    rgb = next(reader).rgb
  assert np.ptp(np.int16(rgb), -1).max() <= 3 and rgb.std() > 20


def test_without_photos_there_is_no_sample(tmp_path, monkeypatch):
  assert [path.name for path in sample.photos()] == list(sample.PHOTOS)
  monkeypatch.setattr(sample.importlib.resources, 'files', lambda _: tmp_path)
  assert sample.photos() == []
