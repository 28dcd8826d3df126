"""Image grids: labeled rows of small pictures for visual inspection.

A grid shows the same frames in several versions, one version per row, such as
original, gray, and colorized. Pictures are uint8.
"""

from collections.abc import Sequence

import cv2
import numpy as np

_GAP = 4  # Pixels between cells.
_LABEL_HEIGHT = 22
_BACKGROUND = 255
_INK = (32, 32, 32)


def draw(
  rows: Sequence[Sequence[np.ndarray]],
  labels: Sequence[str],
  width: int = 240,
) -> np.ndarray:
  """Draws rows of pictures, each row under its label.

  All pictures are scaled to the same width and keep their aspect ratio. Rows may
  differ in length.

  Args:
    rows: of pictures [h, w, 3], or [h, w, 1] for gray, of any sizes.
    labels: one per row, in ASCII.
    width: of one picture in the grid, in pixels.

  Returns:
    The grid, RGB [h, w, 3].
  """
  bands = []
  for pictures, label in zip(rows, labels, strict=True):
    cells = [_fit(picture, width) for picture in pictures]
    height = max(cell.shape[0] for cell in cells)
    bands += [_label(label, width), _join(cells, height)]
  total = max(band.shape[1] for band in bands)
  return np.concatenate(
    [_pad(band, band.shape[0], total) for band in bands]
    + [np.full((_GAP, total, 3), _BACKGROUND, np.uint8)]
  )


def _fit(picture: np.ndarray, width: int) -> np.ndarray:
  """Scales a picture to the width of a cell and converts it to RGB."""
  if picture.dtype != np.uint8 or picture.ndim != 3:
    raise TypeError(
      f'expected uint8 [h, w, c], got {picture.dtype} {picture.shape}'
    )
  picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
  height = max(1, round(picture.shape[0] * width / picture.shape[1]))
  shrinks = width < picture.shape[1]
  return cv2.resize(
    np.ascontiguousarray(picture),
    (width, height),
    interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
  )


def _join(cells: Sequence[np.ndarray], height: int) -> np.ndarray:
  """Concatenates cells horizontally, with gaps."""
  gap = np.full((height, _GAP, 3), _BACKGROUND, np.uint8)
  parts = [gap]
  for cell in cells:
    parts += [_pad(cell, height, cell.shape[1]), gap]
  return np.concatenate(parts, axis=1)


def _label(text: str, width: int) -> np.ndarray:
  """Draws a line of text on a band at least as wide as a cell."""
  font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
  (text_width, _), _ = cv2.getTextSize(text, font, size, 1)
  band = np.full(
    (_LABEL_HEIGHT, max(width, text_width) + 2 * _GAP, 3), _BACKGROUND, np.uint8
  )
  return cv2.putText(
    band, text, (_GAP, _LABEL_HEIGHT - 6), font, size, _INK, 1, cv2.LINE_AA
  )


def _pad(picture: np.ndarray, height: int, width: int) -> np.ndarray:
  """Pads a picture with background at the bottom and right."""
  h, w = picture.shape[:2]
  return np.pad(
    picture,
    ((0, height - h), (0, width - w), (0, 0)),
    constant_values=_BACKGROUND,
  )
