"""metrics against numbers by hand, scikit-image and the traps known."""

import numpy as np
import pytest
from skimage import metrics as skmetrics

from vitexco_jax import metrics


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
  # 200 away both ways. As uint8, 10 - 210 wraps to 56, and squares wrap too.
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
  assert metrics.psnr(rgb, rgb) == np.inf
  assert metrics.ssim(rgb, rgb) == 1


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


@pytest.mark.parametrize('metric', [metrics.psnr, metrics.ssim])
def test_floats_and_other_sizes_are_refused(metric):
  rgb = _random(0)
  with pytest.raises(TypeError, match='float64'):
    metric(rgb / 255, rgb)
  with pytest.raises(ValueError, match='sizes'):
    metric(rgb, rgb[:-1])
