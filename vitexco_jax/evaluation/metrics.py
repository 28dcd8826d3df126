"""Metrics of colorized clips. Pictures are RGB uint8, [h, w, 3], at full size.

Some metrics compare a frame with the true frame (`psnr`, `ssim`, `ciede2000`),
some need only the frame (`colorfulness`, `mean_chroma`), and some measure change
over time (`warp_error`, `cdc`, `drift`). `pretrained/lpips.py` has another one. By
default a clip's value is the mean over its frames, and a data set's value is the
mean over its clips.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import skimage
from scipy import special
from skimage import metrics as skmetrics

_CDC_STEPS = (1, 2, 4)
MAX_PSNR = 100.0  # A single black frame would make a clip's mean infinite.


def psnr(rgb: np.ndarray, true_rgb: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB over all channels, peak 255.

  At most 100, the value of equal pictures. Differences are computed in float64:
  those of uint8 wrap around, which raised some published numbers by several dB.
  """
  _check(rgb, true_rgb)
  return _decibels(np.mean((rgb.astype(np.float64) - true_rgb) ** 2))


def psnr_wrapped(rgb: np.ndarray, true_rgb: np.ndarray) -> float:
  """PSNR as computed by the evaluation script of ColorMNet (ECCV 2024), in dB.

  The script subtracts and squares uint8 arrays. Both wrap around at 256, so that
  a large error may count as a small one: gray scores about 31 dB instead of 23.
  Use it only for comparison with tables from such scripts.
  """
  _check(rgb, true_rgb)
  return _decibels(np.mean((rgb - true_rgb) ** 2))


def ssim(rgb: np.ndarray, true_rgb: np.ndarray) -> float:
  """Structural similarity, 7x7 windows, mean over the channels; 1 is equal."""
  _check(rgb, true_rgb)
  return float(
    skmetrics.structural_similarity(
      true_rgb, rgb, win_size=7, data_range=255, channel_axis=-1
    )
  )


def ciede2000(rgb: np.ndarray, true_rgb: np.ndarray) -> tuple[float, float]:
  """CIEDE2000 color differences: their mean and 90th percentile.

  A difference of 1 is barely visible. Computed in float32, which takes half the
  time of float64 and agrees with it to 1e-4.
  """
  _check(rgb, true_rgb)
  difference = skimage.color.deltaE_ciede2000(_lab(true_rgb), _lab(rgb))
  return float(difference.mean()), float(np.percentile(difference, 90))


def colorfulness(rgb: np.ndarray) -> float:
  """Colorfulness by Hasler and Suesstrunk (2003), their M on RGB.

  0 is gray; the authors call 15 slightly, 33 moderately, 45 averagely, 59
  quite, 82 highly, and 109 extremely colorful. A widely copied variant, also in
  ColorMNet, first takes absolute values of the opponent colors and gives other
  values.
  """
  _check(rgb)
  red, green, blue = np.moveaxis(rgb.astype(np.float32), -1, 0)
  opponents = red - green, (red + green) / 2 - blue
  first, second = (np.std(x, dtype=np.float64) for x in opponents)
  deviation = np.hypot(first, second)
  first, second = (np.mean(x, dtype=np.float64) for x in opponents)
  return float(deviation + 0.3 * np.hypot(first, second))


def mean_chroma(rgb: np.ndarray) -> float:
  """Mean CIE Lab chroma, sqrt(a^2 + b^2), of the pixels; 0 is gray."""
  _check(rgb)
  lab = _lab(rgb)
  return float(np.hypot(lab[..., 1], lab[..., 2]).mean())


def drift(chroma: Sequence[float], true_chroma: Sequence[float]) -> float:
  """Rate at which a clip's colors fade (negative) or grow (positive).

  Args:
    chroma: `mean_chroma` of each frame, at least two.
    true_chroma: `mean_chroma` of each true frame.

  Returns:
    The slope of the line fitted to chroma - true_chroma over the frame number,
    in units of chroma per 100 frames.
  """
  difference = np.subtract(chroma, true_chroma)
  if len(difference) < 2:
    raise ValueError('drift needs at least 2 frames')
  return float(100 * np.polyfit(np.arange(len(difference)), difference, 1)[0])


