"""rgb_conversion: colors, ranges, depths, and rotations of decoded pictures."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from written_videos import (
  BT601,
  BT709,
  HEIGHT,
  SHARES,
  WIDTH,
  blocks,
  moving,
  read,
  save,
  save_planes,
  write,
  ycbcr,
)

from vitexco_jax.media import video
from vitexco_jax.media.video import Format, VideoReader


@pytest.mark.parametrize('full', [False, True])
@pytest.mark.parametrize('matrix', SHARES)
@pytest.mark.parametrize('bits', [8, 10, 16])
def test_matrix_range_and_depth_follow_the_tags(tmp_path, bits, matrix, full):
  rgb = blocks()
  pixels = 'yuv444p' if bits == 8 else f'yuv444p{bits}le'
  planes = ycbcr(rgb, matrix, full, bits)
  path = save_planes(tmp_path / 'a.mkv', planes, pixels, matrix, full)
  (frame,), _ = read(path)
  np.testing.assert_allclose(frame.rgb, rgb.astype(float), atol=1.01)


def test_untagged_high_definition_is_bt709_and_the_rest_bt601(tmp_path):
  for size, matrix in [((48, 64), BT601), ((720, 1280), BT709)]:
    rgb = blocks(*size)
    planes = ycbcr(rgb, matrix, full=False)
    path = save_planes(tmp_path / f'{size[0]}.mkv', planes, 'yuv444p')
    (frame,), _ = read(path)
    np.testing.assert_allclose(frame.rgb, rgb.astype(float), atol=2.01)


def test_subsampled_chroma_is_neither_biased_nor_shifted(tmp_path):
  (rgb,) = moving(1)
  y, cb, cr = ycbcr(rgb, BT601, full=False)
  halves = [
    plane.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    for plane in (cb, cr)
  ]
  path = save_planes(tmp_path / 'a.mkv', [y, *halves], 'yuv420p', BT601)
  (frame,), _ = read(path)
  error = (frame.rgb.astype(float) - rgb)[4:-4, 4:-4]
  assert np.abs(error.mean((0, 1))).max() < 0.3
  assert np.abs(error).max() <= 4


@pytest.mark.parametrize('pixels', ['gray', 'gray16le'])
def test_gray_video_gets_three_equal_channels(tmp_path, pixels):
  gray = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
  scale = 257 if pixels == 'gray16le' else 1
  path = save_planes(tmp_path / 'a.mkv', [gray * scale], pixels)
  (frame,), _ = read(path)
  expected = np.repeat(gray[..., None], 3, -1)
  np.testing.assert_allclose(frame.rgb, expected.astype(float), atol=1)


def test_alpha_of_a_video_is_dropped(tmp_path):
  rgb = blocks()
  with av.open(str(tmp_path / 'a.mkv'), 'w') as container:
    stream = container.add_stream(
      'ffv1', rate=25, width=WIDTH, height=HEIGHT, pix_fmt='bgra'
    )
    bgra = np.dstack([rgb[..., ::-1], np.full((HEIGHT, WIDTH), 7, np.uint8)])
    container.mux(stream.encode(av.VideoFrame.from_ndarray(bgra, 'bgra')))
    container.mux(stream.encode(None))
  (frame,), _ = read(tmp_path / 'a.mkv')
  np.testing.assert_array_equal(frame.rgb, rgb)


@pytest.mark.parametrize(
  'matrix, turned',
  [
    ((1, 0, 0, 1), lambda rgb: rgb),
    ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),  # A quarter clockwise.
    ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    ((0, -1, 1, 0), lambda rgb: np.rot90(rgb, 1)),
    ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
    ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
  ],
)
def test_rotation_metadata_is_applied(tmp_path, matrix, turned):
  plain = save(tmp_path / 'plain.mp4', moving(2))
  # QuickTime's track header: (x, y) is shown at (a x + c y, b x + d y).
  a, b, c, d = (value << 16 for value in matrix)
  data = bytearray(plain.read_bytes())
  struct.pack_into(
    '>9i', data, data.index(b'tkhd') + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30
  )
  path = tmp_path / 'turned.mp4'
  path.write_bytes(data)
  expected = turned(read(plain)[0][1].rgb)
  frames, reader = read(path)
  np.testing.assert_array_equal(frames[1].rgb, expected)
  assert (reader.format.height, reader.format.width) == expected.shape[:2]


def test_10_bit_video_is_more_precise_than_8_bit(tmp_path):
  y = np.linspace(400, 440, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).round()
  planes = [y, np.full_like(y, 512), np.full_like(y, 512)]
  path = save_planes(tmp_path / 'a.mkv', planes, 'yuv444p10le', BT709)
  with VideoReader(path, deep=True) as reader:
    rgb = next(reader).rgb
  expected = (y - 64) / 876 * 65535
  np.testing.assert_allclose(rgb[..., 1], expected, atol=8)
  assert len(np.unique(rgb)) >= 40  # 8 bits would have 12 levels.


@pytest.mark.parametrize('bits', [8, 10])
def test_colors_of_420_are_the_same_in_16_bits(tmp_path, bits):
  coding = video.Coding(bits=bits)
  rgb = np.full((48, 64, 3), (192, 150, 94), np.uint8)
  frame = rgb * np.uint16(257) if coding.deep else rgb
  path = write(tmp_path / 'a.mp4', [frame], coding=coding)
  with VideoReader(path, deep=True) as reader:
    actual = next(reader).rgb / 257
  assert np.abs(actual - rgb).max() < 3


def test_written_video_is_tagged_limited_bt709(tmp_path):
  (rgb,) = moving(1)
  write(tmp_path / 'a.mp4', [rgb])
  with av.open(str(tmp_path / 'a.mp4')) as container:
    (picture,) = container.decode(video=0)
    assert picture.format.name == 'yuv420p'
    tags = (
      picture.colorspace,
      picture.color_range,
      picture.color_primaries,
      picture.color_trc,
    )
    plane = picture.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(HEIGHT, -1)[:, :WIDTH]
  assert tags == (1, 1, 1, 1)
  expected = ycbcr(rgb, BT709, full=False)[0]
  assert np.abs(luma - expected).mean() < 1
  assert abs((luma - expected).mean()) < 0.2


def test_tags_and_pixel_aspect_are_copied(tmp_path):
  form = Format(
    HEIGHT,
    WIDTH,
    pixel_aspect=Fraction(16, 15),
    primaries=6,
    transfer=6,
    matrix=6,
  )
  path = write(tmp_path / 'a.mp4', moving(2), form)
  _, reader = read(path)
  assert reader.format[4:8] == (Fraction(16, 15), 6, 6, 6)
