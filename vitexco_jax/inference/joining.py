"""Joins frames and predicted colors, as the options of a film say."""

import cv2
import jax
import numpy as np

from vitexco_jax import sizes
from vitexco_jax.inference.outputs import Options
from vitexco_jax.structs import Array

_EDGE = 4.0  # Of 255 levels, a step of lightness that counts as an edge.


def join(rgb: np.ndarray, ab: Array, options: Options) -> list[jax.Array]:
  """Joins frames and predicted colors.

  Args:
    rgb: [t, H, W, 3] uint8 or uint16.
    ab: [t, h, w, 2].
    options: have the saturation and the smoothing.

  Returns:
    t frames [H, W, 3], with the dtype of `rgb`.
  """
  ab = ab * np.float32(options.saturation)
  if options.smoothing:
    frames = zip(rgb, np.asarray(ab), strict=True)
    ab = np.stack([_smooth(*frame, options.smoothing) for frame in frames])
  return sizes.join_frames(rgb, ab)


def _smooth(rgb: np.ndarray, ab: np.ndarray, strength: float) -> np.ndarray:
  """Smooths colors [h, w, 2] within the edges of a frame, at its size."""
  height, width = rgb.shape[:2]
  ab = cv2.resize(ab, (width, height), interpolation=cv2.INTER_CUBIC)
  guide = cv2.cvtColor(shallow(rgb), cv2.COLOR_RGB2GRAY)
  return cv2.ximgproc.fastGlobalSmootherFilter(guide, ab, strength, _EDGE)


def shallow(rgb: np.ndarray) -> np.ndarray:
  """Converts a frame to uint8."""
  if rgb.dtype == np.uint16:
    return cv2.convertScaleAbs(rgb, alpha=1 / 257)
  return rgb
