"""Runs: consecutive frames of shots, and pairs of frames from still pictures."""

import collections
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import ml_collections
import numpy as np

from vitexco_jax import flow
from vitexco_jax.data import synthetic_motion
from vitexco_jax.errors import UserError
from vitexco_jax.media import quality, shots
from vitexco_jax.media.video import VideoReader, read_image

_MOTION_STEP = 4  # Frames between measurements of motion.


class UnusableError(Exception):
  """A video cannot be used at all; the message is the reason."""


class _Frame(NamedTuple):
  """A frame of a video."""

  shot: int
  number: int  # In the video.
  rgb: np.ndarray  # [h, w, 3] uint8, at the records' size.
  measures: quality.Measures


class DecodedRun(NamedTuple):
  """Consecutive frames to be written."""

  video: str
  indices: list[int]  # Of the frames in the video.
  rgb: list[np.ndarray]
  motion: list[tuple[np.ndarray, np.ndarray] | None]  # None for the last.


def from_video(
  name: str,
  path: Path,
  data: ml_collections.ConfigDict,
  left_out: dict[str, str],
) -> Iterator[DecodedRun]:
  """Yields the usable runs of a video.

  Args:
    name: of the video in the records.
    path: a video or a folder of frames.
    data: `config.data`.
    left_out: gets the reason under `name` if runs are not usable.

  Raises:
    UnusableError: the video cannot be read to its end.
  """
  refused: collections.Counter[str] = collections.Counter()
  total = 0
  for frames in _read_runs(path, data):
    total += len(frames)
    if len(frames) < data.min_frames:
      reason = f'shots of fewer than {data.min_frames} frames'
    else:
      measures = [frame.measures for frame in frames]
      sampled = [frame.rgb for frame in frames[::_MOTION_STEP]]
      reason = quality.why_refused(measures, sampled, data.quality)
    if reason:
      refused[reason] += len(frames)
      continue
    rgb = [frame.rgb for frame in frames]
    motion = [
      _estimate_motion(*pair, data.flow) for pair in itertools.pairwise(rgb)
    ]
    yield DecodedRun(
      name, [frame.number for frame in frames], rgb, [*motion, None]
    )
  if refused:
    left_out[name] = ', '.join(
      reason if count == total else f'{reason} ({count} of {total} frames)'
      for reason, count in refused.items()
    )


def from_pictures(
  paths: Mapping[str, Path],
  data: ml_collections.ConfigDict,
  seed: int,
  left_out: dict[str, str],
) -> Iterator[DecodedRun]:
  """Yields a pair of frames, with known motion, for each usable picture.

  Args:
    paths: the pictures by name.
    data: `config.data`.
    seed: together with the name of a picture, it determines the motion.
    left_out: gets the reason under the name of each picture that is not usable.
  """
  for name, path in paths.items():
    digest = hashlib.sha1(f'{seed} {name}'.encode()).digest()
    rng = np.random.default_rng(list(digest))
    try:
      decoded = read_image(path)
      scaled = scale_and_crop(decoded, data.size)
      measures = [quality.measure(decoded, scaled)]
      reason = quality.why_refused(measures, [scaled], data.quality)
    except UserError as error:
      reason = _without_path(error, path)
    if reason:
      left_out[name] = reason
      continue
    pair = synthetic_motion.make_pair(decoded, data.size, rng)
    yield DecodedRun(
      name, [0, 0], list(pair.rgb), [(pair.flow, pair.visible), None]
    )


def _read_runs(
  path: Path, data: ml_collections.ConfigDict
) -> Iterator[list[_Frame]]:
  """Yields every `frame_step`-th frame of a video, in runs within shots.

  Raises:
    UnusableError: the video cannot be read to its end.
  """
  try:
    with VideoReader(path) as reader:
      shots_ = itertools.groupby(_read(reader, data), lambda frame: frame.shot)
      for _, frames in shots_:
        yield from _split(frames, data.run_length)
      lost = reader.lost
  except UserError as error:
    raise UnusableError(_without_path(error, path)) from error
  if lost:
    raise UnusableError(f'damaged or cut short ({lost} frames lost)')


def _without_path(error: UserError, path: Path) -> str:
  return str(error).removeprefix(str(path)).lstrip(': ')


def _read(
  reader: VideoReader, data: ml_collections.ConfigDict
) -> Iterator[_Frame]:
  """Yields every `frame_step`-th frame at the size of the records."""
  shot = 0
  marked = shots.mark_cuts(frame.rgb for frame in reader)
  for index, (rgb, begins_shot) in enumerate(marked):
    shot += begins_shot
    if index % data.frame_step:
      continue
    scaled = scale_and_crop(rgb, data.size)
    yield _Frame(shot, index, scaled, quality.measure(rgb, scaled))


def _split(frames: Iterable[_Frame], longest: int) -> Iterator[list[_Frame]]:
  """Splits a shot into runs of at most `longest` frames.

  The runs of a longer shot have at least `longest / 2` frames. At most
  `2 * longest` frames are in memory.
  """
  buffer = []
  for frame in frames:
    buffer.append(frame)
    if len(buffer) == 2 * longest:
      yield buffer[:longest]
      del buffer[:longest]
  parts = -(-len(buffer) // longest)
  for part in range(parts):
    first, last = (len(buffer) * i // parts for i in (part, part + 1))
    yield buffer[first:last]


def scale_and_crop(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Scales to cover `size` = (height, width) and crops the center."""
  height, width = rgb.shape[:2]
  scale = max(size[0] / height, size[1] / width)
  scaled = cv2.resize(
    rgb,
    (max(round(width * scale), size[1]), max(round(height * scale), size[0])),
    interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
  )
  top = (scaled.shape[0] - size[0]) // 2
  left = (scaled.shape[1] - size[1]) // 2
  return scaled[top : top + size[0], left : left + size[1]]


def _estimate_motion(
  earlier: np.ndarray, later: np.ndarray, method: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns flow and visibility from the earlier to the later frame."""
  there = flow.estimate_flow(earlier, later, method)
  back = flow.estimate_flow(later, earlier, method)
  return there, flow.visible_mask(there, back)
