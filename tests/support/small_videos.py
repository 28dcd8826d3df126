"""Small videos for tests of the preparation."""

import itertools

import cv2
import numpy as np

from configs import vitexco
from vitexco_jax import flow
from vitexco_jax.data import prepare
from vitexco_jax.media.video import (
  Format,
  Frame,
  VideoWriter,
)


def make_config(folder, **data):
  config = vitexco.get_config('tiny')
  config.data.records = str(folder)
  config.data.update(data)
  return config


def write_video(path, frames=8, size=(48, 64), gray=False, cuts=()):
  """A colorful picture that moves 2 pixels to the left in every frame.

  At each of `cuts` another picture begins.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  seed = sum(path.name.encode())
  starts = [0, *cuts, frames]
  with VideoWriter(path, Format(*size)) as writer:
    for shot, (first, last) in enumerate(itertools.pairwise(starts)):
      noise = np.random.default_rng([seed, shot]).random((8, 24, 3), np.float32)
      width = size[1] + 2 * (last - first)
      scene = cv2.resize(noise, (width, size[0]), interpolation=cv2.INTER_CUBIC)
      scene = np.uint8(255 * np.clip(scene, 0, 1))
      if shot % 2:
        scene = 255 - scene // 3
      if gray:
        scene = np.repeat(scene[..., :1], 3, -1)
      for index in range(last - first):
        writer.write(Frame(scene[:, 2 * index : 2 * index + size[1]]))


def read_files(folder):
  """Returns all files of the preparation, by name."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def run_prepare(config, videos, **options):
  return prepare.prepare(config, videos, **{'workers': 1} | options)


def count_flows(monkeypatch, stop_at=None):
  """Counts estimates; `stop_at` presses control-C in one of them."""
  estimate_flow = flow.estimate_flow
  calls = []

  def counted(*args):
    calls.append(args)
    if len(calls) == stop_at:
      raise KeyboardInterrupt
    return estimate_flow(*args)

  monkeypatch.setattr(flow, 'estimate_flow', counted)
  return calls
