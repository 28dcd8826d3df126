"""A stand-in for a `VideoColorizer`."""

import numpy as np
from skimage import color as skcolor

from configs.vitexco import get_config
from vitexco_jax import sizes
from vitexco_jax.inference.video_colorizer import ClipState, Prediction

SIZE = (48, 64)  # Of the frames after which it resumes, by default.


class Painter:
  """Stands in for a `VideoColorizer`: one color, which fades from frame to frame.

  A picture's color comes with its mean a; b counts the frames from the start, or
  from the reference's own frame.
  """

  fingerprint = 'painter'
  has_prior = True

  def __init__(self, confidences=None, size=(24, 32), frame_size=SIZE):
    self.config = get_config('tiny')
    self.config.use.size = size
    self.bound = size
    self._inner_size = frame_size
    self._confidences = confidences or {}
    self.references = []
    self.sizes = set()  # Of the input frames.

  def set_reference(self, *rgb, first_frame=False):
    means = [skcolor.rgb2lab(x)[..., 1].mean() for x in rgb]
    self._a = float(np.mean(means or 0.0))
    self._frame_size = None
    self.state = _state(-1.0 if first_frame else 4.0)
    self.references.append((len(rgb), first_frame))

  def check_prior(self):
    pass

  def resume(self, state, frame_size):
    assert frame_size == self._inner_size
    self.state = state

  def predict(self, frames):
    for rgb in frames:
      self.sizes.add(rgb.shape[:2])
      b = self.state.previous[0, 0, 0, 2] + 1
      self.state = _state(b)
      h, w = sizes.within(rgb.shape[:2], self.config.use.size)
      ab = np.broadcast_to(np.float32([self._a, b]), (1, h, w, 2))
      sure = self._confidences.get(round(self._a), 0.8)
      yield Prediction(rgb[None], ab, np.full((1, h, w, 1), sure, np.float32))


def _state(b):
  return ClipState(
    np.full((1, 1, 1, 3), b, np.float32), np.zeros((1, 1, 1, 2), np.float32)
  )
