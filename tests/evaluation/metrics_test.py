"""Metrics against values by hand, other libraries, and known pitfalls."""

import numpy as np
import pytest
import skimage
from scipy.spatial import distance
from skimage import metrics as skmetrics

from vitexco_jax import flow
from vitexco_jax.evaluation import metrics


def _random(seed, low=0, high=256):
  rng = np.random.default_rng(seed)
  return rng.integers(low, high, (12, 16, 3), np.uint8)


def test_psnr_by_hand():
  true = np.zeros((2, 2, 3), np.uint8)
  rgb = true.copy()
  rgb[0, 0] = [3, 4, 5]  # Squares 9 + 16 + 25 = 50 over 12 entries.
  np.testing.assert_allclose(
    metrics.psnr(rgb, true), 10 * np.log10(65025 * 12 / 50), 1e-12
  )


def test_psnr_does_not_wrap():
  dark, bright = np.full((2, 8, 8, 3), [[[[10]]], [[[210]]]], np.uint8)
  # Differences of +-200. In uint8, 10 - 210 wraps to 56; squares also wrap.
  for pair in ((dark, bright), (bright, dark)):
    np.testing.assert_allclose(
      metrics.psnr(*pair), 20 * np.log10(255 / 200), 1e-12
    )


def test_psnr_agrees_with_scikit_image():
  rgb, true = _random(0), _random(1)
  np.testing.assert_allclose(
    metrics.psnr(rgb, true), skmetrics.peak_signal_noise_ratio(true, rgb), 1e-9
  )


def test_equal_pictures():
  rgb = _random(0)
  assert metrics.psnr(rgb, rgb) == 100
  assert metrics.ssim(rgb, rgb) == 1


def test_nearly_equal_pictures_are_not_better_than_equal_ones():
  rgb = np.zeros((400, 400, 3), np.uint8)
  other = rgb.copy()
  other[0, 0, 0] = 1  # 10 log10(65025 * 480000) = 104.9.
  assert metrics.psnr(other, rgb) == 100


def _slow_ssim(x, y):
  """Wang et al. 2004 with 7x7 windows and sample variances."""
  x, y = np.float64(x), np.float64(y)
  h, w, channels = x.shape
  values = []
  for i, j, c in np.ndindex(h - 6, w - 6, channels):
    a, b = x[i : i + 7, j : j + 7, c], y[i : i + 7, j : j + 7, c]
    (va, ab), (_, vb) = np.cov(a.ravel(), b.ravel())
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values.append(
      (2 * a.mean() * b.mean() + c1)
      * (2 * ab + c2)
      / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2))
    )
  return np.mean(values)


def test_ssim_agrees_with_the_slow_formula():
  true = _random(0, 100, 150)
  rgb = true + _random(1, 0, 30)
  np.testing.assert_allclose(
    metrics.ssim(rgb, true), _slow_ssim(rgb, true), 1e-9
  )


