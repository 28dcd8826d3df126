"""Records whose frames can be identified, written for tests."""

import itertools
from typing import NamedTuple

import cv2
import numpy as np

from vitexco_jax.data import records, records_writer

HEIGHT, WIDTH = 32, 48
_LENGTHS = {'a': (6, 4), 'b': (9,)}  # Frames of the runs of each video.
_VELOCITIES = ((3, -2), (-1, 4), (2, 0))  # Of the runs, pixels a frame.


def moving_runs():
  """Three runs, each with its own texture."""
  lengths = itertools.chain(*_LENGTHS.values())
  pairs = zip(lengths, _VELOCITIES, strict=True)
  return [_moving_run(seed, *pair) for seed, pair in enumerate(pairs)]


def _texture(seed):
  noise = np.random.default_rng(seed).uniform(0, 255, (160, 200, 3))
  smooth = cv2.GaussianBlur(noise, (0, 0), 2)
  return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


class Run(NamedTuple):
  """A shot with known motion."""

  rgb: list[np.ndarray]
  motion: tuple[np.ndarray, np.ndarray]  # Of every frame but the last.


def _moving_run(seed, frames, velocity):
  """A window that moves over a texture; its content moves the other way."""
  dx, dy = velocity
  texture = _texture(seed)
  rgb = [
    texture[60 - t * dy :, 60 - t * dx :][:HEIGHT, :WIDTH]
    for t in range(frames)
  ]
  flow = np.broadcast_to(np.float32(velocity), (HEIGHT, WIDTH, 2))
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  inside = (x + dx >= 0) & (x + dx < WIDTH) & (y + dy >= 0)
  inside &= y + dy < HEIGHT
  return Run(rgb, (flow, inside[..., None].astype(np.uint8)))


def write(folder, runs, references=()):
  """Writes a data set of the runs; every frame refers to all references."""
  numbers = range(len(references))
  placed, videos = [], list(_LENGTHS)
  with records_writer.PartWriter(folder / 'part') as writer:
    remaining = iter(runs)
    for number, video in enumerate(videos):
      for _ in _LENGTHS[video]:
        rgb, motion = next(remaining)
        for index, frame in enumerate(rgb):
          moves = motion if index < len(rgb) - 1 else None
          writer.write(records.encode(frame, video, index, moves, numbers))
        placed.append((number, 0, len(rgb)))
    frames = writer.count
    for number, rgb in enumerate(references):
      writer.write(records.encode(rgb, 'reference', number))
  records_writer.write(
    folder,
    records_writer.Contents(
      size=(HEIGHT, WIDTH),
      settings={},
      videos=videos,
      runs=placed,
      references=list(numbers),
      left_out={},
      fingerprint='',
      frame_parts=[records_writer.Part(folder / 'part', 0, frames)],
      reference_parts=[
        records_writer.Part(folder / 'part', frames, len(references))
      ]
      if references
      else [],
    ),
  )
