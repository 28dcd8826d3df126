"""Detection of black or white borders: letterbox, pillarbox, windowbox.

A border has one level, close to black or white, along the whole side and during
the whole shot, and it ends in a straight edge. A night sky is not a border: it
does not end in a straight edge. A black frame shows no border; it gets the borders
of the other shots of the film.

`Finder` collects evidence from a stream of frames, `agreed` compares the shots of
a film, and `of_picture` handles a single picture.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_CELLS = 48  # Cells along a border. Each is a mean, which reduces scan noise.
_MAX_FRAMES = 64  # Maximum number of frames used per shot.
_OUTLIERS = 20  # One of this many frames may differ: dust on a mask.
_BLACK, _WHITE = 40, 215  # A border is below or above these levels, of 255.
# Allowed difference between the cells of a border: of clean ones, and at most.
_CLEAN, _NOISE = 3, 8
_STEP = 10  # Minimum difference in level between border and picture.
_FOREIGN = 0.12  # Share of a border's cells that may differ, such as a logo.
_STRAIGHT = 0.6  # Share of the cells along an edge that start within ...
_EDGE = 0.02  # ... this share of the side (scaling and coding blur it) ...
_MIN_EDGE = 6  # ... or this many pixels.
_FILLED = 0.6  # Minimum share of picture within borders; text has less.
_MIN_LENGTH = 0.5  # Minimum share of a side along which there is a picture.
_MIN_BORDER = 2  # Pixels.
_MAX_BORDER = 0.35  # Share of the side, at one end.
_THIN = 0.03  # Share of the side: such a border may be at one end only.
MIN_PICTURE = 32  # Minimum side of the picture within borders, in pixels.


class Borders(NamedTuple):
  """Widths of the borders, in pixels."""

  top: int = 0
  bottom: int = 0
  left: int = 0
  right: int = 0

  def crop(self, picture: np.ndarray) -> np.ndarray:
    """Returns a view of [h, w, ...] without borders."""
    height, width = picture.shape[:2]
    return picture[
      self.top : height - self.bottom, self.left : width - self.right
    ]

  def scaled(self, scale: float) -> 'Borders':
    """Returns the borders of a scaled picture, rounded up."""
    return Borders(*(math.ceil(scale * width) for width in self))

  def size(self, height: int, width: int) -> tuple[int, int]:
    """Returns (height, width) of the picture within the borders."""
    return height - self.top - self.bottom, width - self.left - self.right


NONE = Borders()


class Evidence(NamedTuple):
  """Evidence from one shot for each field of `Borders`."""

  sharp: tuple[int, int, int, int]  # Pixels up to a straight edge; 0: no edge.
  # Pixels at the border's level, with or without an edge; black sky counts.
  plain: tuple[int, int, int, int]


class Finder:
  """Samples the frames of a shot evenly, whatever its length."""

  def __init__(self) -> None:
    self._samples: list[tuple[np.ndarray, np.ndarray]] = []
    self._step = 1
    self._count = 0

  def add(self, rgb: np.ndarray) -> None:
    """Adds the next frame, [h, w, 3] uint8; all have the same size."""
    if self._count % self._step == 0:
      self._samples.append(_cells(rgb))
      if len(self._samples) > _MAX_FRAMES:
        self._samples = self._samples[::2]
        self._step *= 2
    self._count += 1

  def evidence(self) -> Evidence:
    """Returns the evidence from the frames; needs at least one frame."""
    rows, columns = map(np.stack, zip(*self._samples, strict=True))
    pairs = [*_of_side(rows), *_of_side(columns)]
    sharp, plain = zip(*pairs, strict=True)
    return Evidence(sharp, plain)


def agreed(shots: Sequence[Evidence], size: tuple[int, int]) -> list[Borders]:
  """Returns the borders of each shot of a film.

  A shot without a visible edge gets the widest border of other shots that is
  consistent with its frames. If widths differ by a few pixels, the smallest
  counts, so that most shots have pictures of the same size.

  Args:
    shots: in any order.
    size: (height, width) of the frames.
  """
  sides = []
  for side in range(4):
    length = size[0] if side < 2 else size[1]
    near = _edge(length)
    known = sorted({shot.sharp[side] for shot in shots} - {0})

    def width(
      shot: Evidence,
      side: int = side,
      near: int = near,
      known: Sequence[int] = known,
    ) -> int:
      limit = shot.sharp[side] or shot.plain[side]
      fitting = [x for x in known if x <= limit]
      widest = fitting[-1] if fitting else 0
      return min((x for x in fitting if x >= widest - near), default=0)

    sides.append([width(shot) for shot in shots])
  return [
    _sensible(Borders(*widths), size) for widths in zip(*sides, strict=True)
  ]


def of_picture(rgb: np.ndarray) -> Borders:
  """Returns the borders of one picture, [h, w, 3] uint8."""
  finder = Finder()
  finder.add(rgb)
  return agreed([finder.evidence()], rgb.shape[:2])[0]


def without(rgb: np.ndarray) -> np.ndarray:
  """Returns a view of one picture, [h, w, 3] uint8, without its borders."""
  return of_picture(rgb).crop(rgb)


def _sensible(borders: Borders, size: tuple[int, int]) -> Borders:
  return borders if min(borders.size(*size)) >= MIN_PICTURE else NONE


def _cells(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Means of row segments, [h, cells], and column segments, [w, cells]; uint8."""
  gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
  height, width = gray.shape
  rows = cv2.resize(gray, (_CELLS, height), interpolation=cv2.INTER_AREA)
  columns = cv2.resize(gray, (width, _CELLS), interpolation=cv2.INTER_AREA)
  return rows, columns.T


