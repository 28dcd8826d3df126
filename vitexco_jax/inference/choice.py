"""Chooses the references of each shot."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.inference import reference_lists
from vitexco_jax.inference.shot_plan import (
  FIRST_FRAME,
  UNLIKE,
  Choice,
  Plan,
  clock,
)
from vitexco_jax.inference.survey import Embed, Survey
from vitexco_jax.media import borders, video

if TYPE_CHECKING:
  from vitexco_jax.inference.video_colorizer import VideoColorizer
  from vitexco_jax.retrieval.gallery import Gallery

_BOUND = re.compile(r'ref_(\d+)')  # A file name with the number of a frame.


def list_references(source: Path, surveyed: Survey) -> list[Choice]:
  """Lists the pictures that shots may use as references.

  Args:
    source: see `reference_lists.read`. A file name may also bind a picture to a
      frame; see `named_frame`.
    surveyed: of the video; maps times to frames.

  Raises:
    UserError: the list cannot be read, is empty, or binds a picture to a frame
      that the video does not have.
  """
  where = f'`references={source}`'
  video_path = Path(surveyed.plan.video)
  sequence = video.image_files(video_path) if video_path.is_dir() else ()
  choices = []
  for path, bound, seconds in reference_lists.read(source):
    if seconds is not None:
      bound = _frame_at(f'{where}, {path.name}', seconds, surveyed)
    elif bound is None:
      bound = named_frame(path.stem, sequence)
    frames = surveyed.plan.frames
    if bound is not None and bound >= frames:
      raise UserError(
        f'{where}: {path.name} is bound to frame {bound}, but '
        f'{surveyed.plan.video} has {frames} frames'
      )
    choices.append(Choice(os.fspath(path), frame=bound))
  return choices


def named_frame(stem: str, sequence: Sequence[Path] = ()) -> int | None:
  """Returns the frame of a video that the name of a picture refers to.

  Args:
    stem: the name without its suffix. A picture named like a frame's file is that
      frame. One named like ref_00123 is the frame of that number: in a folder the
      file with this number at its end, in a video counted from 0.
    sequence: the video's files, if it is a folder of frames.

  Returns:
    The frame, counted from 0; None: the name refers to no frame.

  Raises:
    UserError: no file, or more than one, has that number.
  """
  stems = [path.stem for path in sequence]
  if stem in stems:
    return stems.index(stem)
  named = _BOUND.fullmatch(stem)
  if named is None:
    return None
  number = int(named[1])
  digits = [re.findall(r'[0-9]+', stem) for stem in stems]
  if not stems or not all(digits):
    return number
  frames = [i for i, groups in enumerate(digits) if int(groups[-1]) == number]
  if len(frames) != 1:
    count = 'several frames are' if frames else 'no frame is'
    raise UserError(
      f'{stem}: {count} numbered {number} in {sequence[0].parent}; name the '
      'picture exactly like its frame'
    )
  return frames[0]


def _frame_at(where: str, seconds: float, surveyed: Survey) -> int:
  """Returns the frame at a time, which may be rounded."""
  starts = np.array(surveyed.seconds)
  distance = np.abs(starts - seconds)
  nearest = int(distance.argmin())
  if distance[nearest] > 1:
    if starts[0] < seconds < starts[-1]:  # A frame is shown for long.
      return int((starts < seconds).sum()) - 1
    raise UserError(f'{where}: nothing is shown at {seconds:g} s in the video')
  return nearest


def same_for_all(surveyed: Survey, pictures: Sequence[str]) -> Plan:
  """Gives every shot all of the pictures: paths, `first-frame` or `none`."""
  # The first frame comes first, because it is bound.
  pictures = sorted(pictures, key=lambda picture: picture != FIRST_FRAME)
  choices = tuple(map(Choice, pictures))
  given = [choices for _ in surveyed.plan.shots]
  if pictures[0] == FIRST_FRAME:
    given[0] = (choices[0]._replace(frame=0), *choices[1:])
  return give(surveyed, given)


def give(surveyed: Survey, references: Iterable[tuple[Choice, ...]]) -> Plan:
  """Gives each shot its references; blank shots stay as they are."""
  shots = (
    shot._replace(references=() if number in surveyed.blank else of_shot)
    for number, (shot, of_shot) in enumerate(
      zip(surveyed.plan.shots, references, strict=True)
    )
  )
  return surveyed.plan._replace(shots=tuple(shots))


def match(
  surveyed: Survey,
  choices: Sequence[Choice],
  embed: Embed,
  colorizer: 'VideoColorizer | None' = None,
) -> Plan:
  """Gives each shot the pictures bound to it, or the best one.

  Args:
    surveyed: of the video, with `embed`.
    choices: pictures to choose from.
    embed: an `embedding.Embedder`.
    colorizer: tries the most similar pictures; None: the most similar is best.

  Raises:
    UserError: a picture cannot be read.
  """
  candidates = scores(surveyed, choices, embed)
  if colorizer is not None:
    candidates = try_all(surveyed, candidates, colorizer)
  return give(surveyed, map(select, candidates))


def try_all(
  surveyed: Survey,
  candidates: Sequence[list[Choice]],
  colorizer: 'VideoColorizer',
  before_shot: Callable[[], None] = lambda: None,
) -> list[list[Choice]]:
  """Tries the references of each shot that has no bound one; see `trial`.

  Args:
    surveyed: of the video, with an embedder.
    candidates: of each shot, with scores.
    colorizer: matches them; its references are replaced.
    before_shot: is called before each shot, and may raise an exception.

  Raises:
    UserError: a picture cannot be read.
  """
  # It imports JAX, which checks of the input do not need.
  from vitexco_jax.inference import trial

  result = []
  for moments, of_shot in zip(surveyed.moments, candidates, strict=True):
    before_shot()
    if all(x.frame is None for x in of_shot):
      of_shot = trial.try_on_shot(moments, of_shot, colorizer)
    result.append(of_shot)
  return result


def scores(
  surveyed: Survey, choices: Sequence[Choice], embed: Embed
) -> list[list[Choice]]:
  """Compares each shot with each picture.

  Args:
    surveyed: of the video, with `embed`.
    choices: pictures to choose from.
    embed: an `embedding.Embedder`.

  Returns:
    For each shot all choices, in order, with scores. A choice that is bound to a
    frame of another shot is not bound.

  Raises:
    UserError: a picture cannot be read.
  """
  embeddings = np.concatenate(
    [embed([borders.without(video.read_image(x.picture))]) for x in choices]
  )
  result = []
  for shot, shot_embeddings in zip(
    surveyed.plan.shots, surveyed.embeddings, strict=True
  ):
    cosines = (shot_embeddings @ embeddings.T).mean(0).tolist()
    frames = range(shot.start, shot.stop)
    result.append(
      [
        Choice(
          choice.picture,
          round(cosine, 4),
          choice.frame if choice.frame in frames else None,
        )
        for choice, cosine in zip(choices, cosines, strict=True)
      ]
    )
  return result


def select(candidates: Sequence[Choice]) -> tuple[Choice, ...]:
  """Selects from candidates of a shot: bound choices, or the best one.

  The best one has the highest rank in a trial. Without trials, it has the highest
  score.
  """
  bound = [choice for choice in candidates if choice.frame is not None]
  if bound:
    return tuple(sorted(bound, key=lambda choice: choice.frame or 0))

  def quality(choice: Choice) -> tuple[float, float]:
    # The rank of a choice that was tried may be negative.
    return (
      -2.0 if choice.rank is None else choice.rank,
      choice.score or 0.0,
    )

  return (max(candidates, key=quality),)


def doubts(plan: Plan, seconds: Sequence[float]) -> list[str]:
  """Returns a warning for each shot whose references do not cover it.

  Args:
    plan: with references that were tried.
    seconds: time of each frame.
  """
  return [
    f'shot {number}, from {clock(seconds[shot.start])} (frames {shot.start} to '
    f'{shot.stop - 1}): {Path(best.picture).name} matches only '
    f'{best.coverage:.0%} of it: find another reference, or bind a still to a '
    'frame of the shot'
    for number, shot in enumerate(plan.shots, 1)
    for best in shot.references
    if best.verdict == UNLIKE
  ]


def retrieve(
  surveyed: Survey,
  gallery: 'Gallery',
  colorizer: 'VideoColorizer | None' = None,
) -> Plan:
  """Gives each shot the best picture of a gallery.

  Args:
    surveyed: of the video, with the embedder of the gallery.
    gallery: the pictures.
    colorizer: see `match`.

  Raises:
    UserError: that picture is not a file.
  """
  count = 1 if colorizer is None else colorizer.config.use.tried
  candidates = []
  for shot_embeddings in surveyed.embeddings:
    query = shot_embeddings.mean(0, keepdims=True)
    found = zip(*gallery.search(query, count), strict=True)
    candidates.append(
      [
        Choice(os.fspath(gallery.path(int(number))), round(float(score), 4))
        for scores, numbers in found
        for score, number in zip(scores, numbers, strict=True)
      ]
    )
  if colorizer is not None:
    candidates = try_all(surveyed, candidates, colorizer)
  return give(surveyed, map(select, candidates))
