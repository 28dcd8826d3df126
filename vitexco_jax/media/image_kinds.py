"""Kinds of image files, recognized by their content.

OpenCV decodes most pictures. Pillow tells what else is in their files, and
FFmpeg decodes the frames of film scanners. What none of them reads is named.
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

_RAW = ('.arw', '.cr2', '.cr3', '.dng', '.nef', '.orf', '.raf', '.rw2')
SUFFIXES = (
  *('.png', '.apng', '.jpg', '.jpeg', '.jpe', '.jfif', '.tif', '.tiff'),
  *('.webp', '.avif', '.gif', '.bmp', '.jp2', '.dpx', '.exr'),
  *('.pbm', '.pgm', '.ppm', '.pnm', '.pam'),
  # These cannot be read. They are listed so that an error names them.
  *('.heic', '.heif', '.jxl', '.psd', *_RAW),
)

# What it has to say of a broken picture, `video` says.
logging.getLogger('PIL').setLevel(logging.CRITICAL)

# Pillow could open more, some of it by starting other programs.
_PILLOW = (
  *('AVIF', 'BMP', 'DIB', 'GIF', 'JPEG', 'JPEG2000'),
  *('PNG', 'PPM', 'TIFF', 'WEBP'),
)
_DEMUXERS = {  # FFmpeg's, by the first bytes.
  b'SDPX': 'dpx_pipe',
  b'XPDS': 'dpx_pipe',
  b'\x76\x2f\x31\x01': 'exr_pipe',
}
# What libraries raise if a file is damaged.
BROKEN = (
  *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError),
  *(ArithmeticError, RuntimeError, struct.error),
  *(Image.DecompressionBombError, av.FFmpegError, cv2.error),
)
_SIGNATURES = {
  b'\xff\x0a': 'a JPEG XL picture',
  b'\0\0\0\x0cJXL ': 'a JPEG XL picture',
  b'8BPS': 'a Photoshop file',
}


def refuse_unreadable(data: bytes, path: str | os.PathLike) -> None:
  """Raises UserError for a picture of a kind that is known but not read."""
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
  """Whether a file, whatever its name, is of an image format with animations.

  FFmpeg would read the first frame of some of them, and none of others.
  """
  with open(path, 'rb') as file:
    head = file.read(12)
  return (
    head.startswith((b'\x89PNG', b'GIF8', b'II*\0', b'MM\0*'))
    or head[8:] == b'WEBP'
    or head[4:] in (b'ftypavif', b'ftypavis')
  )


def _is_unknown_lab(data: bytes) -> bool:
  """Whether a TIFF file has Lab values that OpenCV would take for RGB."""
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
  """Keeps back what Pillow prints of large images and damaged ones."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    yield


@quiet()
def open_header(data: bytes, path: str | os.PathLike) -> Image.Image | None:
  """Opens an image by Pillow, without decoding it; None: Pillow cannot.

  Raises:
    UserError: it is larger than Pillow allows; `path` is its name there.
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

  Where it is fully transparent its color is not seen, and replaced by gray.
  Elsewhere alpha is dropped and not composited.

  Args:
    data: the file's bytes.
    image: the same, as `open_header` gives it.
    bounds: FFmpeg's options that keep its decoders within bounds.

  Returns:
    [h, w, 3] RGB, upright, in the type and color space of the file; None if it
    is no image or damaged. That may also raise one of `BROKEN`.
  """
  if data[:4] in _DEMUXERS:
    return _decode_scan(data, bounds)
  if image is not None and image.mode in ('CMYK', 'LAB'):
    image.load()  # `color_profiles` will convert it; here it fails if damaged.
  if image is not None and image.format == 'AVIF':  # OpenCV does not turn it.
    rgb = np.array(ImageOps.exif_transpose(image).convert('RGB'))
  else:
    # Not cv2.imread, which takes only some paths on some systems.
    bgr = cv2.imdecode(
      np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    )
    if bgr is None:
      return None
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
  # Modes that begin otherwise have no color.
  colored = image is not None and image.mode.startswith(('P', 'R'))
  if colored and image.has_transparency_data:
    rgba = ImageOps.exif_transpose(image).convert('RGBA')
    hidden = np.asarray(rgba)[..., 3] == 0
    rgb[hidden] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[hidden, None]
  return rgb


def _decode_scan(data: bytes, bounds: dict[str, str]) -> np.ndarray:
  """Decodes DPX, as it is stored, or OpenEXR, whose linear light becomes sRGB."""
  demuxer = _DEMUXERS[data[:4]]
  with av.open(io.BytesIO(data), format=demuxer, options=bounds) as container:
    codec = container.streams.video[0].codec_context
    codec.options = dict(bounds)
    if demuxer == 'exr_pipe':
      codec.options |= {'apply_trc': 'iec61966_2_1'}
    picture = next(container.decode(video=0))
    shallow = picture.format.components[0].bits == 8
    return picture.to_ndarray(format='rgb24' if shallow else 'rgb48le')


def with_bits(
  pixels: np.ndarray, deep: bool, path: str | os.PathLike
) -> np.ndarray:
  """Returns an image, uint8 or uint16, as uint8 (deep: uint16).

  Raises:
    UserError: it is of another type.
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
