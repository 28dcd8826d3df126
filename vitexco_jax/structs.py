"""Bundles that cross module boundaries.

Axis letters: b batch, t time, h w pixels, c channels, q positions in the frame,
k positions in the reference. Channels last. `lab` is CIE Lab with L in [0, 100]
and a, b about [-110, 110]; inside the networks l = L - 50. `rgb` is sRGB in
[0, 1] unless it is uint8.
"""

from typing import NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray


class Clips(NamedTuple):
  """A batch of training samples, as the data pipeline hands them out."""

  rgb: Array  # [b, t, h, w, 3] uint8, consecutive frames.
  reference: Array  # [b, h, w, 3] uint8.
  flow: Array  # [b, t-1, h, w, 2] float32 (dx, dy) pixels, from t-1 to t.
  visible: Array  # [b, t-1, h, w, 1] uint8, 1 where flow can be trusted.
  same_video: Array  # [b] bool, reference is a frame of the same video.
  first_frame: Array  # [b] bool, reference is the clip's own first frame.
  # [b, t-1, h, w, 2] float32 from t to t-1; [b, t-1, 0, 0, 2] where the colorizer
  # does not look at it.
  backward_flow: Array


class Given(NamedTuple):
  """A reference as evaluation gives it."""

  rgb: np.ndarray  # [h, w, 3] uint8.
  index: int | None  # Which frame of the clip it is; None: another picture.


class Reference(NamedTuple):
  """What the networks keep of a reference, paid for once."""

  lab: Array  # [b, h, w, 3], l centred.
  # [b, k, d], phi: at each position of unit length, or less with a `basis`.
  keys: Array
  ab: Array  # [b, k, 2], average-pooled 4x4.
  # [b, e, d] where keys are d principal components of e features; None: they are
  # the features.
  basis: Array | None = None


class Guidance(NamedTuple):
  """What the correspondence subnet tells the colorizer of a frame."""

  warped_ab: Array  # [b, h, w, 2]
  confidence: Array  # [b, h, w, 1], in [-1, 1]
