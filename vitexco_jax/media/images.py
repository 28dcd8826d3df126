"""Reading and writing of image files, and the order of a folder of frames."""

import contextlib
import io
import os
import re
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.media import (
  animations,
  color_profiles,
  containers,
  image_kinds,
)
from vitexco_jax.media.ffmpeg_errors import explained
from vitexco_jax.media.frames import check_rgb

IMAGE_SUFFIXES = image_kinds.SUFFIXES  # Of files that are read.
WRITTEN_SUFFIXES = tuple(  # Of files that are written.
  ['.png', '.jpg', '.jpeg', '.tif', '.tiff', '.webp', '.bmp', '.ppm']
)

_MIN_SIDE = 32  # The network halves a picture several times.
_MAX_SIDE = 16_384  # The limit of H.264.

# `read_image` reports broken pictures itself.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
  """Returns the images of a folder, frame2.png before frame10.png."""
  paths = [
    path
    for path in Path(folder).iterdir()
    if path.suffix.lower() in IMAGE_SUFFIXES
    and not path.name.startswith('.')
    and not path.is_dir()  # Broken links remain: the reader reports them.
  ]

  def natural(path: Path) -> tuple[list[str | int], str]:
    parts: list[str | int] = [*re.split('([0-9]+)', path.name.casefold())]
    parts[1::2] = map(int, parts[1::2])
    return parts, path.name  # For 1.png and 01.png, a.png and A.png.

  return sorted(paths, key=natural)


def read_image(path: str | os.PathLike[str], deep: bool = False) -> np.ndarray:
  """Reads an image file.

  Args:
    path: the file.
    deep: whether to return uint16.

  Returns:
    RGB, [h, w, 3] uint8 (deep: uint16), upright.

  Raises:
    UserError: the file is missing, broken, of an unknown kind, too small, or too
      large.
  """
  path = Path(path)
  files.check_regular(path)
  with explained('read', path):
    data = path.read_bytes()
  return decode_image(data, path, deep)


def decode_image(
  data: bytes, path: str | os.PathLike[str], deep: bool = False
) -> np.ndarray:
  """Decodes an image file.

  Args:
    data: content of the file.
    path: name of the file, for errors.
    deep: whether to return uint16.

  Returns:
    As of `read_image`.

  Raises:
    UserError: as of `read_image`.
  """
  if not data:
    raise UserError(f'{path} is empty: 0 bytes')
  image_kinds.refuse_unreadable(data, path)
  image = image_kinds.open_header(data, path)
  if image is not None:
    check_size(path, image.height, image.width)
    count = len(animations.frame_numbers(image))
    if count > 1:
      raise UserError(
        f'{path} holds {count} frames, not one picture: save the one that you '
        'want as PNG (as `video_path`, all of them are read)'
      )
  rgb = None
  if not _is_broken_png(data):
    with contextlib.suppress(*image_kinds.BROKEN):
      rgb = image_kinds.decode(data, image, containers.decoding_options())
  if rgb is None:
    raise UserError(f'{path} is not an image, or is damaged or cut short')
  check_size(path, *rgb.shape[:2])
  if image is not None and rgb.dtype in (np.uint8, np.uint16):
    rgb = color_profiles.to_srgb(rgb, image, data, path)
  return image_kinds.with_bits(rgb, deep, path)


def write_image(path: str | os.PathLike[str], rgb: np.ndarray) -> None:
  """Writes an image atomically; replaces an existing file.

  Args:
    path: the file; its suffix determines the kind.
    rgb: [h, w, 3] uint8; uint16 for PNG and TIFF.

  Raises:
    UserError: the path cannot be written, or its suffix is unknown.
  """
  path = Path(path)
  if path.suffix.lower() not in WRITTEN_SUFFIXES:
    raise UserError(
      f'{path} cannot be written: end its name in one of '
      f'{" ".join(WRITTEN_SUFFIXES)}'
    )
  check_rgb(rgb)
  data = encode_image(path.suffix, rgb)
  with explained('write', path):
    files.write(path, data)


def encode_image(suffix: str, rgb: np.ndarray) -> bytes:
  """Returns the content of an image file of [h, w, 3] RGB."""
  bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
  return cv2.imencode(suffix.lower(), bgr)[1].tobytes()


def check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
  """Raises UserError if a picture is too small or too large."""
  if min(height, width) < _MIN_SIDE:
    raise UserError(
      f'{path} is {width}x{height} pixels: '
      f'too small, at least {_MIN_SIDE} are needed on each side'
    )
  limit = containers.bounds().pixels
  if max(height, width) > _MAX_SIDE or height * width > limit:
    raise UserError(
      f'{path} is {width}x{height} pixels: too large, at most '
      f'{_MAX_SIDE} per side and {limit // 10**6} million in total are allowed'
    )


def header_size(path: Path) -> tuple[int, int] | None:
  """Returns (height, width) without decoding; None if that fails."""
  try:
    with image_kinds.quiet(), Image.open(path) as image:
      return image.height, image.width
  except image_kinds.BROKEN:
    return None  # Decoding reports the error.


def _is_broken_png(data: bytes) -> bool:
  """Whether an image is a PNG with wrong checksums."""
  if not data.startswith(b'\x89PNG'):
    return False
  with image_kinds.quiet():
    try:
      Image.open(io.BytesIO(data)).verify()
    except image_kinds.BROKEN:
      return True
  return False
