"""Motion: colors propagated along optical flow, where the features agree.

An addition to the paper, whose colorizer sees the previous frame as it is.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vitexco_jax import flow
from vitexco_jax.models import layers, mixing, references
from vitexco_jax.models.correspondence import STRIDE
from vitexco_jax.structs import Guidance, Reference


class Motion(NamedTuple):
  """How far colors are propagated; see `mixing.trust` for tolerances."""

  previous_tolerance: float = (
    0.1  # Of likeness to the previous frame, a cosine.
  )
  anchor_tolerance: float = 0.2  # The same, to an anchor.
  anchor_lightness: float = 5.0  # Of the difference to an anchor, in L.
  flow_alpha: float = 10.0  # Smoothing of the flow; see `flow.backward_flow`.


def guide_along(
  generator: Any,
  luminance: jax.Array,
  reference: Reference,
  backward_flow: jax.Array | None = None,
  anchor_flow: jax.Array | None = None,
  scale: int = 1,
) -> tuple[Guidance, jax.Array | None, jax.Array | None]:
  """Computes `Generator.guide`, and the likeness along optical flow.

  Args:
    generator: a bound `Generator`; uses the tolerances of `motion`.
    luminance: [b, 1 + t, h, w, 1], L - 50, of the previous frame and t frames.
    reference: one for each clip, or several from `references.combine`. `lab` has
      the size of the first one.
    backward_flow: [b, t, scale*h, scale*w, 2], (dx, dy) in pixels from each
      frame to the previous one.
    anchor_flow: the same, from each frame to the first reference.
    scale: size of the flow relative to the frames.

  Returns:
    Guidance of the t frames; likeness to the previous frame and to the first
    reference, [b, t, scale*h, scale*w, 1] each, or None without that flow.
  """
  queries = generator.encode_frames(luminance)
  guidance = generator.match(queries[:, 1:], reference)
  like = functools.partial(
    likeness, confidence=guidance.confidence, stride=STRIDE * scale
  )
  steady = anchored = None
  if backward_flow is not None:
    # With all features: the components of the reference miss what only the
    # frames show.
    before, frames = queries[:, :-1], queries[:, 1:]
    tolerance = generator.motion.previous_tolerance
    steady = like(frames, before, backward_flow, tolerance=tolerance)
  if anchor_flow is not None:
    frames = references.project(queries[:, 1:], reference)
    keys = references.first_keys(reference, frames.shape[2:4])[:, None]
    keys = jnp.broadcast_to(keys, frames.shape)
    tolerance = generator.motion.anchor_tolerance
    anchored = like(frames, keys, anchor_flow, tolerance=tolerance)
  return guidance, steady, anchored


def likeness(
  frames: jax.Array,
  others: jax.Array,
  flow_to_others: jax.Array,
  confidence: jax.Array | float,
  stride: int,
  tolerance: float,
) -> jax.Array:
  """Computes whether other pictures show the same as frames, along the flow.

  The likeness is 1 if a frame is as similar to the other picture as to the best
  match in its reference, and falls as it is less similar. It detects occlusion
  that a comparison of lightness misses.

  Args:
    frames: [b, t, n, m, d], queries.
    others: [b, t, n, m, d], queries or keys.
    flow_to_others: [b, t, h, w, 2], (dx, dy) in pixels.
    confidence: [b, t, 4*n, 4*m, 1], from matching with the reference, or one
      number for all positions.
    stride: pixels of the flow per query.
    tolerance: difference of cosines at which the likeness falls to 1/e.

  Returns:
    [b, t, h, w, 1] in [0, 1].
  """
  b, t, h, w, _ = flow_to_others.shape

  def flat(x):
    return x.reshape(b * t, *x.shape[2:])

  steps = layers.average_pool(flat(flow_to_others), stride) / stride
  warped = flow.warp(flat(others), steps)
  similarity = (flat(frames) * warped).sum(-1, keepdims=True)
  if not isinstance(confidence, float):
    confidence = layers.average_pool(flat(confidence), STRIDE)
  like = mixing.trust(jnp.maximum(confidence - similarity, 0.0), tolerance)
  like = jax.image.resize(like, (b * t, h, w, 1), 'bilinear')
  return like.reshape(b, t, h, w, 1)


def replace_unsteady(
  previous_lab: jax.Array, steady: jax.Array, warped_ab: jax.Array
) -> jax.Array:
  """Uses the matched colors where the previous frame shows something else.

  Args:
    previous_lab: [b, h, w, 3], the previous frame on the grid of this one. All
      zeros mean that there is none; they stay zero.
    steady: [b, h, w, 1] in [0, 1], the weight of the previous colors.
    warped_ab: [b, h, w, 2], from `Guidance`.

  Returns:
    [b, h, w, 3].
  """
  exists = jnp.any(previous_lab != 0, (1, 2, 3), keepdims=True)
  steady = jnp.where(exists, steady, 1.0)
  previous_l, previous_ab = jnp.split(previous_lab, [1], -1)
  previous_ab = mixing.mix(steady, previous_ab, warped_ab)
  return jnp.concatenate([previous_l, previous_ab], -1)
