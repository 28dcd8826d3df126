"""Bound stills: their lightness, position, and agreement with the frame."""

import cv2
import numpy as np
import pytest
from skimage import color as skcolor

from vitexco_jax.inference import stills

_SIZE = (90, 120)


@pytest.fixture(scope='module')
def frame():
  """A picture with structure everywhere, in color."""
  rng = np.random.default_rng(0)
  small = rng.uniform([30, -25, -25], [70, 25, 25], (12, 16, 3))
  lab = cv2.resize(small, _SIZE[::-1], interpolation=cv2.INTER_CUBIC)
  return _to_rgb(lab)


def _to_rgb(lab):
  return np.uint8(np.round(255 * skcolor.lab2rgb(lab)))


def _edited(rgb):
  """Brighter and sharper, with the same ab."""
  lab = skcolor.rgb2lab(rgb)
  lightness = 100 * (lab[..., 0] / 100) ** 0.7
  lightness += 0.8 * (lightness - cv2.GaussianBlur(lightness, (0, 0), 1.5))
  return _to_rgb(np.dstack([np.clip(lightness, 0, 100), lab[..., 1:]]))


def _error(rgb, expected):
  a, b = skcolor.rgb2lab(rgb), skcolor.rgb2lab(expected)
  return np.abs(a - b).mean((0, 1))


def test_a_still_with_the_lightness_of_its_frame_is_unchanged(frame):
  gray = _to_rgb(skcolor.rgb2lab(frame) * [1, 0, 0])
  fitted = stills.fit(frame, gray)
  assert fitted.agreement == 1
  np.testing.assert_array_equal(fitted.rgb, frame)


def test_a_brighter_still_gets_the_lightness_and_keeps_its_colors(frame):
  still = _edited(frame)
  before, after = (
    _error(still, frame),
    _error(stills.fit(still, frame).rgb, frame),
  )
  assert before[0] > 8 and after[0] < 2
  assert np.all(after[1:] < 1.5)


def test_the_frame_may_have_another_size(frame):
  half = cv2.resize(frame, (60, 45), interpolation=cv2.INTER_AREA)
  fitted = stills.fit(_edited(frame), half)
  assert fitted.rgb.shape == frame.shape and fitted.agreement > 0.9


def test_a_moved_still_is_aligned(frame):
  moved = np.float32([[1.02, 0.01, -2.5], [-0.01, 1.02, 1.5]])
  still = cv2.warpAffine(
    _edited(frame), moved, _SIZE[::-1], borderMode=cv2.BORDER_REFLECT
  )
  fitted = stills.fit(still, frame)
  inner = slice(8, -8)
  before, after = (
    _error(x[inner, inner], frame[inner, inner]) for x in (still, fitted.rgb)
  )
  assert fitted.agreement > 0.9
  assert np.all(after < before / 2)


def test_another_picture_does_not_agree(frame):
  assert stills.fit(frame[::-1, ::-1].copy(), frame).agreement < 0.5
  flat = np.full_like(frame, 128)
  assert stills.fit(flat, frame).agreement < 0.5
  assert stills.fit(flat, flat + np.uint8(9)).agreement == 1