def test_psnr_wrapped_by_hand():
  rgb, true = _random(0), _random(1)
  wrapped = [
    (int(a) - int(b)) % 256 * ((int(a) - int(b)) % 256) % 256
    for a, b in zip(rgb.ravel(), true.ravel(), strict=True)
  ]
  np.testing.assert_allclose(
    metrics.psnr_wrapped(rgb, true),
    20 * np.log10(255 / np.sqrt(np.mean(wrapped))),
    1e-12,
  )
  assert metrics.psnr_wrapped(rgb, true) > 20 + metrics.psnr(rgb, true)
  assert metrics.psnr_wrapped(rgb, rgb) == 100
  # A difference of 16 counts as 0.
  assert metrics.psnr_wrapped(rgb // 2, rgb // 2 + np.uint8(16)) == 100


# Colors


def test_ciede2000_agrees_with_scikit_image_in_float64():
  for rgb, true in [
    (_random(0), _random(1)),
    (_random(0, 0, 250), _random(0, 0, 250) + np.uint8(3)),
    (np.repeat(_random(0)[..., :1], 3, -1), _random(0)),
  ]:
    expected = skimage.color.deltaE_ciede2000(
      skimage.color.rgb2lab(true), skimage.color.rgb2lab(rgb)
    )
    np.testing.assert_allclose(
      metrics.ciede2000(rgb, true),
      [expected.mean(), np.percentile(expected, 90)],
      atol=1e-3,
    )


def test_ciede2000_of_grays_by_hand():
  """Grays differ only in L, by dL / S_L (CIE 142-2001)."""
  dark, light = np.full((2, 4, 4, 3), [[[[77]]], [[[119]]]], np.uint8)
  l1, l2 = (
    116 * np.cbrt(((v / 255 + 0.055) / 1.055) ** 2.4) - 16 for v in (77, 119)
  )
  off = (l1 + l2) / 2 - 50
  expected = (l2 - l1) / (1 + 0.015 * off**2 / np.sqrt(20 + off**2))
  np.testing.assert_allclose(
    metrics.ciede2000(dark, light), [expected, expected], atol=2e-3
  )


def test_ciede2000_percentile():
  true = np.zeros((10, 10, 3), np.uint8)
  for rows, tail in ((2, 100), (1, 10), (0, 0)):
    rgb = true.copy()
    rgb[:rows] = 255
    mean, high = metrics.ciede2000(rgb, true)
    np.testing.assert_allclose(mean, 10 * rows, atol=1e-3)
    # Of 100 values, the 90th percentile is a tenth past the 90th smallest.
    np.testing.assert_allclose(high, tail, atol=1e-3)


def test_colorfulness_by_hand():
  flat = np.full((4, 4, 3), [200, 100, 50], np.uint8)
  np.testing.assert_allclose(
    metrics.colorfulness(flat), 0.3 * np.hypot(100, 100), 1e-6
  )
  # Red is (255, 127.5) in the opponent colors, blue (0, -255): signs count.
  halves = np.full((4, 4, 3), [255, 0, 0], np.uint8)
  halves[2:] = [0, 0, 255]
  np.testing.assert_allclose(
    metrics.colorfulness(halves),
    np.hypot(127.5, 191.25) + 0.3 * np.hypot(127.5, 63.75),
    1e-6,
  )
  assert metrics.colorfulness(np.full((4, 4, 3), 99, np.uint8)) == 0


def test_mean_chroma_of_red_and_gray():
  rgb = np.full((4, 4, 3), 128, np.uint8)
  assert metrics.mean_chroma(rgb) < 0.01
  rgb[:2] = [255, 0, 0]  # Lab 53.24, 80.09, 67.20, from published tables.
  np.testing.assert_allclose(
    metrics.mean_chroma(rgb), np.hypot(80.09, 67.20) / 2, atol=0.02
  )


# Over time


def test_drift_is_per_100_frames():
  true = np.random.default_rng(0).uniform(5, 50, 30)
  faded = true - 3 - 0.02 * np.arange(30)
  np.testing.assert_allclose(metrics.drift(faded, true), -2, 1e-9)
  # By hand: the line through 0, 0, 3, 3 rises by 1.2 per frame.
  np.testing.assert_allclose(metrics.drift([1, 1, 4, 4], [1, 1, 1, 1]), 120)
  with pytest.raises(ValueError, match='2 frames'):
    metrics.drift([1], [1])


def test_histograms_by_hand():
  rgb = np.zeros((2, 2, 3), np.uint8)
  rgb[0, 0] = [1, 2, 255]
  rgb[1, 1] = [1, 0, 7]
  expected = np.zeros((3, 256))
  expected[0, [0, 1]] = 0.5, 0.5
  expected[1, [0, 2]] = 0.75, 0.25
  expected[2, [0, 7, 255]] = 0.5, 0.25, 0.25
  np.testing.assert_array_equal(metrics.histograms(rgb), expected)


def _clip_histograms(count):
  return np.array([metrics.histograms(_random(i)) for i in range(count)])


@pytest.mark.parametrize(
  'count, steps', [(2, [1]), (3, [1, 2]), (5, [1, 2, 4]), (9, [1, 2, 4])]
)
def test_cdc_agrees_with_a_loop_over_scipy(count, steps):
  clip = _clip_histograms(count)
  channels = []
  for c in range(3):
    means = [
      np.mean(
        [
          distance.jensenshannon(clip[i, c], clip[i + step, c]) ** 2
          for i in range(count - step)
        ]
      )
      for step in steps
    ]
    channels.append(np.mean(means))
  np.testing.assert_allclose(metrics.cdc(clip), np.mean(channels), 1e-9)


def test_cdc_of_constant_and_flickering_clips_and_one_frame():
  still = np.repeat(_clip_histograms(1), 6, 0)
  assert metrics.cdc(still) == 0
  black, white = np.full((2, 4, 4, 3), [[[[0]]], [[[255]]]], np.uint8)
  flicker = np.array([metrics.histograms(x) for x in [black, white] * 3])
  # Log 2 for frames 1 apart; those 2 and 4 apart are equal.
  np.testing.assert_allclose(metrics.cdc(flicker), np.log(2) / 3, 1e-12)
  with pytest.raises(ValueError, match='2 frames'):
    metrics.cdc(still[:1])


def test_warp_error_follows_the_flow():
  before = _random(0)
  rgb = np.roll(before, (1, 2), (0, 1))  # Down by 1, to the right by 2.
  forward = np.full((12, 16, 2), [2, 1], np.float32)
  visible = flow.stays_inside(forward)[..., None].astype(np.uint8)
  assert metrics.warp_error(before, rgb, forward, visible) == 0
  assert metrics.warp_error(before, rgb, -forward, visible) > 0.01
  assert metrics.warp_error(before, rgb, forward, visible | 1) > 0.001


def test_warp_error_agrees_with_the_warp_on_device():
  before, rgb = _random(0), _random(1)
  rng = np.random.default_rng(2)
  # Fractions that OpenCV 4 does not round.
  forward = rng.integers(-96, 97, (12, 16, 2)).astype(np.float32) / 32
  visible = rng.integers(0, 2, (12, 16, 1), np.uint8)
  warped = flow.warp(np.float32(rgb)[None] / 255, forward[None])[0]
  squares = np.square(warped - before / 255)[visible[..., 0] == 1]
  np.testing.assert_allclose(
    metrics.warp_error(before, rgb, forward, visible), squares.mean(), 1e-5
  )


def test_warp_error_where_nothing_is_visible():
  rgb = _random(0)
  forward = np.zeros((12, 16, 2), np.float32)
  visible = np.zeros((12, 16, 1), np.uint8)
  assert metrics.warp_error(rgb, rgb, forward, visible) is None


@pytest.mark.parametrize(
  'metric',
  [metrics.psnr, metrics.psnr_wrapped, metrics.ssim, metrics.ciede2000],
)
def test_floats_and_other_sizes_are_refused(metric):
  rgb = _random(0)
  with pytest.raises(TypeError, match='float64'):
    metric(rgb / 255, rgb)
  with pytest.raises(ValueError, match='sizes'):
    metric(rgb, rgb[:-1])


@pytest.mark.parametrize(
  'metric', [metrics.colorfulness, metrics.mean_chroma, metrics.histograms]
)
def test_floats_of_one_picture_are_refused(metric):
  with pytest.raises(TypeError, match='float64'):
    metric(_random(0) / 255)
