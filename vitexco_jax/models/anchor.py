"""The anchor: a frame of the clip whose true colors are known.

An addition to the paper. If a reference is a frame of the clip, optical flow to
it gives its colors directly, however far away it is in time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vitexco_jax import flow
from vitexco_jax.models import mixing


class Anchor(NamedTuple):
  """A colored frame of the clip, and the optical flow to it."""

  lab: jax.Array  # [b, h, w, 3], l = L - 50.
  flow: jax.Array  # [b, t, h, w, 2], (dx, dy) in pixels from each frame.
  weight: jax.Array  # [b, t, h, w, 1] in [0, 1], where lightness is equal.


def mix(
  ab: jax.Array, luminance: jax.Array, anchor: Anchor, tolerance: float = 5.0
) -> jax.Array:
  """Averages the predicted colors of one frame and those of the anchor.

  The anchor is warped to the frame. Its weight falls with the difference in
  lightness, so it is small where the flow is wrong or the anchor is occluded.

  Args:
    ab: [b, h, w, 2], predicted.
    luminance: [b, h, w, 1], L - 50.
    anchor: with the `flow` [b, h, w, 2] and `weight` [b, h, w, 1] of the frame.
    tolerance: difference in L at which the weight falls to 1/e.

  Returns:
    ab, [b, h, w, 2].
  """
  warped_lab = flow.warp(anchor.lab, anchor.flow)
  difference = jnp.abs(luminance - warped_lab[..., :1])
  weight = anchor.weight * mixing.trust(difference, tolerance)
  return mixing.mix(weight, warped_lab[..., 1:], ab)
