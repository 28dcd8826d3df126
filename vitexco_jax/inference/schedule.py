"""The schedule of a film: tasks for the workers, steps, and disk space."""

import heapq
import itertools
from collections.abc import Mapping

from vitexco_jax import sizes
from vitexco_jax.inference import film_settings, journal
from vitexco_jax.inference.shot_plan import Plan
from vitexco_jax.inference.stretches import Block, Stretch, Task, stretches

BLOCK = 240  # Frames; less than the distance of key frames in x264.


def count_steps(plan: Plan) -> int:
  """Returns the number of steps: frames, some of them twice."""
  return sum(
    stretch.steps for shot in plan.shots for stretch in stretches(shot)
  )


def scratch_bytes(
  plan: Plan, working_size: tuple[int, int], workers: int
) -> int:
  """Estimates the disk space of colors that are propagated backwards."""
  height, width = sizes.within((plan.height, plan.width), working_size)
  frames = (
    stretch.stop - stretch.start + 1
    for shot in plan.shots
    for stretch in stretches(shot)
    if stretch.after is not None
  )
  return 9 * height * width * sum(heapq.nlargest(workers, frames))


def make_tasks(
  plan: Plan,
  settings: Mapping[str, str],
  hashes: Mapping[str, str],
  frames: range | None = None,
) -> list[list[Task]]:
  """Divides a film into tasks, a list of them per shot.

  Args:
    plan: of the film.
    settings: on which all frames depend.
    hashes: of the pictures, see `film_settings.hash_pictures`.
    frames: those of the output; None: all. Previous frames of their stretches are
      only colorized, so that their colors are those of the whole film.
  """
  frames = range(plan.frames) if frames is None else frames
  return [
    [
      _make_task(stretch, settings, hashes, frames)
      for stretch in stretches(shot)
      if stretch.start < frames.stop and stretch.stop > frames.start
    ]
    for shot in plan.shots
    if shot.start < frames.stop and shot.stop > frames.start
  ]


def _make_task(
  stretch: Stretch,
  settings: Mapping[str, str],
  hashes: Mapping[str, str],
  shown: range,
) -> Task:
  bound = (x and hashes[x.picture] for x in (stretch.before, stretch.after))
  others = [hashes[x.picture] for x in stretch.others]
  frames = stretch.start, stretch.stop
  own = film_settings.settings_of(settings, stretch)
  facts = [own, frames, stretch.borders, stretch.skipped, *bound, others]
  key = journal.digest(facts)
  first, stop = stretch.start, min(stretch.stop, shown.stop)
  edges = {*range(first, stop, BLOCK), max(first, shown.start), stop}
  blocks = [
    Block(*edge, journal.digest([key, *edge]), edge[0] in shown)
    for edge in itertools.pairwise(sorted(edges))
    if edge[0] in shown or stretch.propagates_forwards
  ]
  return Task(stretch, blocks, key)
