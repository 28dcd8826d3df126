"""Still pictures as training pairs: a smooth warp whose flow is known (spec 6).

After DEVC, which trains on single images beside videos. The later frame is a
part of the picture as it is, and the earlier one samples the picture at
x + flow(x):

  earlier(x) = later(x + flow(x))

This is what flow means all over the program (see `flow`), so nothing has to be
estimated or inverted. The picture reaches beyond the frame on all sides as far
as the flow does: also what moves into view or out of it is real.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from vitexco_jax import flow

# The warp, as DEVC has it at 216x384: noise U(-1, 1) times 1000 alpha, smoothed
# by a Gaussian of sigma 50 pixels.
_DEVC_PIXELS = 216 * 384
_SIGMA = 50.0
_STRENGTH = 1000.0
_LARGEST_ALPHA = 4.0


class Pair(NamedTuple):
  """Two frames and the motion between them."""

  rgb: np.ndarray  # [2, h, w, 3] uint8
  flow: np.ndarray  # [h, w, 2] float32 (dx, dy) pixels, from first to second.
  visible: np.ndarray  # [h, w, 1] uint8, 1 where flow can be trusted.


def make_pair(
  rgb: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> Pair:
  """Makes two frames of a picture, and the flow between them.

  Args:
    rgb: [height, width, 3] uint8, of any size; it is scaled so that the frame
      and its surroundings just fit in.
    size: (h, w) of the frames.
    rng: draws warp and place; the same picture gives ever other pairs.

  Returns:
    The pair. Its flow is exact to 1/32 pixel (OpenCV's sampling), and visible is
    0 where the flow leaves the frame: a smooth warp hides nothing.
  """
  if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
    raise TypeError(f'expected uint8 [h, w, 3], got {rgb.dtype} {rgb.shape}')
  h, w = size
  motion = draw_flow(size, rng, rng.uniform(0, _LARGEST_ALPHA))
  margin = math.ceil(np.abs(motion).max()) + 4  # Lanczos sees that far.
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
  """Warps a picture, [h, w, 3] uint8, by a flow such as pairs have.

  What lies outside is mirrored in.
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
  """Draws the flow of a smooth warp that does not fold.

  DEVC's numbers hold at 216x384 and scale with the square root of the number of
  pixels, so that a warp looks the same at any size. There |dx| and |dy| are 2.6
  pixels a unit of alpha in the mean, all over the picture: unlike DEVC's, the
  noise goes on beyond its border.

  Args:
    size: (h, w) of the flow.
    rng: draws it.
    alpha: strength; a warp that would fold is halved until it does not.

  Returns:
    [h, w, 2] float32, (dx, dy) in pixels.
  """
  scale = math.sqrt(size[0] * size[1] / _DEVC_PIXELS)
  sigma = _SIGMA * scale
  # Noise on every sigma / 4 pixels smooths to the same as noise on each.
  down, across = (_gaussians(side, sigma, sigma / 4) for side in size)
  noise = rng.uniform(-1, 1, (2, down.shape[1], across.shape[1]))
  # By smoothing, its standard deviation falls by 2 sqrt(pi) sigma.
  strength = _STRENGTH * alpha / (2 * math.sqrt(math.pi) * _SIGMA) * scale
  motion = strength * np.moveaxis(down @ noise @ across.T, 0, -1)
  while _folds(motion):
    motion = motion / 2
  return motion.astype(np.float32)


def _gaussians(side: int, sigma: float, spacing: float) -> np.ndarray:
  """Weights [side, n] of n points of noise for each pixel, of unit length."""
  points = np.arange(-4 * sigma, side + 4 * sigma, spacing)
  distance = np.arange(side)[:, None] - points
  weights = np.exp(-0.5 * np.square(distance / sigma))
  return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def _folds(motion: np.ndarray) -> bool:
  """Whether x -> x + motion(x) turns any place inside out."""
  down, across = np.gradient(motion, axis=(0, 1))
  determinant = (1 + across[..., 0]) * (1 + down[..., 1])
  determinant -= across[..., 1] * down[..., 0]
  return determinant.min() <= 0


def _cover(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Scales a picture to be at least of a size, and no larger than needed."""
  height, width = rgb.shape[:2]
  scale = max(size[0] / height, size[1] / width)
  return cv2.resize(
    rgb,
    (max(round(width * scale), size[1]), max(round(height * scale), size[0])),
    interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
  )
