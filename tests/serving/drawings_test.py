"""Copies of uploaded pictures, and pictures that are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from documents import picture
from page_inputs import encoded
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import containers, video
from vitexco_jax.serving import drawings, uploads


def _header(width, height):
  """A small PNG that claims to be large."""
  data = bytearray(encoded(picture(1)))
  data[16:24] = width.to_bytes(4) + height.to_bytes(4)
  data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
  return bytes(data)


def _odd_exif():
  """A rotated JPEG whose Exif claims a width of 1.5 pixels."""
  turned = struct.pack('<HHIHxx', 0x0112, 3, 1, 6)
  wide = struct.pack('<HHIf', 0x0100, 11, 1, 1.5)
  head = struct.pack('<2sHIH', b'II', 42, 8, 2)
  file = io.BytesIO()
  exif = b'Exif\0\0' + head + turned + wide + bytes(4)
  Image.fromarray(picture(1)).save(file, 'JPEG', exif=exif)
  return file.getvalue()


def test_only_the_clean_copy_of_a_picture_is_stored(tmp_path, monkeypatch):
  """The copy is small and upright, and has no hidden data."""
  monkeypatch.setattr(drawings, '_MAX_SIDE', 120)
  large = picture(1, (200, 240))
  image = Image.fromarray(large)
  exif = image.getexif()
  exif[0x0112] = 6  # Rotated clockwise.
  image.save(tmp_path / 'given', 'PNG', exif=exif)
  with open(tmp_path / 'given', 'ab') as file:
    file.write(b'<script>')
  monkeypatch.setattr(containers, '_bounds', None)  # Restored afterwards.
  drawing = drawings.redraw(tmp_path / 'given')
  assert b'<script>' not in drawing.png
  kept = video.decode_image(drawing.png, 'kept')
  assert kept.shape == (120, 100, 3)
  turned = np.rot90(large, -1)[::2, ::2]
  assert np.abs(kept - np.float32(turned)).mean() < 12


@pytest.mark.parametrize(
  'content, sentence',
  [
    (b'', 'not a supported picture'),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'not a supported picture'),
    (encoded(picture(1), 'GIF'), 'not a supported picture'),
    (
      encoded(picture(1))[:1000],
      'is not an image, or is damaged or cut short',
    ),
    (_header(60_000, 60_000), 'more than 67 million pixels: make it smaller'),
    (_header(9000, 8000), 'is 9000x8000 pixels: too large'),
    (
      encoded(picture(1, (31, 40))),
      '40x31 pixels: each side must be at least 32',
    ),
    (encoded(picture(1, (40, 161))), 'and one side at most 4 times the other'),
    (encoded(np.full((64, 96, 3), 99, np.uint8)), 'is black-and-white'),
  ],
)
def test_unusable_pictures_are_refused(tmp_path, content, sentence):
  (tmp_path / 'given').write_bytes(content)
  with pytest.raises(UserError, match=sentence):
    uploads.redraw(tmp_path / 'given')


def test_odd_exif_does_no_harm(tmp_path):
  (tmp_path / 'given').write_bytes(_odd_exif())
  kept = video.decode_image(uploads.redraw(tmp_path / 'given').png, 'kept')
  assert kept.shape == (96, 64, 3)  # Rotated.


def test_previews_are_shrunk():
  data = drawings.preview(picture(1, (80, 1920)))
  assert video.decode_image(data, 'preview').shape == (40, 960, 3)
