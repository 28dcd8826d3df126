"""Conversion between FFmpeg's pictures and RGB arrays.

Video is stored as YCbCr. It is read with the matrix and range of the file's tags.
Without a matrix tag, BT.709 is used for high definition (width from 1280 or height
from 577) and BT.601 below, as players do. Without a range tag, FFmpeg's default is
used: limited for YCbCr, full for gray. Subsampled chroma is centered between its
pixels. HDR and wide-gamut colors are converted to BT.709. Other transfer functions
and primaries are not converted; the output gets the same tags.
"""

import os
from typing import TypedDict

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.reformatter import (
  ColorRange,
  Colorspace,
  Interpolation,
  VideoReformatter,
)

from vitexco_jax.errors import UserError
from vitexco_jax.media import interlacing, tone_mapping
from vitexco_jax.media.frames import Format

# FFmpeg's fast conversion darkens by about one level and repeats chroma samples;
# this one is unbiased, and takes 3 ms per frame of 720p.
_SCALING = (
  Interpolation.BILINEAR
  | Interpolation.ACCURATE_RND
  | Interpolation.FULL_CHR_H_INT
  | Interpolation.FULL_CHR_H_INP
)
# In 16 bits, FFmpeg's bilinear scaling loses green for 4:2:0.
_DEEP_SCALING = _SCALING & ~Interpolation.BILINEAR | Interpolation.BICUBIC
_SCALING_FLAGS = 'bilinear+accurate_rnd+full_chroma_int+full_chroma_inp'
_WHITE = 255 << 8  # FFmpeg's white in 16 bits, for YCbCr of limited range.
_UNKNOWN_TAGS = (0, 2, 3)  # Reserved, unspecified, reserved.
_ICTCP = (14, 15)  # Matrices: ICtCp, and the variant of Dolby Vision.

_MATRICES = {  # By tag; 5 and 6 are the same.
  1: Colorspace.ITU709,
  5: Colorspace.ITU601,
  6: Colorspace.ITU601,
  9: Colorspace.BT2020,
}
_MATRIX_NAMES = {1: 'bt709', 5: 'bt601', 6: 'bt601', 9: 'bt2020'}


class Tags(TypedDict, total=False):
  """Fields of `Format` that describe colors."""

  primaries: int
  transfer: int
  matrix: int


class ToRgb:
  """Converts the pictures of a video to upright RGB of the first one's size.

  Attributes:
    height: of the converted frames.
    width: of the converted frames.
    is_turned: whether the video is stored with height and width exchanged.
    is_upright: whether the stored pictures need no rotation or flip.
    tags: color tags of the converted frames that differ from the default.
  """

  def __init__(
    self, first: av.VideoFrame, path: str | os.PathLike[str], deep: bool
  ):
    """Prepares for the rotation and the colors of a video.

    Args:
      first: the first picture.
      path: the file, for errors.
      deep: whether to convert to uint16.

    Raises:
      UserError: the colors are not supported.
    """
    if first.colorspace in _ICTCP:
      raise UserError(
        f'{path} is HDR video whose colors are ICtCp, as in Dolby Vision, '
        'which cannot be read: convert it to HDR10 or SDR first'
      )
    self.is_turned, self._flips = _orientation(first)
    self.is_upright = not self.is_turned and self._flips is None
    self._size = first.width, first.height
    self.width, self.height = self._size[::-1] if self.is_turned else self._size
    self._deep = deep
    self._pixels = 'rgb48le' if deep else 'rgb24'
    self._reformatter = VideoReformatter()
    self._tone_mapper = None
    self.tags = Tags()
    if tone_mapping.is_needed(first):
      self._tone_mapper = tone_mapping.ToneMapper(*self._size, self._pixels)
      return
    if first.color_primaries not in _UNKNOWN_TAGS:
      self.tags['primaries'] = first.color_primaries
    if first.color_trc not in _UNKNOWN_TAGS:
      self.tags['transfer'] = first.color_trc
    if int(first.colorspace) in _MATRICES:
      self.tags['matrix'] = int(first.colorspace)

  def convert(self, picture: av.VideoFrame) -> np.ndarray:
    """Returns a picture as [height, width, 3] uint8 (deep: uint16)."""
    rgb: np.ndarray
    if self._tone_mapper is None:
      rgb = self._scale(picture)
    else:
      rgb = self._tone_mapper.convert(picture).to_ndarray()
    if self.is_turned:
      rgb = cv2.transpose(rgb)
    if self._flips is not None:
      rgb = cv2.flip(rgb, self._flips)
    return np.ascontiguousarray(rgb)

  def _scale(self, picture: av.VideoFrame) -> np.ndarray:
    """Returns RGB of the first picture's size, not rotated yet.

    A stream may change its size; players scale it, too.
    """
    if picture.colorspace in _UNKNOWN_TAGS and not picture.format.is_rgb:
      large = picture.width >= 1280 or picture.height > 576
      picture.colorspace = Colorspace.ITU709 if large else Colorspace.ITU601
    scaling = _DEEP_SCALING if self._deep else _SCALING
    rgb: np.ndarray = self._reformatter.reformat(
      picture, *self._size, self._pixels, interpolation=scaling
    ).to_ndarray()
    if self._deep:
      rgb = cv2.addWeighted(rgb, 65535 / _white(picture), rgb, 0, 0)
    return rgb


