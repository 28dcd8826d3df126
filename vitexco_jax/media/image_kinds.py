"""Decoding of image files by kind, recognized by their content.

OpenCV decodes most pictures, Pillow reads their metadata, and `scans` decodes the
frames of film scanners. Known kinds that none of them reads are named in errors.
"""

import contextlib
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from vitexco_jax.errors import UserError
from vitexco_jax.media import scans

_RAW = ('.arw', '.cr2', '.cr3', '.dng', '.nef', '.orf', '.raf', '.rw2')
_UNREADABLE = ('.heic', '.heif', '.jxl', '.psd', *_RAW)  # Named in errors.
_READABLE = (
  '.png .apng .jpg .jpeg .jpe .jfif .tif .tiff .webp .avif .gif .bmp .jp2 .dpx'
  ' .exr .pbm .pgm .ppm .pnm .pam'
)
SUFFIXES = (*_READABLE.split(), *_UNREADABLE)

# `video` reports broken pictures itself.
logging.getLogger('PIL').setLevel(logging.CRITICAL)

# Pillow can open more formats, some of them by starting other programs.
_PILLOW = [
  'AVIF',
  'BMP',
  'DIB',
  'GIF',
  'JPEG',
  'JPEG2000',
  'PNG',
  'PPM',
  'TIFF',
  'WEBP',
]
# Exceptions that the libraries raise if a file is damaged.
BROKEN = (
  OSError,
  EOFError,
  SyntaxError,
  ValueError,
  TypeError,
  LookupError,
  ArithmeticError,
  RuntimeError,
  struct.error,
  Image.DecompressionBombError,
  av.FFmpegError,
  cv2.error,
)
_SIGNATURES = {
  b'\xff\x0a': 'a JPEG XL picture',
  b'\0\0\0\x0cJXL ': 'a JPEG XL picture',
  b'8BPS': 'a Photoshop file',
}


def refuse_unreadable(data: bytes, path: str | os.PathLike) -> None:
  """Raises UserError for a picture of a known but unsupported kind."""
  kind = None
  if Path(path).suffix.lower() in _RAW:  # Their content looks like TIFF.
    kind = 'a camera raw file'
  for signature, name in _SIGNATURES.items():
    if data.startswith(signature):
      kind = name
  if data[4:8] == b'ftyp':
    brands = data[8 : min(128, int.from_bytes(data[:4]))]
    if b'avif' not in brands and (b'hei' in brands or b'mif1' in brands):
      kind = 'an HEIC picture'
  if data[:4] in (b'II*\0', b'MM\0*') and _is_unknown_lab(data):
    kind = 'a CIE Lab picture of more than 8 bits'
  if kind is not None:
    raise UserError(
      f'{path} is {kind}, which cannot be read: save it as JPEG or PNG'
    )


def may_be_animated(path: str | os.PathLike) -> bool:
  """Whether a file's content is an image format that can have animations.

  FFmpeg would read only the first frame of some of them, and none of others.
  """
  with open(path, 'rb') as file:
    head = file.read(12)
  return (
    head.startswith((b'\x89PNG', b'GIF8', b'II*\0', b'MM\0*'))
    or head[8:] == b'WEBP'
    or head[4:] in (b'ftypavif', b'ftypavis')
  )


def _is_unknown_lab(data: bytes) -> bool:
  """Whether a TIFF file has Lab values that OpenCV would read as RGB."""
  with quiet(), contextlib.suppress(*BROKEN):
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    lab = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in (8, 9, 10)
    return lab and set(tags.get(TiffImagePlugin.BITSPERSAMPLE, ())) != {8}
  return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Suppresses Pillow's warnings about large and damaged images."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    yield


@quiet()
def open_header(data: bytes, path: str | os.PathLike) -> Image.Image | None:
  """Opens an image with Pillow without decoding it; None if Pillow cannot.

  Raises:
    UserError: the image, called `path`, is larger than Pillow allows.
  """
  try:
    return Image.open(io.BytesIO(data), formats=_PILLOW)
  except Image.DecompressionBombError as error:
    millions = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
    raise UserError(
      f'{path} has more than {millions} million pixels, which is too large'
    ) from error
  except BROKEN:
    return None


@quiet()
def decode(
  data: bytes, image: Image.Image | None, bounds: dict[str, str]
) -> np.ndarray | None:
  """Decodes an image.

  Fully transparent pixels become gray, since their color is never shown.
  Elsewhere alpha is dropped and not composited.

  Args:
    data: content of the file.
    image: the file, from `open_header`.
    bounds: FFmpeg's options that limit its decoders.

  Returns:
    [h, w, 3] RGB, upright, in the type and color space of the file. None, or one of
    the exceptions `BROKEN`, if the file is not an image or is damaged.
  """
  if scans.is_scan(data):
    return scans.decode(data, bounds)
  if image is not None and image.mode in ('CMYK', 'LAB'):
    image.load()  # Fails here if damaged; `color_profiles` converts it later.
  if image is not None and image.format == 'AVIF':  # OpenCV does not rotate it.
    rgb = np.array(ImageOps.exif_transpose(image).convert('RGB'))
  else:
    # Not cv2.imread, which does not support all paths on all systems.
    bgr = cv2.imdecode(
      np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    )
    if bgr is None:
      return None
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
  # Other modes have no color.
  if (
    image is not None
    and image.mode.startswith(('P', 'R'))
    and image.has_transparency_data
  ):
    rgba = ImageOps.exif_transpose(image).convert('RGBA')
    hidden = np.asarray(rgba)[..., 3] == 0
    rgb[hidden] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[hidden, None]
  return rgb


def with_bits(
  pixels: np.ndarray, deep: bool, path: str | os.PathLike
) -> np.ndarray:
  """Converts a uint8 or uint16 image to uint8 (deep: uint16).

  Raises:
    UserError: the image has another type.
  """
  if pixels.dtype not in (np.uint8, np.uint16):
    raise UserError(
      f'{path} holds {pixels.dtype} values: save it with 8 or 16 bits a channel'
    )
  if pixels.dtype == np.uint16 and not deep:
    return cv2.convertScaleAbs(pixels, alpha=1 / 257)
  if pixels.dtype == np.uint8 and deep:
    return pixels * np.uint16(257)
  return pixels
