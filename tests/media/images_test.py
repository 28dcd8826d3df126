"""images: reading and writing of image files, and their order."""

import cv2
import numpy as np
import pytest
from PIL import Image
from written_videos import HEIGHT, WIDTH, blocks, read

from vitexco_jax.errors import UserError
from vitexco_jax.media import video


@pytest.mark.parametrize(
  'name, flipped', [('a.png', 99), ('a.png', 0), ('a.tiff', 0), ('a.jpg', 0)]
)
def test_broken_images_print_nothing(tmp_path, capfd, name, flipped):
  path = tmp_path / name
  video.write_image(path, blocks())
  data = bytearray(path.read_bytes())
  if flipped:
    data[flipped] ^= 1
  else:
    del data[len(data) // 2 :]
  path.write_bytes(data)
  with pytest.raises(UserError, match=f'{name} is not .* damaged or cut short'):
    video.read_image(path)
  assert capfd.readouterr() == ('', '')


def test_a_large_png_is_not_reported_as_broken(tmp_path, monkeypatch):
  video.write_image(tmp_path / 'a.png', blocks())
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', HEIGHT * WIDTH - 1)
  np.testing.assert_array_equal(video.read_image(tmp_path / 'a.png'), blocks())
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 99)
  with pytest.raises(UserError, match=r'a\.png has more than .* too large'):
    video.read_image(tmp_path / 'a.png')


def test_16_bit_image_is_rounded(tmp_path):
  values = np.arange(0, 65536, 21, np.uint16)[: 48 * 64].reshape(48, 64)
  path = tmp_path / 'a.png'
  cv2.imwrite(str(path), np.dstack([values] * 3))
  expected = np.round(values / 257)
  np.testing.assert_array_equal(video.read_image(path)[..., 1], expected)
  cv2.imwrite(str(path), values)
  np.testing.assert_array_equal(video.read_image(path)[..., 2], expected)


def test_alpha_of_an_image_is_dropped(tmp_path):
  rgb = blocks()
  alpha = np.ones((HEIGHT, WIDTH), np.uint8)
  path = str(tmp_path / 'a.png')
  cv2.imwrite(path, np.dstack([rgb[..., ::-1], alpha]))
  np.testing.assert_array_equal(video.read_image(path), rgb)


def test_orientation_of_an_image_is_applied(tmp_path):
  rgb = blocks()
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned a quarter clockwise.
  Image.fromarray(rgb).save(tmp_path / 'a.png', exif=exif)
  expected = np.rot90(rgb, -1)
  np.testing.assert_array_equal(video.read_image(tmp_path / 'a.png'), expected)
  (frame,), reader = read(tmp_path / 'a.png')
  np.testing.assert_array_equal(frame.rgb, expected)
  assert reader.kind == 'image'
  assert reader.format[:2] == (WIDTH, HEIGHT)


def test_image_round_trip_under_any_name(tmp_path):
  path = tmp_path / 'größe 東京.png'
  video.write_image(path, blocks()[:, ::-1])
  np.testing.assert_array_equal(video.read_image(path), blocks()[:, ::-1])
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_unsupported_images_are_refused(tmp_path):
  path = tmp_path / 'a.png'
  cv2.imwrite(str(path), np.zeros((31, 500, 3), np.uint8))
  with pytest.raises(UserError, match=r'a\.png is 500x31 .* too small'):
    video.read_image(path)
  cv2.imwrite(str(path), np.zeros((32, 16_385, 3), np.uint8))
  with pytest.raises(UserError, match='too large'):
    video.read_image(path)
  cv2.imwrite(str(tmp_path / 'a.tif'), np.zeros((40, 40, 3), np.float32))
  with pytest.raises(UserError, match='float32'):
    video.read_image(tmp_path / 'a.tif')
  with pytest.raises(UserError, match=r'b\.png'):
    video.read_image(tmp_path / 'b.png')
  with pytest.raises(UserError, match='end its name'):
    video.write_image(tmp_path / 'a.doc', blocks())
  with pytest.raises(UserError, match=r'cannot write .*x\.png'):
    video.write_image(tmp_path / 'missing' / 'x.png', blocks())


def test_order_ignores_case(tmp_path):
  names = ['a1.png', 'B2.png', 'b02.PNG', 'b3.png', 'B10.png', 'C.png', 'c.png']
  for name in names[::-1]:
    (tmp_path / name).touch()
  actual = [path.name for path in video.image_files(tmp_path)]
  assert actual == ['a1.png', 'B2.png', 'b02.PNG', *names[3:]]
