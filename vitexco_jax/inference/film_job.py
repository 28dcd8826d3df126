"""Types that a film and its workers share: job, progress, and step."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitexco_jax.inference import journal
from vitexco_jax.inference.outputs import Options, Track
from vitexco_jax.inference.stretches import Block
from vitexco_jax.media import sandbox, video


class Step(NamedTuple):
  """A frame that was colorized, or through which colors were propagated."""

  done: int  # Number of steps so far, those of earlier runs included.
  number: int  # Of the frame.
  gray: np.ndarray  # [h, w, 3] uint8 or, for more than 8 bits, uint16.
  rgb: np.ndarray | None  # In color; None: the frame comes again later.
  confidence: float  # Mean, in [-1, 1].


class Progress:
  """Progress of a film, shared by its workers.

  Attributes:
    facts: of each complete block, as stored in the journal.
    confidences: [frames], mean confidence of each frame; NaN: not colorized yet.
  """

  def __init__(self, frames: int):
    self.facts: dict[Block, dict[str, Any]] = {}
    self.confidences = np.full(frames, np.nan, np.float32)
    self._done = 0
    self._passes: set[str] = set()  # Whose steps are counted.
    self._lock = threading.Lock()  # For the two above.

  def __reduce__(self) -> tuple[type['Progress'], tuple[int]]:
    """Makes copies in other processes start from the beginning."""
    return Progress, (len(self.confidences),)

  def count(self, steps: int) -> int:
    """Adds completed steps; returns their total."""
    with self._lock:
      self._done += steps
      return self._done

  def begin_pass(self, name: str) -> None:
    """Notes that the steps of a pass will be counted one by one."""
    with self._lock:
      self._passes.add(name)

  def count_pass(self, name: str, steps: int) -> None:
    """Adds the steps of a stored pass, unless this run has computed it."""
    with self._lock:
      if name not in self._passes:
        self._passes.add(name)
        self._done += steps

  def note(self, block: Block, facts: dict[str, Any]) -> None:
    """Adds a complete block."""
    self.facts[block] = facts
    if block.shown:
      self.confidences[block.start : block.stop] = facts['confidence']


class Job(NamedTuple):
  """Data that the workers of a film share."""

  path: Path  # Of the source.
  opener: sandbox.Direct | sandbox.Sandbox
  kind: str  # Of the source: 'video', 'folder' or 'image'.
  format: video.Format  # Of the source.
  frames: int  # Of the plan.
  options: Options
  tracks: list[Track]
  journal: journal.Journal
  progress: Progress

  @property
  def size(self) -> tuple[int, int]:
    """(height, width) of frames."""
    return self.format.height, self.format.width
