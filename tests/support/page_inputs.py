"""Uploads and stand-ins for the networks, for tests of the page."""

import copy
import io

import numpy as np
from documents import picture, write_video
from painter import Painter
from PIL import Image

from vitexco_jax import color
from vitexco_jax.retrieval import embedding

COUNT = 12  # Frames of each of two shots.


class Stub(Painter):
  """A colorizer that may wait for a signal before each frame."""

  def __init__(self, may_go=None):
    super().__init__()
    self._may_go = None  # Trials of references do not wait.
    self._signal = may_go

  def on(self, _):
    worker = copy.copy(self)
    worker._may_go = self._signal
    return worker

  def _before_frame(self, prediction):
    """Tests make it fail."""

  def predict(self, frames):
    for prediction in super().predict(frames):
      self._before_frame(prediction)
      if self._may_go:
        assert self._may_go.acquire(timeout=60)
      yield prediction


def embed(pictures):
  """Embeds pictures as gray thumbnails: [b, 64] of unit length."""
  flat = np.float32([embedding.crop(x)[::28, ::28, 0] for x in pictures])
  flat = flat.reshape(len(flat), -1)
  flat -= flat.mean(1, keepdims=True)
  return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def write_film(path, count=COUNT):
  """Writes a video of two gray shots, of pictures 1 and 2."""
  grays = [np.asarray(color.gray(picture(seed))) for seed in (1, 2)]
  write_video(path, np.repeat(grays, count, 0))


def encoded(rgb, kind='PNG'):
  file = io.BytesIO()
  Image.fromarray(rgb).save(file, kind)
  return file.getvalue()
