"""image_kinds: film scans, gray maps, transparency; the rest is named."""

import io
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import video


def _ramp():
  y, x = np.mgrid[:48, :64]
  return np.stack([4 * x, 5 * y, 128 + 0 * x], -1).astype(np.uint8)


def _encoded(codec, picture):
  coder = av.CodecContext.create(codec, 'w')
  coder.width, coder.height = picture.width, picture.height
  coder.pix_fmt, coder.time_base = picture.format.name, Fraction(1, 25)
  return b''.join(map(bytes, [*coder.encode(picture), *coder.encode(None)]))


@pytest.mark.parametrize('pixels', ['rgb24', 'gbrp10le', 'rgb48le'])
def test_dpx(tmp_path, pixels):
  picture = av.VideoFrame.from_ndarray(_ramp(), 'rgb24').reformat(format=pixels)
  for number in range(2):
    (tmp_path / f'{number}.dpx').write_bytes(_encoded('dpx', picture))
  with video.VideoReader(tmp_path) as reader:
    frames = list(reader)
  assert len(frames) == 2
  np.testing.assert_allclose(frames[1].rgb, _ramp(), atol=1)
  deep = video.read_image(tmp_path / '0.dpx', deep=True)
  assert deep.dtype == np.uint16
  np.testing.assert_allclose(deep, 257.0 * _ramp(), atol=300)


def test_openexr_is_linear_light(tmp_path):
  picture = av.VideoFrame.from_ndarray(_ramp(), 'rgb24')
  picture = picture.reformat(format='gbrpf32le')
  (tmp_path / 'a.exr').write_bytes(_encoded('exr', picture))
  linear = _ramp() / 255
  expected = np.where(
    linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
  )
  rgb = video.read_image(tmp_path / 'a.exr')
  np.testing.assert_allclose(rgb, 255 * expected, atol=2)


@pytest.mark.parametrize('suffix', ['.dpx', '.exr'])
def test_a_truncated_scan_is_refused(tmp_path, suffix):
  pixels = {'.dpx': 'rgb24', '.exr': 'gbrpf32le'}[suffix]
  picture = av.VideoFrame.from_ndarray(_ramp(), 'rgb24').reformat(format=pixels)
  path = tmp_path / f'a{suffix}'
  path.write_bytes(_encoded(suffix[1:], picture)[:300])
  with pytest.raises(
    UserError, match=rf'a{suffix} is not an image, or is dama'
  ):
    video.read_image(path)


@pytest.mark.parametrize('suffix', ['.pgm', '.pbm', '.pnm', '.ppm', '.pam'])
def test_portable_maps(tmp_path, suffix):
  gray = 255 * (_ramp()[..., :1] // 128)
  written = gray.repeat(3, -1) if suffix in ('.ppm', '.pam') else gray
  cv2.imwrite(str(tmp_path / f'a{suffix}'), written)
  with video.VideoReader(tmp_path) as reader:
    (frame,) = reader
  np.testing.assert_array_equal(frame.rgb, gray.repeat(3, -1))


@pytest.mark.parametrize(
  ('name', 'content', 'kind'),
  [
    ('a.heic', b'\0\0\0\x18ftypheic\0\0\0\0heicmif1', 'an HEIC picture'),
    ('a.jpg', b'\0\0\0\x18ftypmif1\0\0\0\0mif1heic', 'an HEIC picture'),
    ('a.jxl', b'\xff\x0a', 'a JPEG XL picture'),
    ('a.jxl', b'\0\0\0\x0cJXL \r\n\x87\n', 'a JPEG XL picture'),
    ('a.psd', b'8BPS\0\x01', 'a Photoshop file'),
    ('a.dng', b'II*\0', 'a camera raw file'),
  ],
)
def test_unsupported_kinds_are_named(tmp_path, name, content, kind):
  path = tmp_path / name
  path.write_bytes(content + bytes(200))
  words = rf'{name} is {kind}, which cannot be read: save it as JPEG or PNG'
  with pytest.raises(UserError, match=words):
    video.read_image(path)
  assert video.image_files(tmp_path) == [path]  # It is not passed over.
  with pytest.raises(UserError, match=words):
    video.VideoReader(tmp_path)


@pytest.mark.parametrize('mode', ['RGBA', 'P', 'RGB'])
def test_transparent_pixels_have_no_color(tmp_path, mode):
  rgb = np.zeros((48, 64, 3), np.uint8)
  rgb[:, :32], rgb[:, 32:] = (0, 250, 0), (200, 120, 90)
  path = tmp_path / 'a.png'
  if mode == 'RGBA':
    alpha = np.uint8([0] * 32 + [1] * 32)[None].repeat(48, 0)
    Image.fromarray(np.dstack([rgb, alpha])).save(path)
  elif mode == 'P':
    palette = Image.fromarray(rgb).quantize(2)
    palette.save(path, transparency=palette.getpixel((0, 0)))
  else:
    Image.fromarray(rgb).save(path, transparency=(0, 250, 0))
  read = video.read_image(path)
  np.testing.assert_array_equal(read[:, 32:], rgb[:, 32:])
  assert not np.ptp(read[:, :32], -1).any()


@pytest.mark.parametrize('suffix', ['.png', '.avif', '.webp', '.tif'])
def test_transparency_is_rotated_with_the_picture(tmp_path, suffix):
  rgba = np.full((48, 64, 4), (200, 20, 20, 255), np.uint8)
  rgba[:10, :, 3] = 0
  exif = Image.Exif()
  exif[0x0112] = 6
  path = tmp_path / f'a{suffix}'
  Image.fromarray(rgba).save(path, exif=exif)
  gray = np.ptp(video.read_image(path), -1) == 0
  np.testing.assert_array_equal(gray, np.rot90(rgba[..., 3] == 0, -1))


def test_other_plugins_do_not_open_pictures(tmp_path):
  # Pillow would start Ghostscript for it.
  data = io.BytesIO()
  Image.new('RGB', (64, 48)).save(data, 'EPS')
  (tmp_path / 'a.png').write_bytes(data.getvalue())
  with pytest.raises(UserError, match='is not an image'):
    video.read_image(tmp_path / 'a.png')


def test_a_scan_that_claims_too_many_pixels_is_not_decoded(tmp_path):
  data = bytearray(
    _encoded('dpx', av.VideoFrame.from_ndarray(_ramp(), 'rgb24'))
  )
  data[772:780] = b'\0\0\x7f\0' * 2  # Width and height.
  (tmp_path / 'a.dpx').write_bytes(data + bytes(10_000))
  with pytest.raises(UserError, match=r'a\.dpx is not an image'):
    video.read_image(tmp_path / 'a.dpx')