class FromRgb:
  """Converts RGB frames to the pictures that an encoder takes."""

  def __init__(
    self, form: Format, stream: av.video.stream.VideoStream, pixels: str
  ):
    """Sets the color tags of the stream.

    Args:
      form: of the frames.
      stream: an output stream, before its encoder is opened.
      pixels: its pixel format.
    """
    self._form = form
    self._is_rgb = stream.format.is_rgb
    self._pixels = pixels
    self._reformatter = VideoReformatter()
    self._woven = None
    if form.field_order:
      matrix = None if self._is_rgb else _MATRIX_NAMES[form.matrix]
      self._woven = interlacing.woven(
        form.field_order, self._pixels, matrix, _SCALING_FLAGS
      )
    if not self._is_rgb:
      stream.colorspace = form.matrix
      stream.color_range = ColorRange.MPEG
    stream.color_primaries = form.primaries
    stream.color_trc = form.transfer

  def convert(self, rgb: np.ndarray) -> av.VideoFrame:
    """Returns the picture of [h, w, 3] uint8 or uint16."""
    deep = rgb.dtype == np.uint16
    pixels: np.ndarray = np.ascontiguousarray(rgb)
    if deep and not self._is_rgb:
      scaled = cv2.addWeighted(pixels, _WHITE / 65535, pixels, 0, 0)
      pixels = np.asarray(scaled)
    picture = av.VideoFrame.from_ndarray(pixels, 'rgb48le' if deep else 'rgb24')
    if self._woven is not None:
      (picture,) = self._woven.push(picture)
      if not picture.format.is_rgb:
        picture.colorspace = self._form.matrix
    else:
      picture = self._reformatter.reformat(
        picture,
        format=self._pixels,
        interpolation=_SCALING,
        dst_colorspace=None if self._is_rgb else _MATRICES[self._form.matrix],
        dst_color_range=None if self._is_rgb else ColorRange.MPEG,
      )
    # ProRes writes the tags of the frame.
    picture.color_primaries = self._form.primaries
    picture.color_trc = self._form.transfer
    return picture


def _white(picture: av.VideoFrame) -> int:
  """Returns FFmpeg's value of white in 16 bits, which was measured."""
  bits = picture.format.components[0].bits
  gray = picture.format.name.startswith('gray')
  full = picture.color_range == ColorRange.JPEG or (
    gray and picture.color_range != ColorRange.MPEG
  )
  if picture.format.is_rgb and bits > 8:
    return 65535
  return (2**bits - 1) << (16 - bits) if full else _WHITE


def _orientation(picture: av.VideoFrame) -> tuple[bool, int | None]:
  """Returns how to turn a decoded picture upright.

  Its display matrix (a, b, u, c, d, v, x, y, w) shows pixel (x, y) at
  (a x + c y, b x + d y).

  Returns:
    Whether to transpose it, and the code of the following cv2.flip or None.
  """
  try:
    matrix = picture.side_data.get('DISPLAYMATRIX')
  except ValueError:  # PyAV does not support the Exif data of photographs.
    matrix = None
  if not isinstance(matrix, SideData):
    return False, None
  a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
  transposed = abs(b) + abs(c) > abs(a) + abs(d)
  flip_x, flip_y = (c < 0, b < 0) if transposed else (a < 0, d < 0)
  if flip_x and flip_y:
    return transposed, -1
  return transposed, 1 if flip_x else 0 if flip_y else None
