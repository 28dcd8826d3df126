"""The schedule of a film: tasks for the workers, steps, and disk space."""

import collections
import heapq
import itertools
from collections.abc import Iterator, Mapping

from vitexco_jax import sizes
from vitexco_jax.inference import film_settings, journal
from vitexco_jax.inference.shot_plan import Plan, Shot
from vitexco_jax.inference.stretches import Block, Stretch, Task, stretches

BLOCK = 240  # Frames; less than the distance of key frames in x264.


def count_steps(plan: Plan) -> int:
  """Returns the number of steps: frames, some of them twice."""
  tasks = make_tasks(plan, {}, collections.defaultdict(str))
  return sum(task.steps for task in tasks)


def count_parts(plan: Plan) -> int:
  """Returns the number of devices that a film can use at the same time."""
  return sum(
    1 + stretch.has_both_directions
    for shot in plan.shots
    for stretch in stretches(shot)
  )


def scratch_bytes(
  plan: Plan, working_size: tuple[int, int], workers: int
) -> int:
  """Estimates the disk space of colors that are propagated backwards."""
  height, width = sizes.within((plan.height, plan.width), working_size)
  frames = (
    sum(x.steps for x in (stretch.backwards, stretch.entering) if x is not None)
    for shot, following in _with_next(plan)
    for stretch in stretches(shot, following)
  )
  return 9 * height * width * sum(heapq.nlargest(workers, frames))


def _with_next(plan: Plan) -> Iterator[tuple[Shot, Shot | None]]:
  """Yields each shot with the next one."""
  return itertools.zip_longest(plan.shots, plan.shots[1:])


def make_tasks(
  plan: Plan,
  settings: Mapping[str, str],
  hashes: Mapping[str, str],
  frames: range | None = None,
) -> list[Task]:
  """Divides a film into tasks, one for each stretch.

  Args:
    plan: of the film.
    settings: on which all frames depend.
    hashes: of the pictures, see `film_settings.hash_pictures`.
    frames: those of the output; None: all. Previous frames of their stretches are
      only colorized, so that their colors are those of the whole film.
  """
  frames = range(plan.frames) if frames is None else frames
  return [
    _make_task(stretch, settings, hashes, frames)
    for shot, following in _with_next(plan)
    for stretch in stretches(shot, following)
    if stretch.start < frames.stop and stretch.stop > frames.start
  ]


def _make_task(
  stretch: Stretch,
  settings: Mapping[str, str],
  hashes: Mapping[str, str],
  shown: range,
) -> Task:
  key = _hash(stretch, settings, hashes)
  entering_key = ''
  first, stop = stretch.start, min(stretch.stop, shown.stop)
  edges = {*range(first, stop, BLOCK), max(first, shown.start), stop}
  if stretch.following is not None:
    following = _hash(stretch.following, settings, hashes)
    dissolve = stretch.dissolve.start, stretch.dissolve.stop
    entering_key = journal.digest([following, *dissolve, stretch.borders])
    # Frames before it do not depend on the next shot.
    edges.add(min(stretch.dissolving.start, stop))
  blocks = []
  for edge in itertools.pairwise(sorted(edges)):
    facts = [key, *edge]
    if edge[0] in stretch.dissolving:
      facts.append(entering_key)
    if edge[0] in shown or stretch.propagates_forwards:
      blocks.append(Block(*edge, journal.digest(facts), edge[0] in shown))
  return Task(stretch, blocks, key, entering_key)


def _hash(
  stretch: Stretch, settings: Mapping[str, str], hashes: Mapping[str, str]
) -> str:
  """Returns a hash of everything on which the colors of a stretch depend."""
  bound = (x and hashes[x.picture] for x in (stretch.before, stretch.after))
  others = [hashes[x.picture] for x in stretch.others]
  frames = stretch.start, stretch.stop
  own = film_settings.settings_of(settings, stretch)
  return journal.digest(
    [own, frames, stretch.borders, stretch.skipped, *bound, others]
  )
