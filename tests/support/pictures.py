"""Pictures and checks of the engine's tests."""

import cv2
import numpy as np

SIZE = (48, 64)  # Of most frames; few sizes compile faster.


def make_picture(size=SIZE, seed=0):
  rng = np.random.default_rng(seed)
  small = rng.integers(60, 200, (4, 5, 3), np.uint8)
  return cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)


def make_frames(n, size=SIZE):
  return [make_picture(size, seed) for seed in range(1, n + 1)]


def assert_same(found, expected):
  assert len(found) == len(expected)
  error = np.abs(np.int16(found) - np.int16(expected))
  assert error.max() <= 1  # Rounding of programs for 1 and for 3 frames.
