"""Quality measures that reject videos and pictures unsuitable for training.

Pictures are uint8 RGB [h, w, 3]:

  chroma      variation of color that lightness does not explain, in Lab units; low
              for black-and-white and for one tone such as sepia
  motion      change of lightness from frame to frame, of 255, on small pictures
              that average out noise and compression artifacts
  blockiness  steps at the borders of 8x8 blocks over steps inside (Wang, Sheikh,
              and Bovik 2002); 1 without a visible grid
  blur        0 (sharp) to 1 (blurred) (Crete et al. 2007, from scikit-image)

The bounds of the config reject 1 of 271 real clips. Of degraded copies of 71 clips
they reject all that are black-and-white, static, or coded with x264 at crf 45 or
JPEG quality 20; 97 % with a Gaussian blur of 3 pixels; 82 % in sepia; and 44 % at
crf 38.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

_TONES = 32  # Levels of lightness, each of which may have a tint.
_GRAY_BELOW = 1.0  # Mean distance from gray, in Lab, of a gray picture.
_SMALL = 64  # Width of the pictures in which color and motion are measured.


class Measures(NamedTuple):
  """Measures of one picture."""

  chroma: float
  blockiness: float
  blur: float


def measure(decoded: np.ndarray, scaled: np.ndarray) -> Measures:
  """Measures a decoded picture and its copy at the size of the records.

  Blockiness needs the decoded picture. Blur is measured on the scaled one: few
  large pictures are sharp at the level of pixels.
  """
  return Measures(chroma(scaled), blockiness(decoded), blur(scaled))


def why_refused(
  measures: Sequence[Measures],
  frames: Sequence[np.ndarray],
  bounds: Mapping[str, float],
) -> str:
  """Returns why a shot or a picture is rejected.

  Args:
    measures: of some of its frames. For blur the sharpest frame counts, since
      others may have motion blur.
    frames: a few of its frames, in order; a single frame has no check of motion.
    bounds: `min_chroma`, `min_motion`, `max_blockiness`, and `max_blur`; 0
      disables a check.

  Returns:
    The reason, or an empty string.
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
  """Whether a picture, [h, w, 3] uint8, has almost no color."""
  small = _shrink(rgb).astype(np.float32) / 255
  ab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[..., 1:]
  return bool(np.linalg.norm(ab, axis=-1).mean() < _GRAY_BELOW)


def chroma(rgb: np.ndarray) -> float:
  """RMS distance of ab from the mean ab of pixels of the same lightness."""
  small = _shrink(rgb).astype(np.float32) / 255
  lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).reshape(-1, 3)
  tone = np.minimum(lab[:, 0] * (_TONES / 100), _TONES - 1).astype(int)
  count = np.maximum(np.bincount(tone, minlength=_TONES), 1)
  squared = 0.0
  for channel in lab[:, 1:].T:
    tint = np.bincount(tone, channel, _TONES) / count
    squared += np.mean(np.square(channel - tint[tone]))
  return float(np.sqrt(squared))


def motion(frames: Sequence[np.ndarray]) -> float:
  """Maximum over the frames of the difference from the first frame."""
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
  """Mean step across block borders over mean step inside, in both directions."""
  gray = np.float32(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
  ratios = []
  for picture in (gray, gray.T):
    steps = np.abs(np.diff(picture, axis=1)).mean(0)
    border = np.arange(1, len(steps) + 1) % 8 == 0
    inside = steps[~border].mean()
    ratios.append(steps[border].mean() / max(inside, 0.1) if inside else 1.0)
  return float(np.mean(ratios))


def blur(rgb: np.ndarray) -> float:
  """Share of sharpness that an additional blur does not remove."""
  # It imports SciPy, which few callers of this module need.
  from skimage.measure import blur_effect

  return float(blur_effect(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)))
