"""Black or white borders of a shot: letterbox, pillarbox, windowbox.

A border is what stays at one level, close to black or white, over the whole
length of a side, in the whole shot, and ends in a straight edge. A night sky is
no border, since it ends where the scene begins, which is not straight. A black
frame has none, since nothing tells where the picture begins; but as soon as
other shots of the film show it, such a shot has theirs.

`Finder` looks at frames while they stream by, `agreed` compares the shots of a
film, and `of_picture` looks at a single picture.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_CELLS = 48  # Along a border. Each is a mean: noise of scans hardly shows.
_KEPT = 64  # Frames of a shot that are looked at, at most.
_OUTLIERS = 20  # One frame of so many may differ: a flash of dust on a mask.
_BLACK, _WHITE = 40, 215  # Levels, of 255, that a border is below or above.
# Levels by which cells of a border may differ: those of clean ones, and at most.
_CLEAN, _NOISE = 3, 8
_STEP = 10  # Levels from the border to what counts as picture.
_FOREIGN = (
  0.12  # Of the cells of a border may be something else, such as a logo.
)
_STRAIGHT = 0.6  # Of the cells along an edge; these begin within ...
_EDGE = 0.02  # ... this share of the side (scaling and coding blur it) ...
_MIN_EDGE = 6  # ... or so many pixels.
_FILLED = 0.6  # Of what is within borders is a picture. Lines of text are less.
_MIN_LENGTH = 0.5  # Of a side, along which there must be a picture.
_MIN_BORDER = 2  # Pixels.
_MAX_BORDER = 0.35  # Of the side, on one end.
_THIN = 0.03  # Of the side: a border that may be on one end alone.
MIN_PICTURE = 32  # Pixels of a side that must remain.


class Borders(NamedTuple):
  """Widths, in pixels."""

  top: int = 0
  bottom: int = 0
  left: int = 0
  right: int = 0

  def crop(self, picture: np.ndarray) -> np.ndarray:
    """The view of [h, w, ...] without borders."""
    height, width = picture.shape[:2]
    return picture[
      self.top : height - self.bottom, self.left : width - self.right
    ]

  def scaled(self, scale: float) -> 'Borders':
    """Those of a picture of another size; rather too wide than too narrow."""
    return Borders(*(math.ceil(scale * width) for width in self))

  def size(self, height: int, width: int) -> tuple[int, int]:
    """(height, width) of what is within the borders."""
    return height - self.top - self.bottom, width - self.left - self.right


NONE = Borders()


class Evidence(NamedTuple):
  """What a shot shows, for each field of `Borders`."""

  sharp: tuple[int, int, int, int]  # Pixels up to a straight edge; 0: no edge.
  # How many pixels have the border's level, edge or not: black sky counts.
  plain: tuple[int, int, int, int]


class Finder:
  """Looks at some frames of a shot, evenly spread, however long it gets."""

  def __init__(self):
    self._kept = []
    self._step = 1
    self._count = 0

  def add(self, rgb: np.ndarray) -> None:
    """Takes the next frame, [h, w, 3] uint8, all of one size."""
    if self._count % self._step == 0:
      self._kept.append(_cells(rgb))
      if len(self._kept) > _KEPT:
        self._kept = self._kept[::2]
        self._step *= 2
    self._count += 1

  def evidence(self) -> Evidence:
    """What the frames show; at least one must have been added."""
    rows, columns = map(np.stack, zip(*self._kept, strict=True))
    pairs = [*_of_side(rows), *_of_side(columns)]
    sharp, plain = zip(*pairs, strict=True)
    return Evidence(sharp, plain)


def agreed(shots: Sequence[Evidence], size: tuple[int, int]) -> list[Borders]:
  """Borders of each shot of a film.

  A shot that shows no edge takes the widest border of other shots that it does
  not contradict. Where widths differ by a few pixels, the smallest counts, so
  that most shots have pictures of one size.

  Args:
    shots: in any order.
    size: (height, width) of the frames.
  """
  sides = []
  for side in range(4):
    length = size[0] if side < 2 else size[1]
    near = _edge(length)
    known = sorted({shot.sharp[side] for shot in shots} - {0})

    def width(shot, side=side, near=near, known=known):
      limit = shot.sharp[side] or shot.plain[side]
      fitting = [x for x in known if x <= limit]
      widest = fitting[-1] if fitting else 0
      return min((x for x in fitting if x >= widest - near), default=0)

    sides.append([width(shot) for shot in shots])
  return [
    _sensible(Borders(*widths), size) for widths in zip(*sides, strict=True)
  ]


def of_picture(rgb: np.ndarray) -> Borders:
  """Borders of one picture, [h, w, 3] uint8."""
  finder = Finder()
  finder.add(rgb)
  return agreed([finder.evidence()], rgb.shape[:2])[0]


def without(rgb: np.ndarray) -> np.ndarray:
  """A view of one picture, [h, w, 3] uint8, without its borders."""
  return of_picture(rgb).crop(rgb)


def _sensible(borders: Borders, size: tuple[int, int]) -> Borders:
  return borders if min(borders.size(*size)) >= MIN_PICTURE else NONE


def _cells(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Means over pieces of rows, [h, cells], and of columns, [w, cells]; uint8."""
  gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
  height, width = gray.shape
  rows = cv2.resize(gray, (_CELLS, height), interpolation=cv2.INTER_AREA)
  columns = cv2.resize(gray, (width, _CELLS), interpolation=cv2.INTER_AREA)
  return rows, columns.T


def _of_side(cells: np.ndarray) -> list[tuple[int, int]]:
  """Sharp and plain width, at the first of the rows and at the last.

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
    low: darkest values in time, [rows, cells].
    high: brightest ones.
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
  # Where the borders of the other two sides lie there is never a picture.
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
  """Compares a border with the opposite one, and takes that into account.

  A wide border without a counterpart is none: it may be a dark wall. Where the
  picture is too dark to show an edge, the border is as wide as the opposite one.
  """
  sharp, plain = this
  if sharp > _THIN * length and opposite[1] < sharp / 3:
    return 0, plain
  if not sharp and opposite[0] <= plain:
    return opposite[0], plain
  return this


def _edge(length: int) -> int:
  """Rows within which an edge is sharp, of a side of so many pixels."""
  return max(_MIN_EDGE, round(_EDGE * length))
