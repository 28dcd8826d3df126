"""Finds the frames of a colorized film that need another reference."""

from collections.abc import Iterator

import ml_collections
import numpy as np

from vitexco_jax.inference.shot_plan import Plan


def find(
  plan: Plan, confidences: np.ndarray, use: ml_collections.ConfigDict
) -> Iterator[tuple[int, int]]:
  """Yields (start, stop) of frames whose confidence is low, several in a row.

  Args:
    plan: of the film.
    confidences: [frames] of the film or of its beginning, NaN for frames that are
      not colorized.
    use: `config.use`, which says how low and how many.
  """
  low = confidences < use.unsure_confidence
  for shot in plan.shots:
    # A still cannot show one of the two shots of a dissolve.
    first = shot.start if shot.by_prior else shot.dissolve_start
    low[first : shot.stop] = False
  edges = np.flatnonzero(np.diff(low, prepend=False, append=False))
  for start, stop in edges.reshape(-1, 2).tolist():
    if stop - start >= use.unsure_frames:
      yield start, stop


def worst(start: int, stop: int, confidences: np.ndarray) -> int:
  """Returns the frame with the least confidence, the best one to color."""
  return start + int(confidences[start:stop].argmin())
