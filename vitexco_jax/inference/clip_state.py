"""Bundles of the engine: the state between frames, and the setup of a clip."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from vitexco_jax.structs import Array


class ClipState(NamedTuple):
  """The state that the next frame needs from the previous ones.

  h and w are the size at which colors are propagated, with padding.
  """

  # [1, h, w, 3 + carried], the previous frame: Lab, l = L - 50, and what else the
  # colorizer carries.
  previous: Array
  # (dx, dy) in pixels from the previous frame to the anchor, which is the first
  # reference; 0 without an anchor.
  anchor_flow: Array  # [1, h, w, 2]
  # Logarithm of the correction of the previous frame's exposure; see `guide`.
  gain: float = 0.0

  def save(self, path: Path) -> None:
    """Writes the state as one array in NumPy's format, the gain last."""
    gain = np.full((*self.anchor_flow.shape[:-1], 1), self.gain, np.float32)
    np.save(path, np.concatenate([self.previous, self.anchor_flow, gain], -1))

  @classmethod
  def load(cls, path: Path) -> 'ClipState':
    """Reads a state that `save` has written."""
    previous, anchor_flow, gain = np.split(np.load(path), [-3, -1], -1)
    return cls(previous, anchor_flow, float(gain.flat[0]))


class ClipSetup(NamedTuple):
  """The setup of a clip, the same for all of its frames."""

  frame_size: tuple[int, int]  # (height, width) of the frames.
  scale: int  # Colors are propagated at this multiple of the working size.
  size: tuple[int, int]  # That multiple, without padding.
  anchor_lab: jax.Array | None  # [1, h, w, 3], l = L - 50; None: no anchor.
  anchor_gray: np.ndarray | None  # [h, w, 1] uint8, its lightness.
