"""Blocks of consecutive frames, which the networks colorize in one call."""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax.structs import Array

BLOCK = 8  # Frames of a block ...
_PIXELS = 2**23  # ... unless they are large.
_Item = TypeVar('_Item')


def length(frame_size: tuple[int, int]) -> int:
  """Returns the number of frames of a block; the last block may have fewer."""
  return max(1, min(BLOCK, _PIXELS // math.prod(frame_size)))


def split(
  frames: Iterable[np.ndarray], begins: bool = False
) -> Iterator[list[np.ndarray]]:
  """Yields blocks of frames [h, w, 3], all of one size.

  Args:
    frames: of a clip.
    begins: whether the clip begins with them. Then the first block is one frame, so
      that it appears early.
  """
  frames = iter(frames)
  yield from ([frame] for frame in itertools.islice(frames, int(begins)))
  for first in frames:
    others = itertools.islice(frames, length(first.shape[:2]) - 1)
    yield [first, *others]


def delayed(blocks: Iterable[list[_Item]]) -> Iterator[_Item]:
  """Yields the items of blocks, each block after the next one has been started.

  So the device computes a block while the caller uses the previous one. If the first
  block is one frame, the caller does not wait for it.
  """
  blocks = iter(blocks)
  for first in itertools.islice(blocks, 1):
    if len(first) == 1:
      yield from first
    else:
      blocks = itertools.chain([first], blocks)
  yield from itertools.chain.from_iterable(ahead(blocks))


def ahead(blocks: Iterable[_Item]) -> Iterator[_Item]:
  """Yields blocks, each after the next one has been started."""
  waiting: list[_Item] = []
  for block in blocks:
    yield from waiting
    waiting = [block]
  yield from waiting


def fill(x: Array, axis: int, count: int) -> jax.Array:
  """Adds zeros to an axis, the frames, so that all blocks share a program."""
  if x.shape[axis] == count:  # It may be on a device that still computes it.
    return jnp.asarray(x)
  pads = [(0, 0)] * x.ndim
  pads[axis] = 0, count - x.shape[axis]
  return jnp.asarray(np.pad(x, pads))
