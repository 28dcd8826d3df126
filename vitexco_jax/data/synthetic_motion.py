"""Training pairs from still pictures, by smooth warps with known flow.

As in DEVC, which also trains on single images. The later frame is a crop of the
picture, and the earlier frame samples the picture at x + flow(x):

  earlier(x) = later(x + flow(x))

This is the convention of the whole program (see `flow`), so no flow is estimated or
inverted. The picture extends beyond the frame as far as the flow reaches, so
content that moves into or out of view is real.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from vitexco_jax import flow

# The warp of DEVC at 216x384: noise U(-1, 1) times 1000 alpha, smoothed by a
# Gaussian with a sigma of 50 pixels.
_DEVC_PIXELS = 216 * 384
_SIGMA = 50.0
_STRENGTH = 1000.0
_LARGEST_ALPHA = 4.0


class Pair(NamedTuple):
  """Two frames and the motion between them."""

  rgb: np.ndarray  # [2, h, w, 3] uint8
  flow: np.ndarray  # [h, w, 2] float32 (dx, dy) pixels, from first to second.
  visible: np.ndarray  # [h, w, 1] uint8, 1 = flow is valid.


def make_pair(
  rgb: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> Pair:
  """Creates two frames from a picture, with the flow between them.

  Args:
    rgb: [height, width, 3] uint8, of any size; it is scaled so that the frame
      and its margin just fit.
    size: (h, w) of the frames.
    rng: draws the warp and the position.

  Returns:
    The pair. Its flow is exact to 1/32 pixel (OpenCV's sampling). `visible` is 0
    where the flow leaves the frame; a smooth warp has no occlusions.
  """
  if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
    raise TypeError(f'expected uint8 [h, w, 3], got {rgb.dtype} {rgb.shape}')
  h, w = size
  motion = draw_flow(size, rng, rng.uniform(0, _LARGEST_ALPHA))
  margin = math.ceil(np.abs(motion).max()) + 4  # The reach of Lanczos.
  picture = _cover(rgb, (h + 2 * margin, w + 2 * margin))
  top = margin + rng.integers(picture.shape[0] - h - 2 * margin + 1)
  left = margin + rng.integers(picture.shape[1] - w - 2 * margin + 1)
  y, x = np.mgrid[top : top + h, left : left + w].astype(np.float32)
  earlier = cv2.remap(
    picture, x + motion[..., 0], y + motion[..., 1], cv2.INTER_LANCZOS4
  )
  later = picture[top : top + h, left : left + w]
  visible = flow.stays_inside(motion)[..., None].astype(np.uint8)
  return Pair(np.stack([earlier, later]), motion, visible)


def warp_smoothly(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Warps a picture, [h, w, 3] uint8, by a random smooth flow.

  Pixels from outside the picture are mirrored.
  """
  h, w = rgb.shape[:2]
  motion = draw_flow((h, w), rng, rng.uniform(0, _LARGEST_ALPHA))
  y, x = np.mgrid[:h, :w].astype(np.float32)
  return cv2.remap(
    rgb,
    x + motion[..., 0],
    y + motion[..., 1],
    cv2.INTER_CUBIC,
    borderMode=cv2.BORDER_REFLECT_101,
  )


def draw_flow(
  size: tuple[int, int], rng: np.random.Generator, alpha: float
) -> np.ndarray:
  """Draws the flow of a smooth warp without folds.

  DEVC's values are for 216x384 and scale with the square root of the number of
  pixels, so that a warp looks the same at any size. At that size the mean of |dx|
  and |dy| is 2.6 pixels per unit of alpha everywhere: unlike in DEVC, the noise
  extends beyond the border of the picture.

  Args:
    size: (h, w) of the flow.
    rng: source of randomness.
    alpha: strength; a warp with folds is halved until it has none.

  Returns:
    [h, w, 2] float32, (dx, dy) in pixels.
  """
  scale = math.sqrt(size[0] * size[1] / _DEVC_PIXELS)
  sigma = _SIGMA * scale
  # Noise at every sigma / 4 pixels gives the same result as at every pixel.
  down, across = (_gaussians(side, sigma, sigma / 4) for side in size)
  noise = rng.uniform(-1, 1, (2, down.shape[1], across.shape[1]))
  # Smoothing divides its standard deviation by 2 sqrt(pi) sigma.
  strength = _STRENGTH * alpha / (2 * math.sqrt(math.pi) * _SIGMA) * scale
  motion = strength * np.moveaxis(down @ noise @ across.T, 0, -1)
  while _folds(motion):
    motion = motion / 2
  return motion.astype(np.float32)


def _gaussians(side: int, sigma: float, spacing: float) -> np.ndarray:
  """Weights [side, n] of n noise points for each pixel, of unit length."""
  points = np.arange(-4 * sigma, side + 4 * sigma, spacing)
  distance = np.arange(side)[:, None] - points
  weights = np.exp(-0.5 * np.square(distance / sigma))
  return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def _folds(motion: np.ndarray) -> bool:
  """Whether x -> x + motion(x) has a fold."""
  down, across = np.gradient(motion, axis=(0, 1))
  determinant = (1 + across[..., 0]) * (1 + down[..., 1])
  determinant -= across[..., 1] * down[..., 0]
  return determinant.min() <= 0


def _cover(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Scales a picture to the smallest size that covers `size`."""
  height, width = rgb.shape[:2]
  scale = max(size[0] / height, size[1] / width)
  return cv2.resize(
    rgb,
    (max(round(width * scale), size[1]), max(round(height * scale), size[0])),
    interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
  )
