"""Surveys a video: finds its shots, dissolves, borders, times, and damage in one pass."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.inference.shot_plan import Plan, Shot, clock
from vitexco_jax.media import borders, sandbox, video
from vitexco_jax.media.borders import Borders
from vitexco_jax.media.dissolves import Dissolve, mark_shots

_MOMENTS = 3  # Frames of a shot that are compared with references.
_MAX_FRAMES = 16  # Frames of a shot in memory, from which they are selected.
# Their short side in pixels: twice the input of the networks.
_SHORT_SIDE = 512
THUMBNAIL = 240  # Width in pixels.
_PLACE = 1.0  # Damage that is more seconds apart counts as another place.
_PLACES = 8  # Most places in a message.

Embed = Callable[[Sequence[np.ndarray]], np.ndarray]  # Pictures to [b, d].


class Survey(NamedTuple):
  """Shots of a video, found in one pass."""

  plan: Plan  # Without references.
  seconds: list[float]  # Time of each frame, from the first.
  embeddings: list[np.ndarray]  # [moments, d] per shot, with `embed`.
  thumbnails: list[bytes]  # One JPEG per shot.
  lost: int  # Number of frames that could not be decoded.
  damaged: list[int]  # Frame numbers at which the video is broken.
  interlaced: int = 0  # Number of frames that are marked as interlaced.
  # Of each shot a few frames without borders, as image files, with `embed`.
  moments: tuple[list[bytes], ...] = ()
  time_code: str = ''  # Of the first frame.
  # Numbers of black or white shots, from 0, to or from which the film fades.
  blank: frozenset[int] = frozenset()


def survey(
  video_path: Path,
  embed: Embed | None = None,
  progress: Callable[[int, int | None, int], None] | None = None,
  opener: sandbox.Direct | sandbox.Sandbox = sandbox.DIRECT,
  frame_rate: Fraction | None = None,
) -> Survey:
  """Finds the shots of a video, a folder of frames, or an image.

  Args:
    video_path: the input.
    embed: an `embedding.Embedder`, if shots will be compared with pictures.
    progress: is called with the number of frames so far, the expected number,
      and the number of shots.
    opener: opens the video, perhaps in another process.
    frame_rate: of a folder of frames; None: 25.

  Raises:
    UserError: the input cannot be read.
  """
  with opener.open(video_path) as reader:
    check_rate(reader, frame_rate)
    times: list[int] = []
    frames = _record_times(video.prefetch(reader), times)
    size = reader.format.height, reader.format.width
    starts, moments = [0], _Moments()
    embeddings, thumbnails, evidence = [], [], []
    kept_moments: list[list[bytes]] = []
    dissolves: list[Dissolve | None] = []

    def end_shot(dissolve: Dissolve | None = None) -> None:
      dissolves.append(dissolve)
      moments.leave_out(_length(dissolve))
      evidence.append(moments.borders.evidence())
      # Frames of all shots would fill the memory.
      if embed:
        (box,) = borders.agreed(evidence[-1:], size)
        embeddings.append(embed(moments.crops(box)))
        kept_moments.append(moments.encoded(box))
      thumbnails.append(video.encode_image('.jpg', moments.thumbnail()))

    marked = enumerate(mark_shots(frames))
    for count, (rgb, begins, dissolve) in marked:
      if begins:
        end_shot(dissolve)
        starts.append(count)
        moments = _Moments()
      moments.add(rgb)
      if progress:
        progress(count + 1, reader.num_frames, len(starts))
    end_shot()
    lost, damaged = reader.lost, reader.damaged
  form = reader.format if frame_rate is None else reader.format.at(frame_rate)
  edges = itertools.pairwise([*starts, len(times)])
  boxes = borders.agreed(evidence, size)
  plan_shots = (
    Shot(*edge, (), box, _length(dissolve))
    for edge, box, dissolve in zip(edges, boxes, dissolves, strict=True)
  )
  plan = Plan(
    os.fspath(video_path),
    form.width,
    form.height,
    len(times),
    form.frame_rate,
    tuple(plan_shots),
  )
  tick = float(form.time_base or 1 / form.frame_rate)
  seconds = [(pts - times[0]) * tick for pts in times]
  return Survey(
    plan,
    seconds,
    embeddings,
    thumbnails,
    lost,
    damaged,
    reader.interlaced,
    tuple(kept_moments),
    form.time_code,
    frozenset(_find_blank(dissolves)),
  )


def _length(dissolve: Dissolve | None) -> int:
  return 0 if dissolve is None else dissolve.stop - dissolve.start


def _find_blank(dissolves: Sequence[Dissolve | None]) -> Iterator[int]:
  """Yields the shots that are blank, by the dissolves at their ends."""
  for number, dissolve in enumerate(dissolves):
    if dissolve is not None and dissolve.from_blank:
      yield number
    if dissolve is not None and dissolve.to_blank:
      yield number + 1


def check_rate(
  reader: video.VideoReader | sandbox.Reader, frame_rate: Fraction | None
) -> None:
  """Raises UserError if a frame rate is given for a video or an image."""
  if frame_rate is not None and reader.kind != 'folder':
    raise UserError(
      f'`frame_rate` is for a folder of frames, and {reader.path} is not one: '
      'leave it out'
    )


def _record_times(
  frames: Iterator[video.Frame], times: list[int]
) -> Iterator[np.ndarray]:
  for frame in frames:
    assert frame.pts is not None  # Readers set it.
    times.append(frame.pts)
    yield frame.rgb


class _Moments:
  """A few frames of a shot, evenly spaced, whatever its length."""

  def __init__(self) -> None:
    self.borders = borders.Finder()
    self._frames: list[np.ndarray] = []
    self._step = 1
    self._count = 0

  def add(self, rgb: np.ndarray) -> None:
    self.borders.add(rgb)
    if self._count % self._step == 0:
      self._scale = min(1.0, _SHORT_SIDE / min(rgb.shape[:2]))
      self._frames.append(_scaled(rgb, self._scale))
      if len(self._frames) > _MAX_FRAMES:
        self._frames = self._frames[::2]
        self._step *= 2
    self._count += 1

  def leave_out(self, count: int) -> None:
    """Leaves out the last frames, in which the next shot is visible."""
    self._count = max(1, self._count - count)

  def _select(self) -> list[np.ndarray]:
    """Returns the frame in the middle of each third."""
    last = len(self._frames) - 1
    places = {
      min(last, (2 * i + 1) * self._count // (2 * _MOMENTS * self._step))
      for i in range(_MOMENTS)
    }
    return [self._frames[place] for place in sorted(places)]

  def crops(self, box: Borders) -> list[np.ndarray]:
    """Returns crops for the embedder, without borders (in pixels)."""
    box = box.scaled(self._scale)
    # It imports JAX, which checks of the input do not need.
    from vitexco_jax.retrieval import embedding

    return [embedding.crop(box.crop(rgb)) for rgb in self._select()]

  def encoded(self, box: Borders) -> list[bytes]:
    """Returns the frames without borders (in pixels), as image files."""
    box = box.scaled(self._scale)
    return [video.encode_image('.jpg', box.crop(rgb)) for rgb in self._select()]

  def thumbnail(self) -> np.ndarray:
    frames = self._select()
    rgb = frames[len(frames) // 2]
    return _scaled(rgb, THUMBNAIL / rgb.shape[1])


def _scaled(rgb: np.ndarray, scale: float) -> np.ndarray:
  """Resizes a picture; each side has at least one pixel."""
  height, width = (max(1, round(scale * side)) for side in rgb.shape[:2])
  return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def damage(name: str | Path, surveyed: Survey) -> str:
  """Describes where a damaged video is broken; `name` appears in the text."""
  effect = 'see how its frames look there'
  if surveyed.lost:
    effect = f'{surveyed.lost} frames could not be read, and are left out'
  elif min(surveyed.damaged) >= len(surveyed.seconds):
    effect = 'the file is cut short there, perhaps after its last frame'
  return f'{name} is broken at {_places(surveyed)}: {effect}'


def _places(surveyed: Survey) -> str:
  """Lists the times of damage; times that are close count as one place."""
  last = len(surveyed.seconds) - 1
  times = [surveyed.seconds[min(x, last)] for x in sorted(surveyed.damaged)]
  apart = [
    after
    for before, after in itertools.pairwise([-np.inf, *times])
    if after - before > _PLACE
  ]
  named = ', '.join(map(clock, apart[:_PLACES]))
  more = len(apart) - _PLACES
  return named + (f' and {more} more places' if more > 0 else '')
