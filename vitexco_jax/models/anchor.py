"""The anchor: a frame of the clip whose true colors are known.

An addition to the paper. If a reference is a frame of the clip, optical flow to
it gives its colors directly, however far away it is in time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vitexco_jax import flow

_LIGHTNESS_SCALE = 5.0  # Difference in L at which the weight falls to 1/e.


class Anchor(NamedTuple):
  """A colored frame of the clip, and the optical flow to it."""

  lab: jax.Array  # [b, h, w, 3], l = L - 50.
  flow: jax.Array  # [b, t, h, w, 2], (dx, dy) in pixels from each frame.
  weight: jax.Array  # [b, t, h, w, 1] in [0, 1], where lightness is equal.


def mix(ab: jax.Array, luminance: jax.Array, anchor: Anchor) -> jax.Array:
  """Averages the predicted colors of one frame and those of the anchor.

  The anchor is warped to the frame and has the weight `weight` * exp(-d / 5),
  where d is the difference in lightness. It is small where the flow is wrong or
  the anchor is occluded.

  Args:
    ab: [b, h, w, 2], predicted.
    luminance: [b, h, w, 1], L - 50.
    anchor: with the `flow` [b, h, w, 2] and `weight` [b, h, w, 1] of the frame.

  Returns:
    ab, [b, h, w, 2].
  """
  warped_lab = flow.warp(anchor.lab, anchor.flow)
  difference = jnp.abs(luminance - warped_lab[..., :1])
  weight = anchor.weight * jnp.exp(-difference / _LIGHTNESS_SCALE)
  return weight * warped_lab[..., 1:] + (1.0 - weight) * ab
