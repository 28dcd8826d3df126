"""Parts of a shot: stretches between bound references, and blocks.

References that are bound to frames divide a shot into *stretches*. A stretch is
divided into *blocks*, each of which is encoded separately. Through a dissolve at the
end of a shot, the colors of the next shot are propagated backwards.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vitexco_jax.inference.shot_plan import NONE, Choice, Shot
from vitexco_jax.media.borders import Borders


class Backwards(NamedTuple):
  """A pass that propagates colors backwards from the frame `source`.

  The colors of frames `start` to `stop` - 1 are stored.
  """

  name: str  # Of the journal entry.
  start: int
  stop: int
  source: int
  bound: Choice | None  # To the frame `source`.
  others: tuple[Choice, ...]  # Not bound.

  @property
  def steps(self) -> int:
    """Number of steps."""
    return self.source - self.start + 1


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
  dissolve: range = range(0)  # Frames that show the next shot, too.
  following: 'Stretch | None' = None  # The first one of that shot.

  @property
  def propagates_forwards(self) -> bool:
    """Whether colors are propagated forwards."""
    return not self.skipped and (self.before is not None or self.after is None)

  @property
  def has_both_directions(self) -> bool:
    """Whether colors are propagated forwards and backwards."""
    return self.propagates_forwards and self.after is not None

  @property
  def backwards(self) -> Backwards | None:
    """The pass that propagates the colors of `after`."""
    if self.after is None:
      return None
    name = f'{self.start:07d}.backwards'
    edges = self.start, self.stop, self.stop
    return Backwards(name, *edges, self.after, self.others)

  @property
  def entering(self) -> Backwards | None:
    """The pass that propagates the colors of the next shot into a dissolve."""
    following = self.following
    if following is None or following.skipped or not self.dissolving:
      return None
    source, bound = following.start, following.before
    others = following.others
    if following.borders != self.borders:
      # A bound still would not have the size of the frames.
      stills = filter(None, (bound, following.after))
      others += tuple(x._replace(frame=None) for x in stills)
      bound = None
    elif bound is None and following.after is not None:
      source, bound = following.stop, following.after
    name = f'{self.start:07d}.entering'
    edges = self.dissolving.start, self.stop, source
    return Backwards(name, *edges, bound, others)

  @property
  def dissolving(self) -> range:
    """Its frames within the dissolve."""
    if self.following is None:
      return range(self.stop, self.stop)
    return range(max(self.start, self.dissolve.start), self.stop)


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
  entering_key: str = ''  # The same, of the colors of the next shot.

  @property
  def entering(self) -> Backwards | None:
    """`Stretch.entering` if a block needs it."""
    entering = self.stretch.entering
    if entering is None or self.blocks[-1].stop <= entering.start:
      return None
    return entering

  @property
  def steps(self) -> int:
    """Number of steps: frames of blocks, and those propagated backwards."""
    passes = self.stretch.backwards, self.entering
    forwards = sum(block.stop - block.start for block in self.blocks)
    return forwards + sum(x.steps for x in passes if x is not None)


def stretches(shot: Shot, following: Shot | None = None) -> Iterator[Stretch]:
  """Divides a shot at its bound references.

  Args:
    shot: the shot.
    following: the next one, if the shot dissolves into it. The colors of the two
      are mixed if one of them is colorized.
  """
  entering = None
  if shot.dissolve and following is not None:
    first = next(stretches(following))
    entering = None if shot.skipped and first.skipped else first
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
      range(shot.dissolve_start, shot.stop),
      entering,
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
