"""Decodes untrusted pictures and frames of videos, and encodes clean copies.

This runs in a child process (see `media.sandbox`), so it imports little.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import frame_access, image_kinds, video

_MAX_ASPECT = 4
_MAX_PICTURE = 2**26  # Pixels of an uploaded reference.
_MAX_SIDE = 2048  # Of the stored copy, in pixels; the networks use less.
THUMBNAIL = 240  # Width, in pixels.
_PREVIEW = 960  # Width, in pixels.
_PICTURES = ('PNG', 'JPEG', 'WEBP', 'BMP')


class Drawing(NamedTuple):
  """A reference as it is stored."""

  png: bytes
  thumbnail: bytes  # JPEG.


def redraw(path: Path) -> Drawing:
  """Reads a picture and encodes a copy: upright, and not too large.

  Raises:
    UserError: the format is not supported, or the file is damaged or too large.
    MemoryError: the picture needs too much memory.
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
      f'{path} is damaged or not a supported picture: use PNG, JPEG, WebP, or '
      'BMP'
    ) from error
  if not 32 <= min(size) >= max(size) / _MAX_ASPECT:
    raise UserError(
      f'{path} is {size[0]}x{size[1]} pixels: each side must be at least 32, '
      f'and one side at most {_MAX_ASPECT} times the other'
    )
  video.bound(video.Bounds(pixels=_MAX_PICTURE))
  rgb = video.decode_image(data, path)
  return draw(rgb)


def draw(rgb: np.ndarray) -> Drawing:
  """Encodes a picture [h, w, 3] as a reference is stored."""
  rgb = shrunk(rgb, round(_MAX_SIDE * min(1, rgb.shape[1] / rgb.shape[0])))
  small = shrunk(rgb, THUMBNAIL)
  return Drawing(
    video.encode_image('.png', rgb), video.encode_image('.jpg', small)
  )


def shrunk(rgb: np.ndarray, width: int) -> np.ndarray:
  """Shrinks a picture to a width; a narrower picture stays as it is."""
  if rgb.shape[1] <= width:
    return rgb
  height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
  return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def preview(rgb: np.ndarray) -> bytes:
  """Encodes a frame to show, as JPEG."""
  return video.encode_image('.jpg', shrunk(rgb, _PREVIEW))


def previews(
  path: Path, number: int, times: Sequence[float], deinterlace: bool
) -> list[bytes]:
  """Reads frames of a video to show them; see `frame_access.read_frames`."""
  frames = frame_access.read_frames(path, number, times, deinterlace)
  return [preview(rgb) for rgb in frames]


def still(path: Path, number: int, time: float, deinterlace: bool) -> bytes:
  """Reads a frame of a video as PNG; see `frame_access.read_frames`."""
  (rgb,) = frame_access.read_frames(path, number, [time], deinterlace)
  return video.encode_image('.png', rgb)
