"""animations: all frames of an image file, their times, and errors."""

import struct
import zlib
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import video

MILLISECONDS = [100, 250, 40, 0, 500]  # None at all is read as 100.
STAMPS = [0, 100, 350, 390, 490]


def _save(path, **kwargs):
  """Writes five frames, of which number i is of gray 40 i."""
  first, *others = (Image.new('RGB', (64, 48), (40 * i,) * 3) for i in range(5))
  first.save(path, save_all=True, append_images=others, **kwargs)
  return path


def _read(path, deep=False):
  with video.VideoReader(path, deep) as reader:
    return list(reader), reader


def _levels(frames):
  return [int(frame.rgb.mean().round()) for frame in frames]


@pytest.mark.parametrize('suffix', ['.webp', '.png', '.gif', '.avif'])
def test_animations_are_read_with_their_timing(tmp_path, suffix):
  lossless = {'lossless': True} if suffix == '.webp' else {}
  path = _save(tmp_path / f'a{suffix}', duration=MILLISECONDS, **lossless)
  frames, reader = _read(path)
  assert reader.kind == 'animation'
  assert reader.num_frames == 5
  assert reader.format[:2] == (48, 64)
  assert reader.format.time_base == Fraction(1, 1000)
  assert reader.format.frame_rate == Fraction(5000, 990)
  assert [frame.pts for frame in frames] == STAMPS
  assert frames[-1].duration == 500
  np.testing.assert_allclose(_levels(frames), range(0, 200, 40), atol=2)
  path = path.rename(tmp_path / 'upload')
  with video.VideoReader(path) as reader:  # It is known by its content.
    reader.skip(3)
    assert _levels(reader) == _levels(frames[3:])


def test_pages_of_a_tiff_are_frames_in_all_their_bits(tmp_path):
  pages = [np.full((48, 64), 5000 * i, np.uint16) for i in range(3)]
  cv2.imwritemulti(str(tmp_path / 'a.tif'), pages)
  frames, reader = _read(tmp_path / 'a.tif', deep=True)
  assert reader.format.frame_rate == video.DEFAULT_FRAME_RATE
  assert [frame.pts for frame in frames] == [0, 1, 2]
  assert _levels(frames) == [0, 5000, 10000]


def test_hidden_copies_are_not_frames(tmp_path):
  picture, small = (Image.new('RGB', (w, 48), 'gray') for w in (64, 32))
  small.encoderinfo = {'tiffinfo': {254: 1}}  # A reduced copy.
  picture.save(tmp_path / 'a.tif', save_all=True, append_images=[small])
  (frame,), reader = _read(tmp_path / 'a.tif')
  assert reader.kind == 'image'
  assert frame.rgb.shape == (48, 64, 3)
  path = _save(tmp_path / 'a.png', duration=MILLISECONDS, default_image=True)
  frames, _ = _read(path)
  assert _levels(frames) == [40, 80, 120, 160]
  assert [frame.pts for frame in frames] == STAMPS[:4]


def test_pages_of_several_sizes_are_refused(tmp_path):
  picture, small = (Image.new('RGB', (w, 48), 'gray') for w in (64, 32))
  picture.save(tmp_path / 'a.tif', save_all=True, append_images=[small])
  with pytest.raises(UserError, match=r'a\.tif: frame 1 is 32x48 pixels'):
    _read(tmp_path / 'a.tif')


@pytest.mark.parametrize('suffix', ['.png', '.gif'])
def test_a_truncated_animation_yields_its_frames_and_counts_the_lost(
  tmp_path, suffix
):
  path = _save(tmp_path / f'a{suffix}', duration=MILLISECONDS)
  path.write_bytes(path.read_bytes()[:-30])
  frames, reader = _read(path)
  assert _levels(frames) == [0, 40, 80, 120]
  assert reader.lost in (1, 2)  # Where a GIF breaks there may be one more.
  assert reader.damaged == [4]


@pytest.mark.parametrize('suffix', ['.webp', '.avif', '.tif'])
def test_a_truncated_animation_without_frames_is_named(tmp_path, suffix):
  path = _save(tmp_path / f'a{suffix}')
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(UserError, match=rf'a{suffix}.* damaged or cut short'):
    _read(path)


@pytest.mark.parametrize('suffix', ['.webp', '.png', '.gif', '.tif'])
def test_an_animation_is_not_one_picture(tmp_path, suffix):
  path = _save(tmp_path / f'a{suffix}')
  with pytest.raises(UserError, match='holds 5 frames, not one picture'):
    video.read_image(path)


def test_a_claim_of_many_frames_allocates_nothing(tmp_path):
  path = _save(tmp_path / 'a.png', duration=10)
  data = path.read_bytes()
  place = data.index(b'acTL')
  chunk = b'acTL\x7f\xff\xff\xff\0\0\0\0'
  chunk += struct.pack('>I', zlib.crc32(chunk))
  path.write_bytes(data[:place] + chunk + data[place + len(chunk) :])
  frames, reader = _read(path)
  assert len(frames) == 5
  assert reader.lost > 10**9
