"""The colorization subnet as a mixture of candidate colors.

An alternative to the U-Net of the paper (Sec. III-C) that a CPU can afford. Each
pixel has four candidates:

  warped    color of the best match in the reference (Sec. III-B)
  previous  color of the previous frame, warped by optical flow
  anchor    color of a reference that is a frame of the clip, warped by optical flow
  prior     color predicted without a reference

A small network predicts the squared error of each candidate, and their weights are
inverse to these errors, as in a Kalman filter. The error that remains is carried to
the next frame with the colors: colors that were right once are kept where the
matching is unsure, and guesses are given up when something better appears.

Without the network, fixed rules decide: optical flow is right where the lightness
is equal and the features are similar.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import layers, mixing
from vitexco_jax.structs import Guidance

CARRIED = 1  # Channels that are carried to the next frame after ab.
_LOG_ERRORS = (-2.0, 9.0)  # Range of the logarithm of a squared error in ab.
_SCALE = 20.0  # Typical error of ab.
_SMOOTH = 8  # Positions over which the confidence is smoothed.
_CELL = 4  # Positions, along each side, of a cell of the surroundings.
_FLAT = 4.0  # Variance of L within which smoothing does not follow edges.
_WIDTHS = (2, 4, 2)  # Cells, along each side, of the means of each layer.


class _Complete(NamedTuple):
  """`Guidance` without None; see `_complete`."""

  warped_ab: jax.Array
  confidence: jax.Array
  prior_ab: jax.Array
  prior_spread: jax.Array
  steady: jax.Array
  anchor_lab: jax.Array
  anchored: jax.Array


class Evidence(NamedTuple):
  """Evidence for the candidates of a frame, each [b, h, w, 1]."""

  exists: jax.Array  # 1 if there is a previous frame, else 0.
  previous_difference: jax.Array  # In lightness, to the warped previous frame.
  anchor_difference: jax.Array  # The same, to the warped anchor.
  previous: jax.Array  # Trust in the previous frame by the rules, in [0, 1].
  anchor: jax.Array  # Trust in the anchor by the rules, in [0, 1].


class Mixed(NamedTuple):
  """The colors of a frame, and what a network decided about its candidates.

  The candidates are in the order of the module's docstring.
  """

  color: jax.Array  # [b, h, w, 3], ab and the logarithm of its squared error.
  candidates: tuple[jax.Array, ...]  # Four of [b, h, w, 2], ab.
  log_errors: jax.Array  # [b, h, w, 4], logarithms of their squared errors.
  possible: jax.Array  # [b, h, w, 4], above 0 where there is such a candidate.


class Mixture(nn.Module):
  """One step of the recurrence: mixes the candidates of a frame.

  Attributes:
    channels: of the network; 0: no network.
    context: channels of what it sees of the surroundings of a position; 0: nothing.
    smooth: radius of the smoothing of doubtful colors, in cells of 2x2 positions;
      0: there is none.
    previous_weight: trust in the previous frame where it is surely right.
    previous_tolerance: difference in lightness at which that trust falls to 1/e.
    anchor_weight: as `previous_weight`, of the anchor; 0: it is not used.
    anchor_tolerance: as `previous_tolerance`, of the anchor.
    dtype: of the convolutions.
  """

  channels: int
  context: int
  smooth: int
  previous_weight: float
  previous_tolerance: float
  anchor_weight: float
  anchor_tolerance: float
  dtype: jnp.dtype = jnp.float32

  def __call__(
    self,
    luminance: jax.Array,
    guidance: Guidance,
    previous: jax.Array,
    stride: int,
  ) -> jax.Array:
    """Predicts the color of one frame.

    Args:
      luminance: [b, h, w, 1], L - 50; h and w multiples of 8 * `stride`.
      guidance: of the frame, each field [b, h, w, c], or None: there is no such
        candidate.
      previous: [b, h, w, 4], warped to this frame: Lab of the previous frame,
        l = L - 50, and the logarithm of the squared error of its ab. Lab is 0 if
        there is no previous frame.
      stride: pixels per position of the network, whose size must be a multiple of
        8.

    Returns:
      [b, h, w, 3] float32: ab, and the logarithm of its squared error.
    """
    if self.channels:
      return self.mix(luminance, guidance, previous, stride).color
    known = _complete(guidance, luminance)
    evidence = self._weigh(luminance, known, previous)
    warped_ab, anchor_ab = known.warped_ab, known.anchor_lab[..., 1:]
    ab = mixing.mix(evidence.previous, previous[..., 1:3], warped_ab)
    ab = mixing.mix(evidence.anchor, anchor_ab, ab)
    return jnp.concatenate([ab, jnp.zeros_like(luminance)], -1)

  @nn.compact
  def mix(
    self,
    luminance: jax.Array,
    guidance: Guidance,
    previous: jax.Array,
    stride: int,
  ) -> Mixed:
    """Does what the call does with a network, and returns how it decided."""
    known = _complete(guidance, luminance)
    evidence = self._weigh(luminance, known, previous)
    candidates = (
      known.warped_ab,
      evidence.exists * previous[..., 1:3],
      (known.anchored > 0) * known.anchor_lab[..., 1:],
      known.prior_ab,
    )
    inputs = (luminance, known, evidence, candidates, previous[..., 3:])
    judged = self._judge(
      *jax.tree.map(lambda x: layers.average_pool(x, stride), inputs)
    )
    logits, errors, doubt = (
      jax.image.resize(x, (*luminance.shape[:3], x.shape[-1]), 'bilinear')
      for x in judged
    )
    others = evidence.exists, known.anchored, known.prior_spread
    possible = jnp.concatenate((jnp.ones_like(luminance),) + others, -1)
    weights = nn.softmax(jnp.where(possible > 0, logits, -1e9))
    ab = jnp.zeros_like(known.warped_ab)
    for i, candidate in enumerate(candidates):
      ab += weights[..., i : i + 1] * candidate
    # The errors of the candidates have common causes, so averaging removes none.
    remaining = weights * jnp.exp(jnp.clip(errors, *_LOG_ERRORS))
    remaining = jnp.log(remaining.sum(-1, keepdims=True))
    if self.smooth:
      level, slope = self.param('gate', lambda _: jnp.array([-4.0, 0.5]))
      smooth = _guided(luminance, ab, remaining, 2 * stride, self.smooth)
      share = nn.sigmoid(level + slope * remaining + doubt)
      ab = mixing.mix(share, smooth, ab)
    color = jnp.concatenate([ab, remaining], -1)
    return Mixed(color, candidates, errors, possible)

  def _weigh(
    self, luminance: jax.Array, guidance: _Complete, previous: jax.Array
  ) -> Evidence:
    """Compares a frame with the warped previous frame and anchor."""
    exists = jnp.any(previous[..., :3] != 0, (1, 2, 3), keepdims=True)
    exists = exists * jnp.ones_like(luminance)
    to_previous = exists * jnp.abs(luminance - previous[..., :1])
    has_anchor = guidance.anchored > 0
    to_anchor = has_anchor * jnp.abs(luminance - guidance.anchor_lab[..., :1])
    by_previous = mixing.trust(to_previous, self.previous_tolerance)
    by_anchor = mixing.trust(to_anchor, self.anchor_tolerance)
    return Evidence(
      exists,
      to_previous,
      to_anchor,
      self.previous_weight * exists * guidance.steady * by_previous,
      self.anchor_weight * guidance.anchored * by_anchor,
    )

  def _judge(
    self,
    luminance: jax.Array,
    guidance: _Complete,
    evidence: Evidence,
    candidates: Sequence[jax.Array],
    carried_error: jax.Array,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Predicts how good the candidates are.

    Returns:
      Logits of the weights and log squared errors, [b, n, m, 4] each, and what
      is added to the logit of smoothing, [b, n, m, 1] or [..., 0].
    """
    carried_error = evidence.exists * carried_error
    expected = self._expect(guidance, evidence, carried_error)
    warped, previous, anchor, prior = candidates
    has_anchor = guidance.anchored > 0

    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
      return jnp.log(jnp.square(x - y).sum(-1, keepdims=True) + 1.0) / 3

    def chroma(ab: jax.Array) -> jax.Array:
      return jnp.log(jnp.square(ab).sum(-1, keepdims=True) + 10.0) / 4

    def everywhere(x: jax.Array) -> jax.Array:
      return jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)

    spread = _log_spread(guidance)
    smooth = layers.average_pool(guidance.confidence, _SMOOTH)
    smooth = jax.image.resize(smooth, luminance.shape, 'bilinear')
    inputs = [
      guidance.confidence,
      everywhere(guidance.confidence),
      smooth,
      spread,
      everywhere(spread),
      evidence.exists * guidance.steady,
      guidance.anchored,
      evidence.previous_difference / 10,
      evidence.anchor_difference / 10,
      carried_error / 4,
      everywhere(carried_error) / 4,
      evidence.exists * distance(warped, previous),
      distance(warped, prior),
      evidence.exists * distance(previous, prior),
      has_anchor * distance(anchor, previous),
      has_anchor * distance(anchor, warped),
      evidence.exists,
      has_anchor,
      chroma(warped),
      chroma(previous),
      chroma(prior),
      everywhere(distance(warped, prior)),
      luminance / 50,
      expected / 4,
    ]
    x = jnp.concatenate(inputs, -1)
    if self.context:
      x = jnp.concatenate([x, self._look_around(x)], -1)
    for i in range(2):
      x = nn.gelu(
        nn.Dense(self.channels, dtype=self.dtype, name=f'layer{i}')(x)
      )
    x = nn.Dense(
      8 + (self.smooth > 0), kernel_init=nn.initializers.zeros, name='output'
    )(x.astype(jnp.float32))
    errors = expected + x[..., :4]
    sharpness = jnp.exp(self.param('sharpness', nn.initializers.zeros, ()))
    preference = self.param('preference', nn.initializers.zeros, (4,))
    logits = preference + x[..., 4:8] - sharpness * errors
    return logits, errors, x[..., 8:]

  def _look_around(self, x: jax.Array) -> jax.Array:
    """Computes what surrounds each position, [b, n, m, context].

    Few positions decide well by themselves: whether a candidate is right shows in
    the region around it.

    Args:
      x: [b, n, m, c], inputs of the network.
    """
    dense = functools.partial(nn.Dense, self.context, dtype=self.dtype)
    cells = dense(name='squeeze')(layers.average_pool(x, _CELL))
    for i, width in enumerate(_WIDTHS):
      near = nn.gelu(cells)
      few = tuple(-(-side // width) for side in near.shape[1:3])
      wide = near
      for size in (few, near.shape[1:3]):
        shape = near.shape[0], *size, self.context
        wide = jax.image.resize(wide, shape, 'bilinear')
      near_and_wide = jnp.concatenate([near, wide], -1)
      cells += dense(name=f'context{i}')(near_and_wide)
    shape = *x.shape[:3], self.context
    return jax.image.resize(nn.gelu(cells), shape, 'bilinear')

  def _expect(
    self, guidance: _Complete, evidence: Evidence, carried_error: jax.Array
  ) -> jax.Array:
    """Computes expected log squared errors, [b, n, m, 4], by learned formulas.

    The error of flow grows with the difference in lightness and falls with the
    likeness, between a least and a largest error; the previous frame also has the
    error that it was given.
    """
    warped, previous, anchor, prior = (
      self.param(name, lambda _, x=values: jnp.array(x))
      for name, values in _FORMULAS.items()
    )
    level, slope, step, middle, steepness = warped
    confidence = guidance.confidence
    known = nn.sigmoid((confidence - middle) * jnp.exp(steepness))
    of_warped = level - slope * confidence - jnp.exp(step) * known

    def of_flow(
      difference: jax.Array, likeness: jax.Array, numbers: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
      level, slope, power, least, most = numbers
      error = level + slope * difference - power * jnp.log(likeness + 1e-3)
      return jnp.logaddexp(error, least), most

    moved, most = of_flow(
      evidence.previous_difference,
      evidence.exists * guidance.steady,
      previous[1:],
    )
    of_previous = jnp.minimum(
      jnp.logaddexp(carried_error + previous[0], moved), most
    )
    of_anchor = jnp.minimum(
      *of_flow(evidence.anchor_difference, guidance.anchored, anchor)
    )
    of_prior = prior[0] + prior[1] * _log_spread(guidance)
    return jnp.concatenate([of_warped, of_previous, of_anchor, of_prior], -1)


# Initial numbers of `Mixture._expect`.
_FORMULAS = {
  'warped': (5.5, 2.0, 1.5, 0.5, 2.0),
  'previous': (0.0, -2.0, 0.3, 1.0, -1.0, 7.0),
  'anchor': (1.0, 0.3, 1.0, 1.0, 7.0),
  'prior': (6.0, 1.0),
}


def _guided(
  luminance: jax.Array,
  ab: jax.Array,
  log_error: jax.Array,
  window: int,
  radius: int,
) -> jax.Array:
  """Smooths colors within the edges of the luminance.

  A guided filter (He et al. 2010) with the subsampling of He and Sun (2015). Colors
  count inversely to their expected squared errors.

  Args:
    luminance: [b, h, w, 1].
    ab: [b, h, w, 2].
    log_error: [b, h, w, 1], logarithms of the expected squared errors.
    window: pixels of a cell, along each side.
    radius: of the filter, in cells.

  Returns:
    [b, h, w, 2].
  """
  guide, colors, error = (
    layers.average_pool(x, window) for x in (luminance, ab, log_error)
  )
  trust = 1 / (jnp.exp(jnp.clip(error, *_LOG_ERRORS)) + 1)
  fields = [trust, trust * guide, trust * guide**2, trust * colors]
  fields.append(trust * guide * colors)
  side = 2 * radius + 1

  def mean(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (side, side), padding='SAME', count_include_pad=False)

  total, *sums = jnp.split(
    mean(jnp.concatenate(fields, -1)), (1, 2, 3, 5), axis=-1
  )
  of_guide, of_square, of_colors, of_product = (x / total for x in sums)
  variance = of_square - of_guide**2
  slope = (of_product - of_guide * of_colors) / (variance + _FLAT)
  offset = of_colors - slope * of_guide
  slope, offset = (
    jax.image.resize(mean(x), ab.shape, 'bilinear') for x in (slope, offset)
  )
  return slope * luminance + offset


def _log_spread(guidance: _Complete) -> jax.Array:
  return jnp.log(jnp.maximum(guidance.prior_spread, 0.01) / _SCALE)


def _complete(guidance: Guidance, luminance: jax.Array) -> _Complete:
  """Puts zeros where fields are None; without likeness, frames are alike."""
  b, h, w, _ = luminance.shape
  if guidance.steady is None:
    guidance = guidance._replace(steady=jnp.ones_like(luminance))
  channels = 2, 1, 2, 1, 1, 3, 1
  return _Complete(
    *(
      jnp.zeros((b, h, w, c)) if x is None else x
      for x, c in zip(guidance, channels, strict=True)
    )
  )
