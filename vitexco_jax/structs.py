"""Named tuples of arrays that several modules share.

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
  """A batch of training samples from the data pipeline."""

  rgb: Array  # [b, t, h, w, 3] uint8, consecutive frames.
  reference: Array  # [b, h, w, 3] uint8.
  flow: Array  # [b, t-1, h, w, 2] float32 (dx, dy) pixels, from t-1 to t.
  visible: Array  # [b, t-1, h, w, 1] uint8, 1 where the flow is reliable.
  same_video: Array  # [b] bool, the reference is a frame of the same video.
  first_frame: Array  # [b] bool, the reference is the first frame of the clip.
  # [b, t-1, h, w, 2] float32 from t to t-1; [b, t-1, 0, 0, 2] if the colorizer
  # does not use it.
  backward_flow: Array
  # [b, t, h, w, 2] float32 from each frame to the first one, if that is the
  # reference, else 0; [b, t, 0, 0, 2] if the colorizer does not use it.
  anchor_flow: Array


class Given(NamedTuple):
  """A reference in an evaluation."""

  rgb: np.ndarray  # [h, w, 3] uint8.
  frame: int | None  # Its frame number, or None if it is not in the clip.


class Reference(NamedTuple):
  """An encoded reference, computed once per clip."""

  lab: jax.Array  # [b, h, w, 3], l = L - 50.
  keys: jax.Array  # [b, k, d], phi, of unit length; shorter with a `basis`.
  ab: jax.Array  # [b, k, 2], the color, averaged over 4x4 pixels.
  # [b, e, d], d principal components of e features; None if keys are features.
  basis: jax.Array | None = None
  # [b, k/16, d], means of each 16 consecutive keys, which are a cell of 4x4
  # positions; see `models/cells.py`. None: keys are ordered row by row.
  cells: jax.Array | None = None
  # [b, k/16] bool: False: a cell that only fills the array. See `models/cells.py`.
  filled: jax.Array | None = None


class Seen(NamedTuple):
  """Outputs of the ViT and the Feature Transform."""

  features: tuple[jax.Array, ...]  # [b, h/stride, w/stride, c] per level.
  embedding: jax.Array  # [b, d], the class token of the ViT.
  # Maps of the stem, of strides 4, 8, 16, 32; without a stem there are none.
  maps: tuple[jax.Array, ...]


class Guidance(NamedTuple):
  """Candidates for the color of a frame, computed before the recurrence.

  The first two are the outputs of the correspondence subnet. The others are
  additions to the paper; None if they are not computed.
  """

  warped_ab: jax.Array  # [b, h, w, 2]
  confidence: jax.Array  # [b, h, w, 1], in [-1, 1]
  prior_ab: jax.Array | None = (
    None  # [b, h, w, 2], predicted without a reference.
  )
  # [b, h, w, 1], the expected distance in ab of the prior.
  prior_spread: jax.Array | None = None
  # [b, h, w, 1] in [0, 1], likeness to the previous frame.
  steady: jax.Array | None = None
  # [b, h, w, 3], l = L - 50, a reference that is a frame of the clip, warped.
  anchor_lab: jax.Array | None = None
  anchored: jax.Array | None = None  # [b, h, w, 1] in [0, 1], likeness to that.
