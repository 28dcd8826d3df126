"""Borders: bars, and dark pictures without borders."""

import io

import av
import cv2
import numpy as np
import pytest

from vitexco_jax.media import borders
from vitexco_jax.media.borders import Borders

H, W = 144, 256


def _scene(seed=0, low=40, high=220, shift=0):
  """A soft gray picture that moves, [H, W] float."""
  rng = np.random.default_rng(seed)
  coarse = rng.uniform(low, high, (8, 14)).astype(np.float32)
  picture = cv2.resize(coarse, (W, H), interpolation=cv2.INTER_CUBIC)
  return np.clip(np.roll(picture, shift, 1), low, high)


def _shot(paint, count=8, **kind):
  """Frames that `paint` has changed, given each and its number; [H, W] float."""
  frames = []
  for i in range(count):
    frame = _scene(shift=3 * i, **kind)
    paint(frame, i)
    frames.append(frame)
  return frames


def _boxed(level=0, top=0, bottom=0, left=0, right=0):
  def paint(frame, _):
    inner = Borders(top, bottom, left, right).crop(frame).copy()
    frame[:] = level
    Borders(top, bottom, left, right).crop(frame)[:] = inner

  return paint


def _evidence(frames):
  finder = borders.Finder()
  for frame in frames:
    gray = np.uint8(np.clip(np.round(frame), 0, 255))
    finder.add(np.repeat(gray[..., None], 3, -1))
  return finder.evidence()


def _found(*shots):
  return borders.agreed([_evidence(frames) for frames in shots], (H, W))


@pytest.mark.parametrize('level', [0, 16, 255])
@pytest.mark.parametrize(
  'box',
  [
    {'top': 20, 'bottom': 20},
    {'top': 13, 'bottom': 27},
    {'left': 32, 'right': 32},
    {'left': 6},
    {'top': 9, 'bottom': 8, 'left': 20, 'right': 24},
    {},
  ],
  ids=['letterbox', 'shifted', 'pillarbox', 'line', 'windowbox', 'none'],
)
def test_bars_are_detected_to_the_pixel(level, box):
  assert _found(_shot(_boxed(level, **box))) == [Borders(**box)]


def test_bars_of_a_noisy_scan_with_flashes_of_dust():
  rng = np.random.default_rng(1)
  box = {'top': 20, 'bottom': 18}

  def paint(frame, i):
    _boxed(14, **box)(frame, i)
    frame += rng.normal(0, 4, frame.shape)
    if i == 20:
      frame[5:9, 100:110] = 255

  actual = _found(_shot(paint, 40))[0]
  assert np.abs(np.subtract(actual, Borders(**box))).max() <= 1


@pytest.mark.parametrize('codec, options', [('mpeg4', {'qscale': '12'})])
def test_bars_under_heavy_compression(codec, options):
  box = Borders(22, 22)
  file = io.BytesIO()
  with av.open(file, 'w', format='avi') as out:
    stream = out.add_stream(codec, rate=25, options=options)
    stream.width, stream.height, stream.pix_fmt = W, H, 'yuv420p'
    for frame in _shot(_boxed(0, *box[:2])):
      rgb = np.repeat(np.uint8(frame)[..., None], 3, -1)
      out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, 'rgb24')))
    out.mux(stream.encode(None))
  file.seek(0)
  with av.open(file) as read:
    frames = [x.to_ndarray(format='gray') for x in read.decode(video=0)]
  actual = _found(frames)[0]
  assert all(0 <= true - x <= 7 for true, x in zip(box, actual, strict=True))
  assert actual.top > 14 and actual.bottom > 14


def _night_sky(frame, _):
  """Black above roofs, which are lit."""
  roofs = 30 + 20 * np.sin(np.arange(W) / 9) + 15 * np.sin(np.arange(W) / 31)
  frame[np.arange(H)[:, None] < roofs] = 4


def _doorway(frame, _):
  frame[:, :50] = 6  # A dark wall in front, with a straight edge.


def _title(frame, _):
  frame[:] = 0
  for line, length in ((50, 150), (70, 130), (90, 60)):
    text = frame[line : line + 9, 128 - length // 2 : 128 + length // 2]
    text[:, np.arange(length) % 7 < 4] = 240


def _falling_dark(frame, _):
  frame *= np.linspace(0, 1, H)[:, None]


def _page(frame, _):
  """Something dark on white."""
  y, x = np.mgrid[:H, :W]
  frame[((y - 72) / 40) ** 2 + ((x - 128) / 90) ** 2 > 1] = 250


@pytest.mark.parametrize(
  'paint', [_night_sky, _doorway, _title, _falling_dark, _page]
)
def test_dark_and_bright_pictures_have_no_borders(paint):
  assert _found(_shot(paint)) == [borders.NONE]


def test_a_logo_in_a_bar_does_not_hide_it():
  def paint(frame, i):
    _boxed(0, left=40, right=40)(frame, i)
    frame[130:138, 10:90] = 200

  assert _found(_shot(paint)) == [Borders(left=40, right=40)]


def test_a_dark_side_gets_the_width_of_the_opposite_bar():
  def paint(frame, i):
    frame[:, :90] = 1
    _boxed(0, left=40, right=40)(frame, i)

  assert _found(_shot(paint)) == [Borders(left=40, right=40)]


@pytest.mark.parametrize('level', [0, 255])
def test_an_empty_film_has_no_borders(level):
  assert _found(_shot(_boxed(level, top=H))) == [borders.NONE]


def test_moving_dark_areas_are_not_borders():
  def paint(frame, i):
    _boxed(0, 20, 20)(frame, i)
    frame[5:15, 20 * i : 20 * i + 20] = 200

  actual = _found(_shot(paint))[0]
  assert actual.top <= 5 and actual.bottom <= 5


def test_a_fade_from_black_does_not_hide_bars():
  def paint(frame, i):
    frame *= min(1, i / 5)
    _boxed(0, 20, 20)(frame, i)

  assert _found(_shot(paint)) == [Borders(20, 20)]


def test_shots_without_an_edge_get_the_borders_of_others():
  box = _boxed(0, 20, 20)

  def dark(frame, i):
    frame[60:] = 0
    box(frame, i)

  black, full = _shot(_boxed(0, top=H)), _shot(_boxed())
  actual = _found(_shot(box), _shot(dark), black, full)
  assert actual == [Borders(20, 20)] * 3 + [borders.NONE]


def test_shots_whose_borders_nearly_agree_have_pictures_of_one_size():
  actual = _found(_shot(_boxed(0, 20, 20)), _shot(_boxed(0, 18, 21)))
  assert actual == [Borders(18, 20)] * 2


def test_long_shots_take_no_more_memory():
  finder = borders.Finder()
  frame = np.zeros((32, 32, 3), np.uint8)
  for _ in range(1000):
    finder.add(frame)
  assert len(finder._samples) <= borders._MAX_FRAMES


def test_a_picture_with_few_rows_has_no_borders():
  rgb = np.zeros((40, 60, 3), np.uint8)
  rgb[10:30] = 200
  assert borders.of_picture(rgb) == borders.NONE  # 20 rows are too few.


def test_crop_is_a_view():
  picture = np.zeros((10, 12, 3))
  Borders(1, 2, 3, 4).crop(picture)[:] = 1
  assert Borders(1, 2, 3, 4).size(10, 12) == (7, 5)
  assert picture.sum() == 3 * 7 * 5 and picture[1:8, 3:8].all()
