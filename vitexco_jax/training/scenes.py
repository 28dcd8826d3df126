"""Scenes for the training of the mixture: clips with cameras and moving objects.

A *scene* has a frame before the first one and `FRAMES` frames, all from one shot of a
video, and a reference. A *camera* shows the frames as they are, or a part of them that
moves (pan) or grows or shrinks (zoom), so that content enters and leaves. In some
scenes an object of another video, an ellipse, moves over the frames.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tqdm

from vitexco_jax.errors import UserError
from vitexco_jax.media import shots
from vitexco_jax.media.video import VideoReader

_logger = logging.getLogger(__name__)

FRAMES = 16
_STEPS = {1: 0.5, 2: 0.35, 3: 0.15}  # Shares, by frames from one to the next.
_CAMERAS = {'plain': 0.6, 'pan': 0.2, 'zoom': 0.2}
# What the reference is: the frame before the first, a mirrored part of it, or a frame
# of another video.
KINDS = {'first': 0.6, 'part': 0.22, 'foreign': 0.18}
_OBJECTS = 0.2  # Share of scenes with one.
_CENTER = np.array([0.5, 0.5])


class Shot(NamedTuple):
  """Consecutive frames of a video."""

  path: str
  first: int  # Number of the first frame.
  frames: int


class Scene(NamedTuple):
  """A clip in color, and its reference; all pictures have one size."""

  before: np.ndarray  # [h, w, 3] uint8, the frame before the first one.
  frames: list[np.ndarray]
  reference: np.ndarray
  kind: str  # Of the reference; see `KINDS`.


class _Path(NamedTuple):
  """A straight path through a scene, from its first to its last frame."""

  start: np.ndarray  # (x, y)
  end: np.ndarray

  def at(self, time: float) -> np.ndarray:
    """Returns the place at a time between 0 and 1."""
    return self.start + (self.end - self.start) * time


def find_shots(argument: str, videos: Mapping[str, Path]) -> list[Shot]:
  """Finds the shots of videos that are long enough for a scene.

  Args:
    argument: name of the argument with the videos, for errors.
    videos: files or folders of frames, by name.

  Raises:
    UserError: there is none.
  """
  found = []
  for name, path in tqdm.tqdm(videos.items(), 'shots', unit='video'):
    try:
      found += [Shot(str(path), *x) for x in _divide(path)]
    except UserError as error:
      _logger.warning(f'left out {name}: {error}')
  usable = [shot for shot in found if shot.frames > FRAMES]
  if not usable:
    longest = max((shot.frames for shot in found), default=0)
    raise UserError(
      f'`{argument}` has no shot of at least {FRAMES + 1} frames; the longest of '
      f'its {len(videos)} files has {longest}'
    )
  return usable


def _divide(path: Path) -> Iterator[tuple[int, int]]:
  """Yields (first frame, number of frames) of the shots of a video."""
  with VideoReader(path) as reader:
    marked = shots.mark_cuts(frame.rgb for frame in reader)
    cuts = [begins for _, begins in marked]
  starts = [0] + [number for number, begins in enumerate(cuts) if begins]
  for first, end in itertools.pairwise(starts + [len(cuts)]):
    yield first, end - first


def draw(
  rng: np.random.Generator,
  shots_: Sequence[Shot],
  number: int,
  size: tuple[int, int],
  refine: int,
) -> Scene:
  """Draws a scene.

  Args:
    rng: of all random choices.
    shots_: from `find_shots`; others than the own one give objects and references.
    number: of the scene's shot.
    size: (height, width), the working size.
    refine: the scene's size is at most this multiple of it, if frames are so large.

  Raises:
    UserError: a video cannot be read any more.
  """
  shot = shots_[number]
  steps = [x for x in _STEPS if x * FRAMES < shot.frames]
  shares = np.array([_STEPS[x] for x in steps])
  step = int(rng.choice(steps, p=shares / shares.sum()))
  start = int(rng.integers(shot.frames - step * FRAMES))
  frames = _read(shot, start, step, FRAMES + 1)
  height, width = frames[0].shape[:2]
  fitting = round(min(height / size[0], width / size[1]))
  scale = min(refine, max(1, fitting))
  size = scale * size[0], scale * size[1]
  centers, parts = _move_camera(rng)
  before, *frames = (
    _cut(frame, center, part, size)
    for frame, center, part in zip(frames, centers, parts, strict=True)
  )
  if rng.random() < _OBJECTS:
    picture = _other(rng, shots_, number)
    picture = _cut(picture, _CENTER, 1.0, size)
    before, *frames = _move_object(rng, [before] + frames, picture)
  kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
  if kind == 'first':
    reference = before
  elif kind == 'part':
    center, share = rng.uniform(size=2), rng.uniform(0.5, 0.9)
    reference = _cut(before[:, ::-1], center, share, size)
  else:
    reference = _cut(_other(rng, shots_, number), _CENTER, 1.0, size)
  return Scene(before, frames, reference, kind)


def _read(shot: Shot, start: int, step: int, count: int) -> list[np.ndarray]:
  """Reads every `step`-th frame of a shot, beginning with `start`."""
  with VideoReader(shot.path) as reader:
    reader.skip(shot.first + start)
    every = itertools.islice(reader, 0, step * (count - 1) + 1, step)
    frames = [frame.rgb for frame in every]
  if len(frames) < count:
    raise UserError(
      f'{shot.path} has become shorter since its shots were found: start with '
      'another `workdir`'
    )
  return frames


def _other(
  rng: np.random.Generator, shots_: Sequence[Shot], number: int
) -> np.ndarray:
  """Reads a frame of another shot, or of the same one if there is no other."""
  others = [i for i in range(len(shots_)) if i != number] or [number]
  shot = shots_[int(rng.choice(others))]
  (frame,) = _read(shot, int(rng.integers(shot.frames)), 1, 1)
  return frame


def _move_camera(
  rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[float]]:
  """Draws the center and the share of each frame that the camera shows."""
  times = np.linspace(0, 1, FRAMES + 1)
  kind = rng.choice(list(_CAMERAS), p=list(_CAMERAS.values()))
  if kind == 'pan':
    share = rng.uniform(0.45, 0.7)
    edge = share / 2
    # From one side to the other, at random heights.
    path = _Path(
      np.array([edge, rng.uniform(edge, 1 - edge)]),
      np.array([1 - edge, rng.uniform(edge, 1 - edge)]),
    )
    if rng.random() < 0.5:
      path = _Path(path.end, path.start)
    return [path.at(time) for time in times], [share] * len(times)
  if kind == 'zoom':
    center, smallest = rng.uniform(0.35, 0.65, 2), 1 / rng.uniform(1.3, 2.2)
    inward = rng.random() < 0.6
    powers = times if inward else times[::-1]
    return [center] * len(times), [smallest**power for power in powers]
  return [_CENTER] * len(times), [1.0] * len(times)


def _cut(
  rgb: np.ndarray, center: np.ndarray, share: float, size: tuple[int, int]
) -> np.ndarray:
  """Cuts a part out of a picture and scales it.

  Args:
    rgb: [h, w, 3] uint8.
    center: (x, y) of the part, as shares of the sides; the part is moved so that it
      is inside of the picture.
    share: of the largest part with the aspect of the result.
    size: (height, width) of the result.
  """
  height, width = size
  unit = share * min(rgb.shape[0] / height, rgb.shape[1] / width)
  if unit > 1:  # The interpolation below would skip pixels.
    sides = [round(side / unit) for side in rgb.shape[1::-1]]
    rgb = cv2.resize(rgb, sides, interpolation=cv2.INTER_AREA)
    unit = share * min(rgb.shape[0] / height, rgb.shape[1] / width)
  lengths = unit * width, unit * height
  x, y = (
    float(np.clip(c * side - length / 2, 0, side - length))
    for c, side, length in zip(center, rgb.shape[1::-1], lengths, strict=True)
  )
  # From the centers of the pixels of the result to places in the picture.
  to_picture = np.array(
    [[unit, 0, x + (unit - 1) / 2], [0, unit, y + (unit - 1) / 2]]
  )
  return cv2.warpAffine(
    rgb,
    to_picture,
    (width, height),
    flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REPLICATE,
  )


def _move_object(
  rng: np.random.Generator, frames: Sequence[np.ndarray], picture: np.ndarray
) -> list[np.ndarray]:
  """Moves an ellipse of a picture over frames, which have the picture's size."""
  height, width = picture.shape[:2]
  sides = np.array([width, height])
  axes = rng.uniform(0.08, 0.3, 2) * sides
  start, end = rng.uniform(-0.3, 1.3, 2), rng.uniform(size=2)
  if rng.random() < 0.7:  # It enters from a side.
    start = np.array([rng.choice([-0.35, 1.35]), rng.uniform()])
  path = _Path(start * sides, end * sides)
  results = []
  for time, frame in zip(np.linspace(0, 1, len(frames)), frames, strict=True):
    place = path.at(time)
    sharp = np.zeros((height, width), np.float32)
    center, radii = np.round(place).astype(int), axes.astype(int)
    cv2.ellipse(sharp, center.tolist(), radii.tolist(), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(sharp, (0, 0), height / 200)[..., None]
    x, y = place - sides / 2
    moved = cv2.warpAffine(
      picture,
      np.array([[1, 0, x], [0, 1, y]]),
      (width, height),
      borderMode=cv2.BORDER_REFLECT,
    )
    mixed = frame * (1 - mask) + moved * mask
    results.append(np.round(mixed).astype(np.uint8))
  return results
