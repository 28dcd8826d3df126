"""Fits bound stills to their frames: position, lightness, and a check.

A still that comes back from an image editor is often brighter, sharper, or a few
pixels off. Its colors are propagated to places of the same lightness, so the
networks see the still with the distribution of lightness of its own frame. Its
colors (ab) stay. The lightness of the frame itself is not taken: where the two
pictures are not aligned, colors would belong to the wrong places.
"""

from typing import NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np
from skimage import color as skcolor
from skimage.exposure import match_histograms

from vitexco_jax import color

# Mean difference of L below which a still is taken as it is.
_SAME = 1.0
_SIDE = 224  # Short side in pixels at which structure is compared.
_WINDOW = 6.0  # Sigma in pixels of the window of a comparison.
_TEXTURE = 2.0  # Standard deviation of L in a window that has structure.
_SIMILAR = 0.5  # Correlation in a window with the same structure.
_GAIN = 0.02  # Mean correlation that an alignment must add.
_STEPS = 50  # Of the alignment.


class Fitted(NamedTuple):
  """A still as the networks see it."""

  rgb: np.ndarray  # [h, w, 3] uint8
  # Share of the places with structure that have the same one in the frame.
  agreement: float


def fit(still: np.ndarray, frame: np.ndarray) -> Fitted:
  """Fits a still to the frame that it shows in color.

  Args:
    still: [h, w, 3] uint8 RGB.
    frame: [H, W, 3] uint8 RGB, of the same aspect ratio; only its L is used.

  Returns:
    The still, aligned by an affine transform if that helps, with the histogram
    of the frame's L. A still that has the L of the frame is not changed.
  """
  height, width = still.shape[:2]
  if frame.shape[:2] != (height, width):
    frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
  target = _lightness(frame)
  lightness = _lightness(still)
  if np.abs(lightness - target).mean() < _SAME:
    return Fitted(still, 1.0)
  correlation, agreement = _compare(lightness, target)
  transform = _align(lightness, target)
  if transform is not None:
    moved = _warp(still, transform)
    moved_correlation, moved_agreement = _compare(_lightness(moved), target)
    if moved_correlation > correlation + _GAIN:
      still, agreement = moved, moved_agreement
  lab = np.array(color.uint8_to_lab(jnp.asarray(still)))
  lab[..., 0] = match_histograms(lab[..., 0], target)
  rgb = np.asarray(color.fade_to_rgb(jnp.asarray(lab)))
  return Fitted(np.round(255 * rgb).astype(np.uint8), agreement)


def _lightness(rgb: np.ndarray) -> np.ndarray:
  """Returns L, [h, w] float32."""
  return skcolor.rgb2lab(rgb)[..., 0].astype(np.float32)


def _small(lightness: np.ndarray) -> np.ndarray:
  scale = min(1.0, _SIDE / min(lightness.shape))
  height, width = (max(1, round(scale * side)) for side in lightness.shape)
  return cv2.resize(lightness, (width, height), interpolation=cv2.INTER_AREA)


def _compare(lightness: np.ndarray, target: np.ndarray) -> tuple[float, float]:
  """Compares the structure of two pictures where one of them has structure.

  Returns:
    The mean correlation of windows, and the share of similar windows.
  """
  a, b = _small(match_histograms(lightness, target)), _small(target)

  def mean(x: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(x, (0, 0), _WINDOW)

  mean_a, mean_b = mean(a), mean(b)
  variance_a = np.maximum(mean(a * a) - mean_a**2, 1e-3)
  variance_b = np.maximum(mean(b * b) - mean_b**2, 1e-3)
  covariance = mean(a * b) - mean_a * mean_b
  correlation = covariance / np.sqrt(variance_a * variance_b)
  structured = np.maximum(variance_a, variance_b) > _TEXTURE**2
  if not structured.any():
    return 1.0, 1.0
  correlation = correlation[structured]
  return float(correlation.mean()), float((correlation > _SIMILAR).mean())


def _align(lightness: np.ndarray, target: np.ndarray) -> np.ndarray | None:
  """Finds an affine transform from places of the frame to places of the still.

  Returns:
    [2, 3] in pixels at full size; None: there is none.
  """
  small, small_target = _small(lightness), _small(target)
  stop = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, 1e-4
  try:
    _, found = cv2.findTransformECC(
      small_target, small, np.eye(2, 3, dtype='f'), cv2.MOTION_AFFINE, stop
    )
  except cv2.error:  # It does not converge.
    return None
  transform = np.array(found)
  transform[:, 2] *= lightness.shape[1] / small.shape[1]
  return transform


def _warp(rgb: np.ndarray, transform: np.ndarray) -> np.ndarray:
  return cv2.warpAffine(
    rgb,
    transform,
    rgb.shape[1::-1],
    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REPLICATE,
  )
