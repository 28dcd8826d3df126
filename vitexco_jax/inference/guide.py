"""Prepares the luminance that the networks see: evens flicker, reduces grain.

Colors are propagated to places of equal luminance, which old film does not have from
frame to frame. Only the guide of the networks is changed; a colorized frame keeps the
L of the film.

Exposure is compared with the previous frame by one median ratio. It counts as flicker
only if most pixels agree on it, so that motion and clean video change nothing. Slow
changes of light remain, because the correction decays.
"""

from typing import NamedTuple

import cv2
import numpy as np

_COMPARED = (54, 96)  # (height, width) at which frames are compared.
_DARK, _BRIGHT = 10.0, 95.0  # L outside of this is not compared.
_COMPARABLE = 0.05  # Least share of pixels that are compared.
_AGREES = 0.02  # Difference in log ratio of pixels that agree.
_CLEARER = 1.5  # How many more pixels must agree on the ratio than on 1.
_MOST = 0.4  # Limit of the logarithm of a correction.
_RADIUS, _SIGMA = 3, 2.0  # Of the filter of grain, in pixels.
# Its response to white noise has 6 times the noise's standard deviation.
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_MEDIAN = 0.6745  # Median magnitude of a normal variable.


class Settings(NamedTuple):
  """How a guide is prepared: the values of the same names in `config.use`."""

  flicker_memory: float  # Decay of the correction per frame; 0: none is made.
  flicker_least: float  # Smallest relative change of exposure.
  grain_filter: float  # Strength in standard deviations of the grain; 0: off.
  grain_least: float  # Smallest standard deviation of grain, in L.


def prepare(
  luminance: np.ndarray,
  previous: np.ndarray | None,
  gain: float,
  settings: Settings,
) -> tuple[np.ndarray, float]:
  """Prepares the luminance of consecutive frames.

  Args:
    luminance: [t, h, w, 1] float32, L - 50.
    previous: [h, w, 1], the previous frame as it was prepared; None: there is none.
    gain: logarithm of the correction of the previous frame; 0 before the first.
    settings: see `Settings`.

  Returns:
    [t, h, w, 1] float32, and the gain of the last frame.
  """
  before = None if previous is None else _compared(previous[..., 0] + 50)
  frames = []
  for lightness in luminance[..., 0] + 50:
    if settings.grain_filter:
      lightness = _without_grain(lightness, settings)
    if settings.flicker_memory:
      compared = _compared(lightness)
      if before is not None:
        change = _exposure(before * np.exp(-gain), compared)
        if abs(change) < settings.flicker_least:
          change = 0.0
        gain = settings.flicker_memory * gain - change
        gain = float(np.clip(gain, -_MOST, _MOST))
      lightness = np.clip(lightness * np.float32(np.exp(gain)), 0, 100)
      before = compared * np.exp(gain)
    frames.append(lightness)
  return np.stack(frames)[..., None] - np.float32(50), gain


def _compared(lightness: np.ndarray) -> np.ndarray:
  return cv2.resize(lightness, _COMPARED[::-1], interpolation=cv2.INTER_AREA)


def _exposure(before: np.ndarray, after: np.ndarray) -> float:
  """Returns the logarithm of a change of exposure; 0 if pixels disagree."""
  pair = np.stack([before, after])
  known = ((pair > _DARK) & (pair < _BRIGHT)).all(0)
  if known.mean() < _COMPARABLE:
    return 0.0
  ratios = np.log(after[known] / before[known])
  median = float(np.median(ratios))
  agreed, unchanged = (
    (np.abs(ratios - x) < _AGREES).mean() for x in (median, 0.0)
  )
  return median if agreed > _CLEARER * unchanged else 0.0


def _without_grain(lightness: np.ndarray, settings: Settings) -> np.ndarray:
  """Filters a frame if it has grain, by as much as it has."""
  response = np.abs(cv2.filter2D(lightness, -1, _LAPLACIAN))
  grain = float(np.median(response)) / (6 * _MEDIAN)
  if grain < settings.grain_least:
    return lightness
  return cv2.bilateralFilter(
    lightness, 2 * _RADIUS + 1, settings.grain_filter * grain, _SIGMA
  )
