"""Parts of a shot that are colored in one go, and the blocks that they are kept in.

Where references are bound to frames of a shot, it falls into *stretches* between
them. A stretch falls into *blocks*, which are coded each for itself.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vitexco_jax.inference.shot_plan import NONE, Choice, Shot
from vitexco_jax.media.borders import Borders


class Stretch(NamedTuple):
  """Frames start to stop - 1 that are coloured from the same references."""

  start: int
  stop: int
  before: Choice | None  # Bound to `start`; colours go forwards from it.
  after: Choice | None  # Bound to `stop`; colours go backwards from it.
  others: tuple[Choice, ...]  # Bound to nothing; all empty: by the prior.
  borders: Borders  # Stay as they are.

  @property
  def carried(self) -> bool:
    """Whether colors go forwards, each frame's from the frame before."""
    return self.before is not None or self.after is None

  @property
  def backwards(self) -> str:
    """The journal's entry of the colors that come back from `after`."""
    return f'{self.start:07d}.backwards'

  @property
  def steps(self) -> int:
    """How many steps coloring takes: frames, some of them twice."""
    frames = self.stop - self.start
    return frames if self.after is None else 2 * frames + 1


class Block(NamedTuple):
  """Frames that are coded together."""

  start: int
  stop: int
  key: str  # Hash of everything that they are computed from.

  @property
  def name(self) -> str:
    """Of its entry in the journal."""
    return f'{self.start:07d}'

  @property
  def state(self) -> str:
    """The file of what the next block starts from."""
    return f'{self.name}.npy'


class Task(NamedTuple):
  """A stretch with all that a worker needs to know about it."""

  stretch: Stretch
  blocks: list[Block]
  key: str  # Hash of everything that the stretch is computed from.


def stretches(shot: Shot) -> Iterator[Stretch]:
  """Cuts a shot where references are bound."""
  bound = {x.frame: x for x in shot.references if x.frame is not None}
  others = tuple(
    x for x in shot.references if x.frame is None and x.picture != NONE
  )
  edges = sorted({shot.start, *bound, shot.stop})
  for start, stop in itertools.pairwise(edges):
    yield Stretch(
      start, stop, bound.get(start), bound.get(stop), others, shot.borders
    )


def runs(blocks: Iterable[Block]) -> list[list[Block]]:
  """Groups blocks that follow one another."""
  found = []
  for block in blocks:
    if found and found[-1][-1].stop == block.start:
      found[-1].append(block)
    else:
      found.append([block])
  return found
