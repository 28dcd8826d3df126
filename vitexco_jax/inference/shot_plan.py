"""Types of a plan: a film's shots and their references."""

import datetime
from fractions import Fraction
from typing import NamedTuple

from vitexco_jax.media import borders
from vitexco_jax.media.borders import Borders

FIRST_FRAME = 'first-frame'
AUTO = 'auto'
NONE = 'none'
SKIP = 'skip'  # Instead of references: the shot stays as it is.
# Values of a reference that are not paths.
NO_PATHS = FIRST_FRAME, NONE


class Choice(NamedTuple):
  """A reference of a shot, or a candidate."""

  picture: str  # Path, `first-frame` or `none`.
  score: float | None = None  # Cosine similarity to the shot; None: unknown.
  frame: int | None = None  # The frame that it shows; None: not bound.


class Shot(NamedTuple):
  """Frames `start` to `stop` - 1 and their references."""

  start: int
  stop: int
  references: tuple[Choice, ...]  # None: the shot stays as it is.
  borders: Borders = borders.NONE  # Not colorized.

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


def clock(seconds: float | Fraction) -> str:
  """Formats seconds as h:mm:ss.s."""
  tenths = round(10 * seconds)
  whole = datetime.timedelta(seconds=tenths // 10)
  return f'{whole}.{tenths % 10}'
