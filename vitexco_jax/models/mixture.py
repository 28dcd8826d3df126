"""The colorization subnet as a mixture of candidate colors.

An alternative to the U-Net of the paper (Sec. III-C) that a CPU can afford. Each
pixel has four candidates:

  warped    color of the best match in the reference (Sec. III-B)
  previous  color of the previous frame, warped by optical flow
  anchor    color of a reference that is a frame of the clip, warped by optical flow
  prior     color predicted without a reference

A network at the stride of the matching sees the candidates and what speaks for
them, and predicts the squared error of each. Weights are inverse to these errors,
as in a Kalman filter. The error that remains is carried to the next frame with the
colors, so colors that were right once are kept where the matching is unsure, and
colors that were guessed are given up when something better appears.

Without the network, rules decide: optical flow is right where the lightness is
equal and the features are similar.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax.models import layers, mixing
from vitexco_jax.structs import Guidance

CARRIED = 1  # Channels that are carried to the next frame after ab.
_SCALE = 20.0  # Typical difference of two colors, and of a residual.
_GAIN = 3.0  # The output layer starts at zero; this lets it learn faster.
_LOG_ERRORS = (-2.0, 9.0)  # Range of the logarithm of a squared error in ab.


class Evidence(NamedTuple):
  """What speaks for the candidates of a frame, each [b, h, w, 1]."""

  exists: jax.Array  # 1 if there is a previous frame, else 0.
  previous_difference: jax.Array  # In lightness, to the warped previous frame.
  anchor_difference: jax.Array  # The same, to the warped anchor.
  previous: jax.Array  # Trust in the previous frame by the rules, in [0, 1].
  anchor: jax.Array  # Trust in the anchor by the rules, in [0, 1].


class _Complete(NamedTuple):
  """`Guidance` without None; see `_complete`."""

  warped_ab: jax.Array
  confidence: jax.Array
  prior_ab: jax.Array
  prior_spread: jax.Array
  steady: jax.Array
  anchor_lab: jax.Array
  anchored: jax.Array


class Mixture(nn.Module):
  """One step of the recurrence: mixes the candidates of a frame.

  Attributes:
    channels: of the network; 0: no network.
    previous_weight: trust in the previous frame where it is surely right.
    previous_tolerance: difference in lightness at which that trust falls to 1/e.
    anchor_weight: as `previous_weight`, of the anchor; 0: it is not used.
    anchor_tolerance: as `previous_tolerance`, of the anchor.
    dtype: of the convolutions.
  """

  channels: int
  previous_weight: float
  previous_tolerance: float
  anchor_weight: float
  anchor_tolerance: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    luminance: jax.Array,
    guidance: Guidance,
    previous: jax.Array,
    stride: int,
  ) -> jax.Array:
    """Predicts the color of one frame.

    Args:
      luminance: [b, h, w, 1], L - 50; h and w multiples of `stride`.
      guidance: of the frame, each field [b, h, w, c], or None: there is no such
        candidate.
      previous: [b, h, w, 4], warped to this frame: Lab of the previous frame,
        l = L - 50, and the logarithm of the squared error of its ab. Lab is 0 if
        there is no previous frame.
      stride: pixels per position of the network.

    Returns:
      [b, h, w, 3] float32: ab, and the logarithm of its squared error.
    """
    known = _complete(guidance, luminance)
    evidence = self._weigh(luminance, known, previous)
    if not self.channels:
      warped_ab, anchor_ab = known.warped_ab, known.anchor_lab[..., 1:]
      ab = mixing.mix(evidence.previous, previous[..., 1:3], warped_ab)
      ab = mixing.mix(evidence.anchor, anchor_ab, ab)
      return jnp.concatenate([ab, jnp.zeros_like(luminance)], -1)
    candidates = [
      known.warped_ab,
      evidence.exists * previous[..., 1:3],
      (known.anchored > 0) * known.anchor_lab[..., 1:],
      known.prior_ab,
    ]
    carried_error = evidence.exists * previous[..., 3:]
    output = self._network(
      [
        luminance / 50,
        known.confidence,
        known.steady * evidence.exists,
        known.anchored,
        evidence.exists,
        evidence.previous,
        evidence.anchor,
        evidence.previous_difference / 10,
        evidence.anchor_difference / 10,
        carried_error / 4,
        jnp.log(known.prior_spread / _SCALE + 0.01),
      ],
      candidates,
      stride,
    )
    errors = self._expect(known, evidence, carried_error)
    errors = jnp.clip(errors + output[..., :4], *_LOG_ERRORS)
    possible = jnp.concatenate(
      [
        jnp.ones_like(luminance),
        evidence.exists,
        known.anchored,
        known.prior_spread,
      ],
      -1,
    )
    logits = jnp.where(possible > 0, output[..., 4:8] - errors, -jnp.inf)
    weights = nn.softmax(logits)
    ab = weights[..., :1] * candidates[0]
    for i, candidate in enumerate(candidates[1:], 1):
      ab += weights[..., i : i + 1] * candidate
    # The errors of the candidates have common causes: averaging removes none.
    remaining = (weights * jnp.exp(errors)).sum(-1, keepdims=True)
    return jnp.concatenate(
      [ab + _SCALE / _GAIN * output[..., 8:], jnp.log(remaining)], -1
    )

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

  def _expect(
    self, guidance: _Complete, evidence: Evidence, carried_error: jax.Array
  ) -> jax.Array:
    """Guesses the log of each squared error, which the network corrects."""
    changed = 2.0 * jnp.log(1.02 - evidence.previous)
    return jnp.concatenate(
      [
        5.0 - 4.0 * guidance.confidence,
        jnp.logaddexp(carried_error, 5.0 + changed),
        6.0 - 7.0 * evidence.anchor,
        5.0 + jnp.log(guidance.prior_spread / _SCALE + 0.01),
      ],
      -1,
    )

  def _network(
    self,
    evidence: Sequence[jax.Array],
    candidates: Sequence[jax.Array],
    stride: int,
  ) -> jax.Array:
    """Corrects log errors and weights, and adds a residual: [b, h, w, 10]."""
    warped, previous, anchor, prior = candidates
    pairs = (
      (warped, previous),
      (warped, prior),
      (previous, prior),
      (anchor, previous),
      (anchor, warped),
    )
    distances = [
      jnp.sqrt(jnp.square(x - y).sum(-1, keepdims=True) + 0.01) / _SCALE
      for x, y in pairs
    ]
    inputs = [*evidence, *(ab / 40 for ab in candidates), *distances]
    x = layers.average_pool(jnp.concatenate(inputs, -1), stride)
    x = nn.Conv(self.channels, (3, 3), dtype=self.dtype, name='input')(x)
    x = layers.Block(self.dtype, name='fine0')(nn.gelu(x))
    # Explicit padding: that of XLA depends on whether the size is even.
    y = jnp.pad(nn.gelu(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = nn.Conv(
      self.channels, (3, 3), 2, padding='VALID', dtype=self.dtype, name='halve'
    )(y)
    for i in range(2):
      y = layers.Block(self.dtype, name=f'coarse{i}')(y)
    y = nn.Dense(self.channels, dtype=self.dtype, name='double')(y)
    x += jax.image.resize(y, x.shape, 'bilinear')
    x = layers.Block(self.dtype, name='fine1')(x)
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
    x = nn.Dense(10, kernel_init=nn.initializers.zeros, name='output')(
      nn.gelu(x).astype(jnp.float32)
    )
    x = jax.image.resize(x, (*warped.shape[:3], 10), 'bilinear')
    return _GAIN * x


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
