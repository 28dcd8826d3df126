"""Color management of pictures: conversion to sRGB.

A picture file may define its color space by an ICC profile, by the code points of
ITU-T H.273 (PNG's cICP, AVIF's nclx), by gamma and primaries (PNG), or by Exif's
color space, which cameras set for Adobe RGB. The first of these counts; a picture
without any is sRGB.
"""

import contextlib
import functools
import io
import re
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps

from vitexco_jax.errors import UserError
from vitexco_jax.media import image_kinds

_MODES = {'RGB': 'RGB', 'GRAY': 'L', 'CMYK': 'CMYK', 'Lab': 'LAB'}
_SAME = 2  # Maximum difference between profiles of sRGB, in levels of 255.
_HDR = {16: 'PQ', 18: 'HLG'}  # Transfer functions, by H.273.
_SRGB_GAMMA = 0.45455  # The value in PNG files that are sRGB.
_ADOBE_GAMMA = 256 / 563


class _Primaries(NamedTuple):
  """Chromaticities, each as CIE x, y."""

  white: tuple[float, float]
  red: tuple[float, float]
  green: tuple[float, float]
  blue: tuple[float, float]


_D65 = (0.3127, 0.3290)
_SRGB = _Primaries(_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_ADOBE_RGB = _SRGB._replace(green=(0.21, 0.71))
_WIDE = {  # By H.273; its other primaries are close to those of sRGB.
  9: _Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
  11: _Primaries((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
  12: _Primaries(_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}


class _Profile(NamedTuple):
  mode: str  # Pillow's mode of the input.
  transform: ImageCms.ImageCmsTransform

  def convert(self, stored: np.ndarray) -> np.ndarray:
    """Converts [h, w, c] uint8 to sRGB, [h, w, 3] uint8."""
    image = Image.frombytes(self.mode, stored.shape[1::-1], stored.tobytes())
    return np.array(self.transform.apply(image))


@image_kinds.quiet()
def to_srgb(
  rgb: np.ndarray, image: Image.Image, data: bytes, path: object
) -> np.ndarray:
  """Converts a picture to sRGB and clips colors outside of it.

  Args:
    rgb: [h, w, 3] uint8 or uint16, decoded and upright, not yet converted.
    image: the same file, opened by Pillow.
    data: content of the file.
    path: name of the file for errors.

  Returns:
    Like `rgb`, except that CMYK and Lab pictures are always uint8.

  Raises:
    UserError: the picture is HDR, or its profile cannot be used.
  """
  icc = image.info.get('icc_profile')
  primaries, transfer = _h273(data, icc or b'')
  if transfer in _HDR:
    raise UserError(
      f'{path} is an HDR picture ({_HDR[transfer]}), which cannot be read: save '
      'it as a standard (SDR) picture'
    )
  try:
    if icc or image.mode == 'LAB':
      return _by_profile(rgb, image, icc or _lab())
    if primaries is not None:
      return _by_primaries(rgb, _WIDE.get(primaries, _SRGB), _SRGB_GAMMA)
    if 'gamma' in image.info and 'srgb' not in image.info:
      xy = image.info.get('chromaticity')
      named = _Primaries(xy[:2], xy[2:4], xy[4:6], xy[6:]) if xy else _SRGB
      return _by_primaries(rgb, named, image.info['gamma'])
  except (*image_kinds.BROKEN, ImageCms.PyCMSError) as error:
    raise UserError(
      f'{path} has a color profile that is damaged or does not fit it: save the '
      'picture again as sRGB'
    ) from error
  if _is_adobe_rgb(image):
    return _by_primaries(rgb, _ADOBE_RGB, _ADOBE_GAMMA)
  return rgb


def _h273(data: bytes, icc: bytes) -> tuple[int | None, int | None]:
  """Returns the H.273 primaries and transfer function of a file or profile."""
  png = data.startswith(b'\x89PNG')
  pattern = rb'cICP(.)(.)' if png else rb'colrnclx\0(.)\0(.)'
  head = data.partition(b'IDAT' if png else b'mdat')[0]
  match = re.search(rb'cicp\0{4}(.)(.)', icc, re.DOTALL)
  match = match or re.search(pattern, head, re.DOTALL)
  return (match[1][0], match[2][0]) if match else (None, None)


@functools.cache
def _lab() -> bytes:
  return ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()


@functools.lru_cache(8)
def _open_profile(icc: bytes) -> _Profile | None:
  """Prepares the conversion from a profile; None: it is sRGB."""
  source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
  mode = _MODES[source.profile.xcolor_space.strip()]
  profile = _Profile(
    mode,
    ImageCms.buildTransform(
      source,
      ImageCms.createProfile('sRGB'),
      mode,
      'RGB',
      ImageCms.Intent.RELATIVE_COLORIMETRIC,
      ImageCms.Flags.BLACKPOINTCOMPENSATION,
    ),
  )
  if mode in ('L', 'RGB'):
    steps = np.linspace(0, 255, 256 if mode == 'L' else 16).astype(np.uint8)
    grid = np.stack(np.meshgrid(*[steps] * len(mode)), -1)
    grid = grid.reshape(1, -1, len(mode))
    if np.abs(profile.convert(grid) - np.float32(grid)).max() <= _SAME:
      return None
  return profile


def _by_profile(rgb: np.ndarray, image: Image.Image, icc: bytes) -> np.ndarray:
  """Converts by an ICC profile; ValueError if its mode does not match."""
  profile = _open_profile(icc)
  if profile is None:
    return rgb
  if profile.mode in ('CMYK', 'LAB'):
    if profile.mode != image.mode:
      raise ValueError
    return profile.convert(np.asarray(ImageOps.exif_transpose(image)))
  if image.mode in ('CMYK', 'LAB'):
    raise ValueError
  stored = rgb
  if profile.mode == 'L':
    stored = rgb[..., :1]
    if (rgb != stored).any():
      raise ValueError
  if rgb.dtype == np.uint8:
    return profile.convert(stored)
  return _convert_deep(profile, stored)


def _convert_deep(profile: _Profile, stored: np.ndarray) -> np.ndarray:
  """Converts [h, w, c] uint16; Pillow's transforms support only 8 bits.

  Uses tetrahedral interpolation between the 8-bit colors around each value.
  """
  base, rest = np.divmod(stored, np.uint16(257))
  rank = (-rest.astype(np.int32)).argsort(-1).argsort(-1)
  falling = np.sort(rest, -1)[..., ::-1] / np.float32(257)
  ends = np.ones_like(falling[..., :1])
  weights = -np.diff(falling, axis=-1, prepend=ends, append=0 * ends)
  total = np.zeros((*stored.shape[:-1], 3), np.float32)
  for raised in range(stored.shape[-1] + 1):
    corner = np.minimum(base + (rank < raised), 255).astype(np.uint8)
    total += weights[..., raised, None] * profile.convert(corner)
  return (257 * total + 0.5).astype(np.uint16)


def _by_primaries(
  rgb: np.ndarray, primaries: _Primaries, gamma: float
) -> np.ndarray:
  """Converts from given primaries and an encoding gamma."""
  srgb_curve = abs(gamma - _SRGB_GAMMA) < 0.01
  if srgb_curve and np.allclose(primaries, _SRGB, atol=0.002):
    return rgb
  top = np.iinfo(rgb.dtype).max
  levels = np.arange(top + 1) / top
  if srgb_curve:
    linear = np.where(
      levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4
    )
  else:
    linear = levels ** (1 / gamma)
  matrix = np.linalg.solve(_to_xyz(_SRGB), _to_xyz(primaries))
  matrix /= matrix.sum(1, keepdims=True)  # White stays white.
  light = cv2.transform(linear.astype(np.float32)[rgb], matrix).clip(0, 1)
  encoded = np.where(
    light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
  )
  return (top * encoded + 0.5).astype(rgb.dtype)


def _to_xyz(primaries: _Primaries) -> np.ndarray:
  """The matrix from linear RGB, [3, 3]."""
  white, *others = (np.array([x, y, 1 - x - y]) / y for x, y in primaries)
  columns = np.stack(others, 1)
  # A singular matrix raises LinAlgError, which is a ValueError.
  return columns * np.linalg.solve(columns, white)


def _is_adobe_rgb(image: Image.Image) -> bool:
  """Whether Exif says so, by the DCF rule or its common extension."""
  with contextlib.suppress(*image_kinds.BROKEN):
    exif = image.getexif()
    space = exif.get_ifd(0x8769).get(0xA001)
    index = exif.get_ifd(0xA005).get(1)
    return space == 2 or (space == 65535 and index == 'R03')
  return False
