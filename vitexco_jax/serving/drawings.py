"""Untrusted pictures: decodes one, and encodes our own copy of it.

This runs in a child process, see `media.sandbox`, and so imports little.
"""

import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import image_kinds, video

_MAX_ASPECT = 4
_MAX_PICTURE = 2**26  # Pixels of a reference as it comes.
_MAX_SIDE = 2048  # What is kept of it; the networks see less.
_THUMBNAIL = 240  # Width, in pixels.
_PICTURES = ('PNG', 'JPEG', 'WEBP', 'BMP')


class Drawing(NamedTuple):
  """A reference as it is kept."""

  png: bytes
  thumbnail: bytes  # JPEG.


def redraw(path: Path) -> Drawing:
  """Reads a picture, and makes one of our own: upright, and not too large.

  Raises:
    UserError: it is of no kind that is taken, damaged, or too large.
    MemoryError: it takes too much memory.
  """
  with video.explained('read', path):
    data = path.read_bytes()
  image_kinds.refuse_unreadable(data, path)
  try:
    with image_kinds.quiet():
      size = Image.open(io.BytesIO(data), formats=_PICTURES).size
  except Image.DecompressionBombError as error:
    raise UserError(
      f'{path} has more than {_MAX_PICTURE // 10**6} million pixels: make it '
      'smaller'
    ) from error
  except image_kinds.BROKEN as error:
    raise UserError(
      f'{path} is no picture that is taken here, or is damaged: PNG, JPEG, '
      'WebP and BMP are'
    ) from error
  if not 32 <= min(size) >= max(size) / _MAX_ASPECT:
    raise UserError(
      f'{path} is {size[0]}x{size[1]} pixels: sides are to be 32 at least, and '
      f'one at most {_MAX_ASPECT} times the other'
    )
  video.bound(video.Bounds(pixels=_MAX_PICTURE))
  rgb = video.decode_image(data, path)
  rgb = shrunk(rgb, round(_MAX_SIDE * min(1, rgb.shape[1] / rgb.shape[0])))
  small = shrunk(rgb, _THUMBNAIL)
  return Drawing(
    video.encode_image('.png', rgb), video.encode_image('.jpg', small)
  )


def shrunk(rgb: np.ndarray, width: int) -> np.ndarray:
  """A picture of a width, or as it is if that is less."""
  if rgb.shape[1] <= width:
    return rgb
  height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
  return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
