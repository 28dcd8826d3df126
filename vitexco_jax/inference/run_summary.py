"""The last line of a run: what was written, how fast, and how good."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vitexco_jax.inference.shot_plan import Plan


def summarize(
  targets: Sequence[Path],
  plan: Plan,
  confidences: np.ndarray,
  doubtful: Iterable[tuple[int, int]],
  colored: int,
  seconds: float,
) -> str:
  """Describes a finished run in one line.

  Args:
    targets: the outputs.
    plan: of the film.
    confidences: [frames], NaN for frames that are not in the output.
    doubtful: (start, stop) of frames that need another reference.
    colored: frames that this run has colorized.
    seconds: the time for them.
  """
  known = ~np.isnan(confidences)
  matched = known.copy()
  for shot in plan.shots:
    if shot.skipped or shot.by_prior:
      matched[shot.start : shot.stop] = False
  written = int(known.sum())
  parts = [f'{written} {"frame" if written == 1 else "frames"}']
  if colored and seconds > 0:
    parts.append(f'{colored / seconds:.2g} frames per second')
  if matched.any():
    parts.append(f'mean confidence {confidences[matched].mean():.2f}')
  ranges = [*doubtful]
  numbers = [
    str(number)
    for number, shot in enumerate(plan.shots, 1)
    if any(start < shot.stop and stop > shot.start for start, stop in ranges)
  ]
  doubts = f'doubtful shots: {", ".join(numbers)}'
  parts.append(doubts if numbers else 'no doubtful shots')
  return f'Wrote {" ".join(map(str, targets))}: {"; ".join(parts)}'
