"""photos: a folder of photos of any sizes, with references by name."""

import numpy as np
import pytest
from films import gray_frame, mean_ab, tint
from painter import Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference import photos
from vitexco_jax.inference.outputs import Options
from vitexco_jax.media import video


@pytest.fixture
def folder(tmp_path):
  """Photos of two sizes, one of them without a reference."""
  path = tmp_path / 'photos'
  path.mkdir()
  for name, size in {'a': (48, 64), 'b': (40, 36), 'c': (48, 64)}.items():
    video.write_image(path / f'{name}.jpg', gray_frame(0)[: size[0], : size[1]])
  video.write_image(path / 'a_ref.png', tint(20))
  video.write_image(path / 'b_ref.jpg', tint(-20))
  video.write_image(tmp_path / 'other.png', tint(10))
  return path


def test_photos_get_their_own_references(tmp_path, folder, caplog):
  caplog.set_level('INFO')
  assert photos.has_references(folder) and not photos.has_references(tmp_path)
  output = tmp_path / 'out'
  call = folder, [str(tmp_path / 'other.png')], output
  found = photos.check(*call, False, Options())
  photos.colorize(Painter(), found, Options())
  names = sorted(path.name for path in output.iterdir())
  assert names == ['a.png', 'b.png', 'c.png']
  for name, a in {'a': 20, 'b': -20, 'c': 10}.items():
    rgb = video.read_image(output / f'{name}.png')
    assert rgb.shape == video.read_image(folder / f'{name}.jpg').shape
    assert abs(mean_ab(rgb)[0] - a) < 2
  assert 'out: 3 photos; mean confidence 0.80' in caplog.text
  assert not photos.check(*call, False, Options())  # They exist, and stay.
  assert len(photos.check(*call, True, Options())) == 3


def test_what_is_missing_is_named_before_the_work(tmp_path, folder):
  output = tmp_path / 'out'
  with pytest.raises(UserError, match=r'c\.jpg has no reference: add c_ref'):
    photos.check(folder, [], output, False, Options())
  with pytest.raises(UserError, match='must be a folder'):
    photos.check(folder, [], tmp_path / 'out.mp4', False, Options())
  gray = np.full((48, 64, 3), 100, np.uint8)
  video.write_image(folder / 'c_ref.png', gray)
  with pytest.raises(UserError, match='c_ref.png has no color'):
    photos.check(folder, [], output, False, Options())
  assert not output.exists()
