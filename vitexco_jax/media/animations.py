"""Image files with several frames: animated WebP, PNG, GIF, AVIF, and TIFF.

Animations store how long each frame is shown. The pages of a TIFF file have no
times; they are treated like the files of a folder. Smaller copies of a picture in
a TIFF file and the default image of an animated PNG are not frames.
"""

import os
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import color_profiles, image_kinds

_SUBFILE = 254  # The TIFF tag for the kind of a page:
_COPY = 0b101  # a smaller copy or a mask, if one of these bits is set.
_BRIEF = 10  # Milliseconds: browsers show frames of at most this duration
_DEFAULT = 100  # for this long.


@image_kinds.quiet()
def frame_numbers(image: Image.Image) -> Sequence[int]:
  """Returns Pillow's numbers of the frames that an image file claims to have.

  GIF and TIFF are chains of frames; the first broken frame is the last number.
  """
  if image.format in ('GIF', 'TIFF'):
    return _chained(image)
  if image.format not in ('AVIF', 'PNG', 'WEBP'):
    return range(1)
  first = 1 if image.info.get('default_image') else 0
  return range(first, max(getattr(image, 'n_frames', 1), first + 1))


def _chained(image: Image.Image) -> list[int]:
  numbers = []
  number = 0
  try:
    while True:
      image.seek(number)
      tags = getattr(image, 'tag_v2', {})  # Of TIFF.
      if not tags.get(_SUBFILE, 0) & _COPY:
        numbers.append(number)
      number += 1
  except EOFError:
    pass
  except image_kinds.BROKEN:
    numbers.append(number)
  image.seek(0)
  return numbers or [0]


class Animation:
  """The frames of an image file with several frames.

  Attributes:
    count: Number of frames that the file claims.
    stamps: Start times of all decodable frames and the end of the last one, in
      milliseconds; None for the pages of TIFF.
  """

  def __init__(self, data: bytes, image: Image.Image, path: str | os.PathLike):
    """Scans the frames of a file.

    Args:
      data: content of the file.
      image: the file, opened by Pillow.
      path: name of the file for errors.

    Raises:
      UserError: no frame can be decoded.
    """
    self._data, self._image, self._path = data, image, path
    self._numbers = frame_numbers(image)
    self.count = len(self._numbers)
    self.stamps = None if image.format == 'TIFF' else self._find_stamps()

  def read(self, index: int, deep: bool = False) -> np.ndarray:
    """Returns a frame, [h, w, 3] uint8 (deep: uint16) RGB.

    Raises:
      UserError: the frame is damaged.
    """
    number = self._numbers[index]
    try:
      with image_kinds.quiet():
        self._image.seek(number)
        if self._image.format == 'TIFF':
          rgb = self._read_page(number)
        else:
          rgb = np.array(self._image.convert('RGB'))
    except image_kinds.BROKEN as error:
      raise UserError(
        f'{self._path}: frame {index} is damaged or cut short'
      ) from error
    rgb = color_profiles.to_srgb(rgb, self._image, self._data, self._path)
    return image_kinds.with_bits(rgb, deep, self._path)

  def _read_page(self, number: int) -> np.ndarray:
    """Decodes a page with OpenCV, since Pillow has no 16-bit RGB."""
    read, pages = cv2.imdecodemulti(
      np.frombuffer(self._data, np.uint8),
      cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH,
      range=(number, number + 1),
    )
    if not read:
      raise ValueError
    return cv2.cvtColor(pages[0], cv2.COLOR_BGR2RGB)

  def _find_stamps(self) -> list[int]:
    stamps = [0]
    for number in self._numbers:
      try:
        with image_kinds.quiet():
          self._image.seek(number)
          self._image.load()  # Some formats set the duration only now.
      except image_kinds.BROKEN:
        break
      shown = self._image.info.get('duration', 0)
      stamps.append(stamps[-1] + round(shown if shown > _BRIEF else _DEFAULT))
    if len(stamps) == 1:
      raise UserError(
        f'{self._path}: not one frame can be decoded; it is damaged or cut short'
      )
    return stamps
