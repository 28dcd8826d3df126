"""Reading of references: their size, and the aspect ratio of bound ones."""

from pathlib import Path

import numpy as np
import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.inference.reference_pictures import ReferencePictures
from vitexco_jax.inference.shot_plan import Choice
from vitexco_jax.media import sandbox, video
from vitexco_jax.media.borders import Borders


def _read(tmp_path, size, frame):
  rgb = np.random.default_rng(0).integers(50, 200, (*size, 3), np.uint8)
  video.write_image(tmp_path / 'still.png', rgb)
  pictures = ReferencePictures(
    sandbox.DIRECT, Path('film.mkv'), False, (48, 64), (24, 32)
  )
  choice = Choice(str(tmp_path / 'still.png'), frame=frame)
  return pictures.read(choice, Borders())


def test_a_picture_keeps_its_aspect_and_is_at_most_of_the_bound(tmp_path):
  assert _read(tmp_path, (100, 100), None).shape == (24, 24, 3)
  assert _read(tmp_path, (96, 128), 7).shape == (24, 32, 3)


def test_a_bound_still_of_another_aspect_is_refused(tmp_path):
  with pytest.raises(UserError, match='bound to frame 7 but has 100x100 pixel'):
    _read(tmp_path, (100, 100), 7)
