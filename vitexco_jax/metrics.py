"""How close two pictures are. Pictures are RGB uint8, [h, w, 3], full size.

A clip's value is the mean over its frames, a data set's the mean over its clips.
"""

import numpy as np
from skimage import metrics as skmetrics


def psnr(rgb: np.ndarray, true_rgb: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB over all channels, peak 255.

  Infinite for equal pictures. Differences are taken in float64: those of uint8
  wrap around, which has flattered published numbers by several dB.
  """
  _check(rgb, true_rgb)
  error = np.mean((rgb.astype(np.float64) - true_rgb) ** 2)
  return float(10 * np.log10(255**2 / error)) if error else float('inf')


def ssim(rgb: np.ndarray, true_rgb: np.ndarray) -> float:
  """Structural similarity, 7x7 windows, mean over the channels; 1 is equal."""
  _check(rgb, true_rgb)
  return float(
    skmetrics.structural_similarity(
      true_rgb, rgb, win_size=7, data_range=255, channel_axis=-1
    )
  )


def _check(rgb: np.ndarray, true_rgb: np.ndarray):
  for image in (rgb, true_rgb):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
      raise TypeError(
        f'expected uint8 [h, w, 3], got {image.dtype} {image.shape}'
      )
  if rgb.shape != true_rgb.shape:
    raise ValueError(f'pictures of sizes {rgb.shape} and {true_rgb.shape}')
