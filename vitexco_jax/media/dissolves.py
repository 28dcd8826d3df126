"""Detection of dissolves and fades in a stream of frames.

In a dissolve, each frame is a mixture of two pictures, the last one of a shot and
the first one of the next: f = (1 - alpha) a + alpha b, with alpha rising from 0 to
1. A fade to or from black or white is a dissolve in which one of them is blank. For
windows of several lengths, the detector projects the frames on the line from the
first to the last one. In a dissolve they lie near the line and move steadily along
it; at a cut they jump, and motion leaves the line. Only lightness is used.

A dissolve of frames `start` to `stop` - 1 ends the shot before it: frame `stop` is
the first one of the next shot, without a trace of the previous one.
"""

import collections
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from vitexco_jax.media import shots

_SIZE = 32, 18  # (width, height) of the pictures that are compared.
# Frames from the first to the last one of a window.
_WINDOWS = 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 48, 58, 70, 84
_AHEAD = 8  # Frames that must be known after a dissolve.
_LEAST = 3  # Frames of a dissolve.
_PURE = 1.5  # Frames after it that a window must contain.
_DIFFERENCE = 4.0  # Minimum RMS difference between both pictures, of 255.
_CORRELATION = 0.6  # Maximum between both pictures: they show other scenes.
_SURE = 0.09
_DIP = 0.6
_RESIDUAL = 0.2  # Maximum mean squared distance from the line, of its length.
# Least and largest step along the line, of that of a steady dissolve.
_STEPS = 0.0, 2.5
_BLANK = 4.0  # Maximum standard deviation of a blank picture.
_BLACK, _WHITE = 28.0, 227.0  # Its mean is below or above these levels.


class Dissolve(NamedTuple):
  """Frames `start` to `stop` - 1, in which one shot dissolves into the next."""

  start: int
  stop: int
  from_blank: bool  # Whether the picture before it is black or white.
  to_blank: bool  # Whether the picture after it is.


def mark_shots(
  frames: Iterable[np.ndarray],
) -> Iterator[tuple[np.ndarray, bool, Dissolve | None]]:
  """Marks the frames that start a new shot, by a cut or after a dissolve.

  Args:
    frames: [h, w, 3] uint8 RGB, of one video in order.

  Yields:
    Each frame, with a delay of about ten frames; whether a new shot starts with
    it; and the dissolve that ends before it, if any.
  """
  finder = _Finder()
  waiting: collections.deque[tuple[np.ndarray, bool]] = collections.deque()
  number = shot_start = 0

  def leave() -> Iterator[tuple[np.ndarray, bool, Dissolve | None]]:
    nonlocal number, shot_start
    frame, begins = waiting.popleft()
    found = finder.best
    dissolve = None
    if found is not None and found.dissolve.start < number:
      begins = number == found.dissolve.stop
    if found is not None and number == found.dissolve.stop:
      start = max(shot_start, found.dissolve.start)
      finder.forget()
      if number - start >= _LEAST:
        dissolve = found.dissolve._replace(start=start)
    if begins:
      shot_start = number
    number += 1
    yield frame, begins, dissolve

  for frame, begins in shots.mark_cuts(frames):
    finder.add(frame)
    waiting.append((frame, begins))
    if len(waiting) > _AHEAD:
      yield from leave()
  while waiting:
    finder.repeat()  # The film may end with a fade.
    yield from leave()


class _Candidate(NamedTuple):
  dissolve: Dissolve
  residual: float


