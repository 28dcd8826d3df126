"""Guidance along optical flow: colors of other frames, and where they are right.

An addition to the paper, whose colorizer sees the previous frame as it is.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from vitexco_jax import flow
from vitexco_jax.models import layers, mixing, prior, references, vit
from vitexco_jax.models.correspondence import STRIDE
from vitexco_jax.structs import Guidance, Reference, Seen


class Motion(NamedTuple):
  """How far colors are propagated; see `mixing.trust` for tolerances."""

  previous_tolerance: float = 0.1  # Of the likeness to the previous frame.
  anchor_tolerance: float = 0.2  # The same, to an anchor.
  flow_alpha: float = 10.0  # Smoothing of the flow; see `flow.backward_flow`.


class Anchor(NamedTuple):
  """The first reference, if it is a frame of the clip."""

  lab: jax.Array  # [b, h, w, 3], l = L - 50.
  flow: jax.Array  # [b, t, h, w, 2], (dx, dy) in pixels, from each frame to it.


class Matcher(prior.Predictor, Protocol):
  """What guidance along optical flow needs of a bound `Generator`."""

  motion: Motion
  levels: tuple[int, ...]

  @property
  def has_prior(self) -> bool:
    """Whether there are colors without a reference."""

  def encode_frames(self, luminance: jax.Array, train: bool) -> jax.Array:
    """Computes the queries of frames."""

  def make_queries(self, seen: Seen, shape: Sequence[int]) -> jax.Array:
    """Computes the queries of frames from the output of `see`."""

  def match(self, queries: jax.Array, reference: Reference) -> Guidance:
    """Matches the queries with a reference."""


def guide_along(
  generator: Matcher,
  luminance: jax.Array,
  reference: Reference | None,
  backward_flow: jax.Array | None = None,
  anchor: Anchor | None = None,
  scale: int = 1,
  train: bool = False,
) -> Guidance:
  """Computes all candidates for the colors of frames, and their likeness.

  Args:
    generator: a bound `Generator`; uses the tolerances of `motion`.
    luminance: [b, 1 + t, h, w, 1], L - 50, of the previous frame and t frames.
    reference: one for each clip, or several from `references.combine`; None:
      the prior's colors replace the warped ones, and their confidence falls with
      their spread.
    backward_flow: [b, t, scale*h, scale*w, 2], (dx, dy) in pixels from each
      frame to the previous one; None: no likeness to that.
    anchor: of the size of the flow; not without a reference.
    scale: size of the flow relative to the frames.
    train: whether to apply dropout (rng `dropout`).

  Returns:
    Guidance of the t frames, fields [b, t, scale*h, scale*w, c].
  """
  queries, colors = extract(generator, luminance, train)
  colors = jax.tree.map(lambda x: x[:, 1:], colors)
  return guide_extracted(
    generator, queries, colors, reference, backward_flow, anchor, scale
  )


def guide_extracted(
  generator: Matcher,
  queries: jax.Array,
  colors: prior.PriorColor | None,
  reference: Reference | None,
  backward_flow: jax.Array | None = None,
  anchor: Anchor | None = None,
  scale: int = 1,
) -> Guidance:
  """Does what `guide_along` does, from the results of `extract`.

  Args:
    generator: see `guide_along`, as all others.
    queries: [b, 1 + t, h/4, w/4, d], of the previous frame and t frames.
    colors: of the t frames; None without a prior.
    reference: one for each clip, or None.
    backward_flow: from each frame to the previous one, or None.
    anchor: of the size of the flow, or None.
    scale: size of the flow relative to the frames.
  """
  size = tuple(STRIDE * scale * side for side in queries.shape[2:4])
  colors = jax.tree.map(lambda x: _finer(x, size), colors)
  if reference is None:
    assert colors is not None
    settings = generator.prior_net
    confidence = mixing.trust(colors.spread, settings.unsure_spread)
    guidance = Guidance(colors.ab, confidence)
    best: jax.Array | float = settings.same_cosine
  else:
    cells = generator.match(queries[:, 1:], reference)
    best = cells.confidence
    guidance = jax.tree.map(lambda x: _finer(x, size), cells)
  if colors is not None:
    guidance = guidance._replace(prior_ab=colors.ab, prior_spread=colors.spread)
  like = functools.partial(likeness, confidence=best, stride=STRIDE * scale)
  if backward_flow is not None:
    # With all features: the components of the reference miss what only the
    # frames show.
    before, frames = queries[:, :-1], queries[:, 1:]
    tolerance = generator.motion.previous_tolerance
    steady = like(frames, before, backward_flow, tolerance=tolerance)
    guidance = guidance._replace(steady=steady)
  if anchor is None or reference is None:
    return guidance
  frames = references.project(queries[:, 1:], reference)
  n, m = frames.shape[2:4]
  keys = references.first_keys(reference, (n, m))[:, None]
  keys = jnp.broadcast_to(keys, frames.shape)
  tolerance = generator.motion.anchor_tolerance
  anchored = like(frames, keys, anchor.flow, tolerance=tolerance)
  b, t, h, w, _ = anchor.flow.shape
  lab = jnp.broadcast_to(anchor.lab[:, None], (b, t, h, w, 3))
  warped = flow.warp(
    lab.reshape(b * t, h, w, 3), anchor.flow.reshape(b * t, h, w, 2)
  )
  return guidance._replace(
    anchor_lab=warped.reshape(lab.shape), anchored=anchored
  )


def extract(
  generator: Matcher, luminance: jax.Array, train: bool = False
) -> tuple[jax.Array, prior.PriorColor | None]:
  """Computes what depends on single frames only.

  Args:
    generator: a bound `Generator`.
    luminance: [b, t, h, w, 1], L - 50; h and w multiples of 16.
    train: whether to apply dropout (rng `dropout`).

  Returns:
    Queries and the prior's colors, if any, [b, t, h/4, w/4, c].
  """
  if not generator.has_prior:
    return generator.encode_frames(luminance, train), None
  b, t, h, w, _ = luminance.shape
  pictures = luminance.reshape(b * t, h, w, 1)
  levels = tuple(sorted({*generator.levels, *prior.LEVELS}))
  seen, colors = prior.see_and_predict(
    generator, vit.gray(pictures), pictures, levels, train
  )
  features = tuple(seen.features[levels.index(x)] for x in generator.levels)
  queries = generator.make_queries(
    seen._replace(features=features), luminance.shape
  )
  return queries, jax.tree.map(lambda x: x.reshape(b, t, *x.shape[1:]), colors)


def _finer(x: jax.Array, size: Sequence[int]) -> jax.Array:
  """Interpolates a map [b, t, n, m, c]: [b, t, *size, c]."""
  b, t, _, _, c = x.shape
  x = x.reshape(b * t, *x.shape[2:])
  return jax.image.resize(x, (b * t, *size, c), 'bilinear').reshape(
    b, t, *size, c
  )


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
    confidence: [b, t, n, m, 1], from matching with the reference, or one number
      for all positions.
    stride: pixels of the flow per query.
    tolerance: difference of cosines at which the likeness falls to 1/e.

  Returns:
    [b, t, h, w, 1] in [0, 1].
  """
  b, t, h, w, _ = flow_to_others.shape

  def flat(x: jax.Array) -> jax.Array:
    return x.reshape(b * t, *x.shape[2:])

  steps = layers.average_pool(flat(flow_to_others), stride) / stride
  warped = flow.warp(flat(others), steps)
  similarity = (flat(frames) * warped).sum(-1, keepdims=True)
  if not isinstance(confidence, float):
    confidence = flat(confidence)
  like = mixing.trust(jnp.maximum(confidence - similarity, 0.0), tolerance)
  return _finer(like.reshape(b, t, *like.shape[1:]), (h, w))
