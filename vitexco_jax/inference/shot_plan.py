"""Types of a plan: a film's shots and their references."""

import datetime
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from vitexco_jax.media import borders
from vitexco_jax.media.borders import Borders

FIRST_FRAME = 'first-frame'
AUTO = 'auto'
NONE = 'none'
SKIP = 'skip'  # Instead of references: the shot stays as it is.
# Values of a reference that are not paths.
NO_PATHS = FIRST_FRAME, NONE

UNLIKE = 'unlike: find another'
# Ranks of a verdict. On 12 validation clips, a frame of the clip had 0.26 to 0.83
# (median 0.63), a mirrored part of it 0.09 to 0.71 (0.27), and pictures of other
# clips 0.00 to 0.11.
_SAME_SCENE, _SIMILAR = 0.4, 0.15


class Choice(NamedTuple):
  """A reference of a shot, or a candidate."""

  picture: str  # Path, `first-frame` or `none`.
  score: float | None = None  # Cosine similarity to the shot; None: unknown.
  frame: int | None = None  # The frame that it shows; None: not bound.
  # Results of a trial, see `trial`; None: it was not tried.
  confidence: float | None = (
    None  # Mean confidence of the matching, in [-1, 1].
  )
  coverage: float | None = None  # Share of the shot with a confident match.

  @property
  def rank(self) -> float | None:
    """Confidence times coverage; None: it was not tried."""
    if self.confidence is None or self.coverage is None:
      return None
    return self.confidence * self.coverage

  @property
  def verdict(self) -> str:
    """The result of the trial in words; empty if it was not tried."""
    if self.rank is None:
      return ''
    if self.rank >= _SAME_SCENE:
      return 'same scene'
    return 'similar' if self.rank >= _SIMILAR else UNLIKE


class Shot(NamedTuple):
  """Frames `start` to `stop` - 1 and their references."""

  start: int
  stop: int
  references: tuple[Choice, ...]  # None: the shot stays as it is.
  borders: Borders = borders.NONE  # Not colorized.
  # Number of frames at its end that dissolve into the next shot.
  dissolve: int = 0

  @property
  def dissolve_start(self) -> int:
    """The first frame of the dissolve; `stop` without one."""
    return self.stop - self.dissolve

  @property
  def alone_stop(self) -> int:
    """End of the frames that show only this shot; there is at least one."""
    return max(self.start + 1, self.dissolve_start)

  @property
  def by_prior(self) -> bool:
    """Whether the shot is colorized without a reference."""
    return [x.picture for x in self.references] == [NONE]

  @property
  def skipped(self) -> bool:
    """Whether the shot stays as it is."""
    return not self.references


class Plan(NamedTuple):
  """The shots of a film; together they contain all frames."""

  video: str  # Path.
  width: int  # Of a frame, as it is displayed.
  height: int
  frames: int
  frame_rate: Fraction
  shots: tuple[Shot, ...]

  def absolute(self) -> 'Plan':
    """Returns the plan with absolute paths of pictures."""

    def replaced(choice: Choice) -> Choice:
      if choice.picture in NO_PATHS:
        return choice
      return choice._replace(picture=str(Path(choice.picture).absolute()))

    shots = (
      shot._replace(references=tuple(map(replaced, shot.references)))
      for shot in self.shots
    )
    return self._replace(shots=tuple(shots))


def clock(seconds: float | Fraction) -> str:
  """Formats seconds as h:mm:ss.s."""
  tenths = round(10 * seconds)
  whole = datetime.timedelta(seconds=tenths // 10)
  return f'{whole}.{tenths % 10}'
