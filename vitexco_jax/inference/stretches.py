"""Parts of a shot: stretches between bound references, and blocks.

References that are bound to frames divide a shot into *stretches*. A stretch is
divided into *blocks*, each of which is encoded separately.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vitexco_jax.inference.shot_plan import NONE, Choice, Shot
from vitexco_jax.media.borders import Borders


class Stretch(NamedTuple):
  """Frames `start` to `stop` - 1, which have the same references."""

  start: int
  stop: int
  before: Choice | None  # Bound to `start`; propagated forwards.
  after: Choice | None  # Bound to `stop`; propagated backwards.
  # Not bound. Without any reference, the prior is used.
  others: tuple[Choice, ...]
  borders: Borders  # Not colorized.
  skipped: bool = False  # Whether the frames stay as they are.

  @property
  def propagates_forwards(self) -> bool:
    """Whether colors are propagated forwards."""
    return not self.skipped and (self.before is not None or self.after is None)

  @property
  def backwards(self) -> str:
    """Name of the journal entry with the colors propagated from `after`."""
    return f'{self.start:07d}.backwards'

  @property
  def steps(self) -> int:
    """Number of steps: frames, or with `after` twice as many."""
    frames = self.stop - self.start
    return frames if self.after is None else 2 * frames + 1


class Block(NamedTuple):
  """Frames that are encoded together."""

  start: int
  stop: int
  key: str  # Hash of everything from which they are computed.
  # Whether they are part of the output; otherwise only their state is.
  shown: bool = True

  @property
  def name(self) -> str:
    """Name of the journal entry."""
    return f'{self.start:07d}'

  @property
  def state(self) -> str:
    """File name of the state with which the next block starts."""
    return f'{self.name}.npy'


class Task(NamedTuple):
  """A stretch with its blocks, as a worker processes it."""

  stretch: Stretch
  blocks: list[Block]
  key: str  # Hash of everything from which the stretch is computed.

  @property
  def steps(self) -> int:
    """Number of steps: frames of blocks, and those propagated backwards."""
    forwards = sum(block.stop - block.start for block in self.blocks)
    stretch = self.stretch
    return forwards + (
      0 if stretch.after is None else stretch.stop - stretch.start + 1
    )


def stretches(shot: Shot) -> Iterator[Stretch]:
  """Divides a shot at its bound references."""
  bound = {x.frame: x for x in shot.references if x.frame is not None}
  others = tuple(
    x for x in shot.references if x.frame is None and x.picture != NONE
  )
  edges = sorted({shot.start, *bound, shot.stop})
  for start, stop in itertools.pairwise(edges):
    yield Stretch(
      start,
      stop,
      bound.get(start),
      bound.get(stop),
      others,
      shot.borders,
      shot.skipped,
    )


def runs(blocks: Iterable[Block]) -> list[list[Block]]:
  """Groups consecutive blocks."""
  groups: list[list[Block]] = []
  for block in blocks:
    if groups and groups[-1][-1].stop == block.start:
      groups[-1].append(block)
    else:
      groups.append([block])
  return groups
