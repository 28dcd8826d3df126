"""Clips and stills changed as users meet them: old film, new content, edited stills.

All changes are seeded and give exact ground truth: the changed clip has true colors.
"""

import hashlib
from collections.abc import Iterator

import cv2
import jax.numpy as jnp
import numpy as np

from vitexco_jax import color
from vitexco_jax.evaluation.clips import Clip

_HEIGHT = 224  # Height of a frame for which lengths below are in pixels.
_WEAVE = 1.0  # Largest displacement of the gate per axis.
_BLUR = 0.6  # Sigma.
_FLICKER = 0.08  # Largest relative change of L.
_GRAIN = 4.0  # Standard deviation in L at mid gray.
_GRAIN_SIGMA = 0.6  # As in three films, see `data.augment`.
_SCRATCHES = 2  # Columns of the clip that have one.
_SCRATCHED = 0.5  # Probability that one is visible in a frame.
_SCRATCH = 30.0  # What it adds to L.

_WINDOW = 2 / 3  # Share of each side in a window that pans.
_ZOOM = 2.2  # How much wider the view becomes.

_GAMMA, _SHARPEN, _SHARPEN_SIGMA = 0.7, 0.8, 1.5  # Of an edited still.


def edit_still(rgb: np.ndarray) -> np.ndarray:
  """Makes a picture brighter and sharper, as editors do, with the same ab.

  Args:
    rgb: [h, w, 3] uint8.
  """
  lab = np.array(color.uint8_to_lab(jnp.asarray(rgb)))
  lightness = 100 * (lab[..., 0] / 100) ** _GAMMA
  soft = cv2.GaussianBlur(lightness, (0, 0), _SHARPEN_SIGMA)
  lab[..., 0] = lightness + _SHARPEN * (lightness - soft)
  return _to_rgb(lab)


def age(clip: Clip) -> Clip:
  """Returns a clip as old film shows it, in true colors.

  It has gate weave, and in its lightness blur, scratches, flicker, and grain.
  """

  def read() -> Iterator[np.ndarray]:
    for number, rgb in enumerate(clip.read()):
      yield _age_frame(rgb, clip.name, number)

  return Clip(clip.name, read, clip.fingerprint, clip.stems)


def _age_frame(rgb: np.ndarray, name: str, number: int) -> np.ndarray:
  height, width = rgb.shape[:2]
  unit = height / _HEIGHT
  of_clip, of_frame = _random(name), _random(f'{name}, frame {number}')
  shift = of_frame.uniform(-_WEAVE, _WEAVE, 2) * unit
  rgb = cv2.warpAffine(
    rgb,
    np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
    (width, height),
    borderMode=cv2.BORDER_REFLECT,
  )
  lab = np.array(color.uint8_to_lab(jnp.asarray(rgb)))
  lightness = cv2.GaussianBlur(lab[..., 0], (0, 0), _BLUR * unit)
  thick = max(1, round(unit))
  for column in of_clip.integers(width - thick, size=_SCRATCHES):
    if of_frame.random() < _SCRATCHED:
      scratch = lightness[:, column : column + thick]
      scratch[:] = scratch + _SCRATCH
  lightness = lightness * (1 + of_frame.uniform(-_FLICKER, _FLICKER))
  white = of_frame.standard_normal((height, width)).astype(np.float32)
  grain = cv2.GaussianBlur(white, (0, 0), _GRAIN_SIGMA * unit)
  midtone = 1 - np.square(np.clip(lightness, 0, 100) / 50 - 1)
  lab[..., 0] = lightness + _GRAIN * midtone * grain / grain.std()
  return _to_rgb(lab)


def enter(clip: Clip) -> Clip:
  """Returns a window of a clip into which new content enters.

  By the clip's name, the window pans across the frame, or the view widens.
  """
  rng = _random(clip.name)
  zooms = bool(rng.random() < 0.5)
  start = rng.integers(2, size=2)  # The corner where a pan begins.

  def read() -> Iterator[np.ndarray]:
    for number, rgb in enumerate(clip.read()):
      share = number / max(1, clip.count - 1)
      yield _widen(rgb, share) if zooms else _pan(rgb, share, start)

  return Clip(clip.name, read, clip.fingerprint, clip.stems)


def _pan(rgb: np.ndarray, share: float, start: np.ndarray) -> np.ndarray:
  size = [round(_WINDOW * side) for side in rgb.shape[:2]]
  place = np.abs(start - share)  # From a corner to the opposite one.
  top, left = (
    round(p * (side - length))
    for p, side, length in zip(place, rgb.shape[:2], size, strict=True)
  )
  return rgb[top : top + size[0], left : left + size[1]].copy()


def _widen(rgb: np.ndarray, share: float) -> np.ndarray:
  part = _ZOOM ** (share - 1)
  height, width = rgb.shape[:2]
  high, wide = round(part * height), round(part * width)
  top, left = (height - high) // 2, (width - wide) // 2
  size = round(_WINDOW * width), round(_WINDOW * height)
  window = rgb[top : top + high, left : left + wide]
  return cv2.resize(window, size, interpolation=cv2.INTER_AREA)


def _random(name: str) -> np.random.Generator:
  digest = hashlib.sha256(name.encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:8]))


def _to_rgb(lab: np.ndarray) -> np.ndarray:
  lab[..., 0] = np.clip(lab[..., 0], 0, 100)
  return np.round(255 * np.asarray(color.fade_to_rgb(jnp.asarray(lab)))).astype(
    np.uint8
  )
