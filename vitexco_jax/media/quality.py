"""Which videos and pictures are not good to train on, and why.

Pictures are uint8 RGB [h, w, 3]:

  chroma      color that lightness does not explain, in units of Lab; prints in
              one tone, sepia for one, have as little as black-and-white ones
  motion      change of lightness from frame to frame, of 255; noise and what
              compression changes average out
  blockiness  steps at the borders of 8x8 blocks over those inside (Wang, Sheikh
              and Bovik 2002); 1 where no such grid shows
  blur        0 sharp to 1 blurred (Crete et al. 2007, scikit-image's)

Of 271 real clips the bounds of the config refuse one; of copies of 71 of them all
that are black-and-white, frozen, or coded by x264 at crf 45 or as JPEG of quality
20, 97 % under a Gaussian blur of 3 pixels, 82 % in sepia, 44 % at crf 38.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from skimage.measure import blur_effect

_TONES = 32  # Steps of lightness, each of which may have a tint.
_GRAY_BELOW = (
  1.0  # Mean distance from gray, in Lab, of a picture without color.
)
_SMALL = 64  # Width of the pictures that color and motion are seen in.


class Measures(NamedTuple):
  """Of one picture."""

  chroma: float
  blockiness: float
  blur: float


def measure(decoded: np.ndarray, scaled: np.ndarray) -> Measures:
  """Measures a picture as it was decoded, and scaled to the records' size.

  Blocks are seen in the first. Sharp is what is sharp in the second: few large
  pictures are so pixel by pixel.
  """
  return Measures(chroma(scaled), blockiness(decoded), blur(scaled))


def why_refused(
  measures: Sequence[Measures],
  frames: Sequence[np.ndarray],
  bounds: Mapping[str, float],
) -> str:
  """Says what is wrong with a shot or a picture.

  Args:
    measures: of some of its frames. The sharpest counts: others may be blurred
      by motion.
    frames: a few of its frames, in order; one for a still picture, which has no
      motion to be asked for.
    bounds: `min_chroma`, `min_motion`, `max_blockiness` and `max_blur`; 0 asks
      for nothing.

  Returns:
    The reason, empty if there is none.
  """
  chroma_, blockiness_, _ = np.mean(measures, 0)
  sharpest = min(each.blur for each in measures)
  if bounds['min_chroma'] and chroma_ < bounds['min_chroma']:
    return 'black-and-white'
  if bounds['max_blockiness'] and blockiness_ > bounds['max_blockiness']:
    return 'heavily compressed'
  if bounds['max_blur'] and sharpest > bounds['max_blur']:
    return 'blurred'
  if len(frames) > 1 and motion(frames) < bounds['min_motion']:
    return 'static'
  return ''


def is_gray(rgb: np.ndarray) -> bool:
  """Whether a picture, [h, w, 3] uint8, has no color to speak of."""
  small = np.float32(_shrink(rgb)) / 255
  ab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[..., 1:]
  return bool(np.linalg.norm(ab, axis=-1).mean() < _GRAY_BELOW)


def chroma(rgb: np.ndarray) -> float:
  """Root mean square distance of ab from the mean ab of the same lightness."""
  small = np.float32(_shrink(rgb)) / 255
  lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).reshape(-1, 3)
  tone = np.minimum(lab[:, 0] * (_TONES / 100), _TONES - 1).astype(int)
  count = np.maximum(np.bincount(tone, minlength=_TONES), 1)
  squared = 0.0
  for channel in lab[:, 1:].T:
    tint = np.bincount(tone, channel, _TONES) / count
    squared += np.mean(np.square(channel - tint[tone]))
  return float(np.sqrt(squared))


def motion(frames: Sequence[np.ndarray]) -> float:
  """How much the frames differ from the first one where they differ most."""
  small = (_shrink(frame) for frame in frames)
  first, *others = (
    np.float32(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in small
  )
  changes = (np.abs(frame - first) for frame in others)
  return max((float(np.percentile(x, 99)) for x in changes), default=0.0)


def _shrink(rgb: np.ndarray) -> np.ndarray:
  height = max(1, round(rgb.shape[0] * _SMALL / rgb.shape[1]))
  return cv2.resize(rgb, (_SMALL, height), interpolation=cv2.INTER_AREA)


def blockiness(rgb: np.ndarray) -> float:
  """Mean step across borders of blocks over that inside, of both directions."""
  gray = np.float32(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
  ratios = []
  for picture in (gray, gray.T):
    steps = np.abs(np.diff(picture, axis=1)).mean(0)
    border = np.arange(1, len(steps) + 1) % 8 == 0
    inside = steps[~border].mean()
    ratios.append(steps[border].mean() / max(inside, 0.1) if inside else 1.0)
  return float(np.mean(ratios))


def blur(rgb: np.ndarray) -> float:
  """Share of sharpness that a further blur does not take away."""
  return float(blur_effect(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)))