class _Finder:
  """Finds the dissolve that ends next.

  Attributes:
    best: the likeliest one that ends within the last frames, or None.
  """

  def __init__(self) -> None:
    self.best: _Candidate | None = None
    self._pictures: collections.deque[np.ndarray] = collections.deque(
      maxlen=_WINDOWS[-1] + 1
    )
    self._count = 0  # Of frames so far.
    self._least_start = 0  # Where the last dissolve stopped.

  def add(self, rgb: np.ndarray) -> None:
    """Adds the next frame, [h, w, 3] uint8."""
    small = cv2.resize(rgb, _SIZE, interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    picture = gray.ravel().astype(np.float32)
    if not self._pictures:  # The film may begin with a fade.
      self._pictures.extend([picture] * _AHEAD)
    self._pictures.append(picture)
    self._look()

  def repeat(self) -> None:
    """Adds the last frame again."""
    self._pictures.append(self._pictures[-1])
    self._look()

  def forget(self) -> None:
    """Starts to look for the next dissolve."""
    assert self.best is not None
    self._least_start = self.best.dissolve.stop
    self.best = None

  def _look(self) -> None:
    self._count += 1
    pictures = np.stack(self._pictures)
    for window in _WINDOWS:
      if window >= len(pictures):
        break
      found = _project(pictures[-1 - window :])
      if found is None:
        continue
      first = self._count - 1 - window
      start, stop = (x + first for x in found.dissolve[:2])
      if start < self._least_start or stop < self._count - _AHEAD:
        continue
      if self.best is None or found.residual < self.best.residual:
        placed = found.dissolve._replace(start=start, stop=stop)
        self.best = found._replace(dissolve=placed)


def _project(pictures: np.ndarray) -> _Candidate | None:
  """Tests whether a window contains a dissolve.

  Args:
    pictures: [n, d] float32, from the picture before to the one after it.

  Returns:
    The dissolve, with numbers within the window; None: there is none.
  """
  first, last = pictures[0], pictures[-1]
  line = last - first
  length = float(line @ line)
  if length < _DIFFERENCE**2 * len(line):
    return None
  if _correlate(first, last) > _CORRELATION:
    return None
  alpha = (pictures @ line - first @ line) / length
  before = int(np.flatnonzero(alpha <= 0.1)[-1])
  after = int(np.flatnonzero(alpha >= 0.9)[0])
  if after - before < _LEAST:
    return None
  steps = np.diff(alpha[before : after + 1]) * (after - before) / 0.8
  if steps.min() < _STEPS[0] or steps.max() > _STEPS[1]:
    return None
  inner = slice(before + 1, after)
  away = pictures[inner] - first - alpha[inner, None] * line
  residual = float(np.square(away).sum(1).mean()) / length
  if residual > _SURE and (
    residual > _RESIDUAL
    or _dip(pictures[inner], alpha[inner], first, last) < _DIP
  ):
    return None
  # The ramp from 0.1 to 0.9, and its continuation to both ends.
  places = range(before, after + 1)
  low, high = np.interp((0.1, 0.9), alpha[before : after + 1], places)
  beyond = (high - low) / 8
  if low - beyond < _PURE or high + beyond > len(pictures) - 1 - _PURE:
    return None
  return _Candidate(
    Dissolve(
      round(low - beyond) + 1,
      round(high + beyond),
      _is_blank(first),
      _is_blank(last),
    ),
    residual,
  )


def _dip(
  pictures: np.ndarray, alpha: np.ndarray, first: np.ndarray, last: np.ndarray
) -> float:
  """Compares the loss of contrast with that of a mixture.

  Returns:
    1 for a mixture of both pictures, 0 if pictures have the contrast of either.
  """
  before, after = first.var(), last.var()
  both = ((first - first.mean()) * (last - last.mean())).mean()
  either = (1 - alpha) * before + alpha * after
  mixed = (1 - alpha) ** 2 * before + alpha**2 * after
  mixed += 2 * alpha * (1 - alpha) * both
  lost = (either - pictures.var(1)).sum()
  return float(lost / (either - mixed).sum())


def _correlate(first: np.ndarray, last: np.ndarray) -> float:
  """Returns the correlation of two pictures; 0 if one of them is blank."""
  first, last = first - first.mean(), last - last.mean()
  return float(first @ last / (len(first) + _norm(first) * _norm(last)))


def _norm(x: np.ndarray) -> float:
  return float(np.sqrt(x @ x))


def _is_blank(picture: np.ndarray) -> bool:
  level = float(picture.mean())
  return bool(picture.std() < _BLANK and not _BLACK < level < _WHITE)