def _of_side(cells: np.ndarray) -> list[tuple[int, int]]:
  """Sharp and plain width at the first and at the last of the rows.

  Args:
    cells: [frames, rows, cells] uint8.
  """
  ordered = np.sort(cells, 0).astype(np.int16)
  outliers = len(ordered) // _OUTLIERS
  low, high = ordered[outliers], ordered[-1 - outliers]
  first, last = _width(low, high), _width(low[::-1], high[::-1])
  return [_paired(first, last, len(low)), _paired(last, first, len(low))]


def _width(low: np.ndarray, high: np.ndarray) -> tuple[int, int]:
  """Sharp and plain width at the first of the rows.

  Args:
    low: minimum over time, [rows, cells].
    high: maximum over time.
  """
  outermost = np.concatenate([low[:_MIN_BORDER], high[:_MIN_BORDER]])
  level = np.median(outermost)
  if _BLACK < level < _WHITE:
    return 0, 0
  noise = np.quantile(np.abs(outermost - level), 1 - _FOREIGN)
  tolerance = min(_NOISE, noise + _CLEAN)
  is_plain = (low >= level - tolerance) & (high <= level + tolerance)
  is_plain = is_plain.mean(1) >= 1 - _FOREIGN
  plain = len(low) if is_plain.all() else int(is_plain.argmin())
  if not _MIN_BORDER <= plain <= _MAX_BORDER * len(low):
    return 0, plain
  is_picture = np.maximum(high - level, level - low) > _STEP
  # The borders of the other two sides never show a picture.
  active = is_picture.any(0)
  if active.mean() < _MIN_LENGTH:
    return 0, plain
  is_picture = is_picture[:, active]
  straight = is_picture[plain : plain + _edge(len(low))].any(0).mean()
  within = np.flatnonzero(is_picture.any(1))
  filled = is_picture[within[0] : within[-1] + 1].mean()
  sharp = straight >= _STRAIGHT and filled >= _FILLED
  return (plain if sharp else 0), plain


def _paired(
  this: tuple[int, int], opposite: tuple[int, int], length: int
) -> tuple[int, int]:
  """Corrects a border by comparing it with the opposite one.

  A wide border without a counterpart does not count: it may be a dark wall. If the
  picture is too dark to show an edge, the border is as wide as the opposite one.
  """
  sharp, plain = this
  if sharp > _THIN * length and opposite[1] < sharp / 3:
    return 0, plain
  if not sharp and opposite[0] <= plain:
    return opposite[0], plain
  return this


def _edge(length: int) -> int:
  """Number of rows within which an edge counts as sharp."""
  return max(_MIN_EDGE, round(_EDGE * length))
