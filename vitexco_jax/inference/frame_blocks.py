"""Blocks of consecutive frames, which the networks colorize in one call."""

import itertools
import math
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 8  # Frames of a block ...
_PIXELS = 2**23  # ... unless they are large.


def length(frame_size: tuple[int, int]) -> int:
  """Returns the number of frames of a block; the last block may have fewer."""
  return max(1, min(BLOCK, _PIXELS // math.prod(frame_size)))


def split(frames: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
  """Yields blocks of frames [h, w, 3], all of one size."""
  frames = iter(frames)
  for first in frames:
    others = itertools.islice(frames, length(first.shape[:2]) - 1)
    yield [first, *others]


def fill(x: np.ndarray, axis: int, count: int) -> jax.Array:
  """Adds zeros to an axis, the frames, so that all blocks share a program."""
  pads = [(0, 0)] * x.ndim
  pads[axis] = 0, count - x.shape[axis]
  return jnp.asarray(np.pad(x, pads))
