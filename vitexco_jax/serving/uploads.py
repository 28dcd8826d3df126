"""What visitors of the page send, which is not believed.

* Files get names of ours. Theirs are text to show, and no path is made of them.
* A video must be of one of `_CONTAINERS`: a playlist would have FFmpeg open other
  files of this machine.
* Frames of more than `MAX_PIXELS` are not decoded, nor more than `MAX_FRAMES`.
* A picture is decoded once, within `_MAX_PICTURE` pixels, and what is kept is a
  picture of our own.
"""

import warnings
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from PIL import Image, ImageOps

from vitexco_jax.errors import UserError
from vitexco_jax.inference.colorize import is_grey
from vitexco_jax.media import video

MAX_PIXELS = 4096 * 2304  # Of a frame; `video.bound` has to be told.
MAX_FRAMES = 200_000  # Of a video: two hours and more.

_MAX_ASPECT = 4
_MAX_PICTURE = 2**26  # Pixels of a reference as it comes.
_KEPT_SIDE = 2048  # What is kept of it; the networks see less.
_THUMBNAIL = 240  # Width, in pixels.
_CONTAINERS = 'mov,mp4,matroska,webm,avi,mpegts,mpeg,asf,flv,mxf,ogg'
_PICTURES = ('PNG', 'JPEG', 'WEBP', 'BMP')
_NAME = 100  # Characters that are shown of a name.


class Drawing(NamedTuple):
  """A reference as it is kept."""

  png: bytes
  thumbnail: bytes  # JPEG.


def shown(name: str) -> str:
  """A file's name as text of one line."""
  name = ''.join(x for x in name if x.isprintable()).strip()
  return name[-_NAME:] or 'unnamed'


def check_video(path: Path) -> None:
  """Raises UserError unless a file is a video that may be decoded here."""
  try:
    av.open(
      f'file:{path}',
      metadata_errors='ignore',
      options={'format_whitelist': _CONTAINERS, 'protocol_whitelist': 'file'},
    ).close()
  except (av.FFmpegError, OSError) as error:
    raise UserError(
      f'{path} is no video that is taken here, or is damaged: MP4, MOV, MKV, '
      'WebM, AVI, MPEG and the like are'
    ) from error
  with video.VideoReader(path) as reader:
    form, frames = reader.format, reader.num_frames
  if max(form.height, form.width) > _MAX_ASPECT * min(form.height, form.width):
    raise UserError(
      f'{path} is {form.width}x{form.height} pixels: one side may be at most '
      f'{_MAX_ASPECT} times the other'
    )
  if (frames or 0) > MAX_FRAMES:
    raise UserError(
      f'{path} has {frames} frames, at most {MAX_FRAMES} are taken: cut it in '
      'parts'
    )


def redraw(path: Path) -> Drawing:
  """Reads a picture, and makes one of our own of it: upright, and not too large.

  Raises:
    UserError: it is of no kind that is taken, damaged, too large, or grey.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # We have our own bounds.
      rgb = _drawn(path)
  except UserError:
    raise
  except Image.DecompressionBombError as error:
    raise UserError(
      f'{path} has more than {_MAX_PICTURE // 10**6} million pixels: make it '
      'smaller'
    ) from error
  except Exception as error:  # Pillow raises what it meets.
    raise UserError(
      f'{path} is no picture that is taken here, or is damaged: PNG, JPEG, '
      'WebP and BMP are'
    ) from error
  small = shrunk(rgb, _THUMBNAIL)
  if is_grey(small):
    raise UserError(f'{path} has no colour to give')
  return Drawing(
    video.encode_image('.png', rgb), video.encode_image('.jpg', small)
  )


def _drawn(path: Path) -> np.ndarray:
  """[h, w, 3] uint8; raises whatever Pillow does, or UserError."""
  with Image.open(path, formats=_PICTURES) as image:
    if image.width * image.height > _MAX_PICTURE:
      raise Image.DecompressionBombError
    if not 32 <= min(image.size) >= max(image.size) / _MAX_ASPECT:
      raise UserError(
        f'{path} is {image.width}x{image.height} pixels: sides are to be 32 at '
        f'least, and one at most {_MAX_ASPECT} times the other'
      )
    image.draft('RGB', (_KEPT_SIDE, _KEPT_SIDE))
    image = ImageOps.exif_transpose(image).convert('RGB')
    image.thumbnail((_KEPT_SIDE, _KEPT_SIDE))
    return np.asarray(image)


def shrunk(rgb: np.ndarray, width: int) -> np.ndarray:
  """A picture of a width, or as it is if that is less."""
  if rgb.shape[1] <= width:
    return rgb
  height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
  return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