def histograms(rgb: np.ndarray) -> np.ndarray:
  """Normalized histogram of each channel of a frame: [3, 256], float64."""
  _check(rgb)
  counts = [
    np.bincount(channel.ravel(), minlength=256)
    for channel in np.moveaxis(rgb, -1, 0)
  ]
  return np.array(counts) / rgb[..., 0].size


def cdc(clip_histograms: np.ndarray) -> float:
  """Color distribution consistency (TCVC, Liu et al. 2021) of a clip.

  The mean Jensen-Shannon divergence (natural logarithm, so at most log 2) of
  the histograms of frames at distances 1, 2, and 4; the mean over the distances,
  then over the channels. 0 means no change. A value below that of the true clip
  means washed-out colors, so report both.

  Args:
    clip_histograms: [t, 3, 256], `histograms` of at least two frames, in order.
      A clip of less than five frames has fewer distances.
  """
  count = len(clip_histograms)
  if count < 2:
    raise ValueError('CDC needs at least 2 frames')
  return float(
    np.mean(
      [
        _divergence(clip_histograms[:-step], clip_histograms[step:]).mean()
        for step in _CDC_STEPS
        if step < count
      ]
    )
  )


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """Jensen-Shannon divergences over the last axis.

  SciPy computes their square root, which may be NaN for equal distributions.
  """
  middle = (p + q) / 2
  return (
    np.sum(special.rel_entr(p, middle) + special.rel_entr(q, middle), -1) / 2
  )


def warp_error(
  rgb_before: np.ndarray,
  rgb: np.ndarray,
  flow: np.ndarray,
  visible: np.ndarray,
) -> float | None:
  """Change of colors along the motion from one frame to the next.

  Frame t is warped back to frame t-1 along the flow, as `flow.warp` does on the
  device. (OpenCV 4 rounds sampling positions to 1/32 pixel.)

  Args:
    rgb_before: frame t-1.
    rgb: frame t.
    flow: [h, w, 2] float32, (dx, dy) in pixels from t-1 to t, of the *true*
      clip (DIS), so that it does not depend on the colors.
    visible: [h, w, 1] uint8 on the grid of t-1, 1 = usable, also of the true
      clip.

  Returns:
    The mean squared difference of RGB in [0, 1] over the channels and the visible
    pixels. None if no pixel is visible; means must then exclude the pair.
  """
  _check(rgb_before, rgb)
  mask = visible[..., 0] > 0
  if not mask.any():
    return None
  y, x = np.indices(mask.shape, np.float32)
  warped = cv2.remap(
    rgb.astype(np.float32),
    x + flow[..., 0],
    y + flow[..., 1],
    cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REPLICATE,
  )
  error = np.square(warped[mask] - rgb_before[mask])
  return float(np.mean(error, dtype=np.float64) / 255**2)


def _decibels(squared_error: float) -> float:
  """PSNR of a mean squared error, at most `MAX_PSNR`."""
  if not squared_error:
    return MAX_PSNR
  return min(float(10 * np.log10(255**2 / squared_error)), MAX_PSNR)


def _lab(rgb: np.ndarray) -> np.ndarray:
  """CIE Lab of a picture, [h, w, 3] float32."""
  return skimage.color.rgb2lab(skimage.util.img_as_float32(rgb))


def _check(*images: np.ndarray) -> None:
  for image in images:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
      raise TypeError(
        f'expected uint8 [h, w, 3], got {image.dtype} {image.shape}'
      )
    if image.shape != images[0].shape:
      raise ValueError(f'pictures of sizes {images[0].shape} and {image.shape}')
