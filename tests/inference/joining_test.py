"""joining: options of the colors."""

import cv2
import numpy as np

from vitexco_jax.inference import joining


def test_smoothing_aligns_colors_with_edges():
  gray = np.zeros((48, 64, 3), np.uint8)
  gray[:, :31], gray[:, 31:] = 80, 160
  ab = np.zeros((12, 16, 2), np.float32)
  ab[:, :8, 0], ab[:, 8:, 0] = 30, -30  # The edge is a pixel off, and coarse.
  coarse = cv2.resize(ab, (64, 48), interpolation=cv2.INTER_CUBIC)
  smooth = joining._smooth(gray, ab, 500.0)
  truth = np.where(np.arange(64) < 31, 30, -30)
  errors = [np.abs(x[24, :, 0] - truth).mean() for x in (coarse, smooth)]
  assert errors[1] < 0.75 * errors[0]
