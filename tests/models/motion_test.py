"""Likeness along optical flow, and colors propagated along it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_generator
from tiny_generator import H, T, W, make_tiny, random_luminance, random_rgb

from vitexco_jax.models.motion import Anchor, likeness
from vitexco_jax.models.references import combine
from vitexco_jax.models.vitexco import colorize_clip
from vitexco_jax.structs import Guidance


@pytest.fixture(scope='module')
def variables():
  return tiny_generator.random_variables()


def test_likeness_compares_with_the_best_match():
  rng = np.random.default_rng(0)
  scene = rng.normal(size=(4, 10, 16)).astype(np.float32)
  scene /= np.linalg.norm(scene, axis=-1, keepdims=True)
  before, frame = scene[:, :8], scene[:, 2:].copy()  # Moved by two positions.
  frame[0] *= -1  # The previous frame shows nothing like it.
  motion = np.full((1, 1, 32, 64, 2), (16, 0), np.float32)  # 8 to a position.
  sure, unsure, tolerant = (
    likeness(
      jnp.asarray(frame[None, None]),
      jnp.asarray(before[None, None]),
      motion,
      jnp.full((1, 1, 4, 8, 1), confidence),
      stride=8,
      tolerance=tolerance,
    )
    for confidence, tolerance in ((1.0, 0.1), (-1.0, 0.1), (1.0, 2.0))
  )
  assert sure.shape == (1, 1, 32, 64, 1)
  np.testing.assert_allclose(sure[0, 0, 12:, :40], 1, atol=1e-3)
  assert (sure[0, 0, :4, :40] < 1e-6).all()
  np.testing.assert_allclose(unsure[..., :40, :], 1, atol=1e-3)
  # Opposite features are less similar by 2.
  np.testing.assert_allclose(tolerant[0, 0, :4, :40], np.exp(-1), atol=1e-3)


def test_the_anchor_is_the_first_of_the_references(variables):
  """Its size is smaller than that of the frames, and so it is padded."""
  generator = make_tiny()
  apply = functools.partial(generator.apply, variables)
  first = apply(random_rgb(1)[:, :, :32], method='encode_reference')
  reference = combine(
    [first, apply(random_rgb(1, seed=3), method='encode_reference')]
  )
  luminance = random_luminance(b=1, t=3)
  to_first = np.full((1, 2, 2 * H, 2 * W, 2), (8.0, 0.0), np.float32)
  back = np.zeros_like(to_first)
  lab = np.float32(np.random.default_rng(1).normal(size=(1, 2 * H, 2 * W, 3)))
  anchor = Anchor(lab, to_first)
  guidance = apply(luminance, reference, back, anchor, 2, method='guide_along')
  queries = apply(luminance, method='encode_frames')
  cells = apply(queries[:, 1:], reference, method='match')
  confidence = np.asarray(cells.confidence)[0, ..., 0]
  queries = np.asarray(queries)[0]
  keys = np.asarray(first.keys).reshape(1, 8, 8, -1)
  moved = keys[:, :, np.minimum(np.arange(12) + 1, 7)]  # By one position.
  for result, others, tolerance in (
    (guidance.steady, queries[:-1], 0.1),
    (guidance.anchored, np.repeat(moved, 2, 0), 0.2),
  ):
    alike = np.einsum('tnmd,tnmd->tnm', queries[1:], others)
    want = np.exp(-np.maximum(confidence - alike, 0) / tolerance)
    want = jax.image.resize(want, (2, 2 * H, 2 * W), 'bilinear')
    np.testing.assert_allclose(result[0, ..., 0], want, atol=1e-3)
  np.testing.assert_allclose(
    guidance.anchor_lab[0, :, :, :-8],
    np.repeat(lab[:, :, 8:], 2, 0),
    atol=1e-4,
  )
  single = apply(luminance, reference, None, anchor, 2, method='guide_along')
  assert single.steady is None
  np.testing.assert_allclose(single.anchored, guidance.anchored, atol=1e-5)


def test_the_previous_frame_is_warped_by_the_flow():
  """The flow of two pixels moves each previous frame to the right."""
  luminance = random_luminance(b=1)
  guidance = Guidance(jnp.zeros((1, T, 1)), jnp.zeros((1, T, 1)))
  first = (
    random_luminance(b=1, t=3, seed=5)
    .squeeze(-1)
    .swapaxes(1, -1)
    .swapaxes(1, 2)
  )
  flow = np.zeros((1, T, H, W, 2), np.float32)
  flow[:, :, ..., 0] = -2.0

  def record(luminance, guidance, previous_lab):
    return jnp.concatenate([luminance, previous_lab[..., :1]], -1)

  first = np.ascontiguousarray(first.reshape(1, H, W, 3))
  ab, _ = colorize_clip(record, luminance, guidance, first, backward_flow=flow)
  before = np.concatenate([first[:, None, ..., :1], luminance[:, :-1]], 1)
  np.testing.assert_allclose(
    ab[..., 2:, 1], before[..., :-2, 0], rtol=0, atol=1e-4
  )


def test_guidance_without_a_reference_is_that_of_the_prior():
  generator = make_tiny(prior={'width': 1 / 16})
  luminance = random_luminance(1)
  shapes = jax.eval_shape(generator.init, jax.random.key(0), random_rgb(1))
  rng = np.random.default_rng(3)
  variables = jax.tree.map(
    lambda x: np.float32(rng.normal(0, 0.2, x.shape)), shapes
  )
  apply = jax.jit(
    functools.partial(generator.apply, variables), static_argnames='method'
  )
  flow = np.zeros((1, T - 1, H, W, 2), np.float32)
  guidance = apply(luminance, None, flow, method='guide_along')
  single = apply(luminance[0, 1:], method='predict_color')
  size = (T - 1, H, W)
  ab = jax.image.resize(single.ab, (*size, 2), 'bilinear')
  np.testing.assert_allclose(guidance.warped_ab[0], ab, atol=1e-4)
  np.testing.assert_array_equal(guidance.prior_ab, guidance.warped_ab)
  spread = jax.image.resize(single.spread, (*size, 1), 'bilinear')
  np.testing.assert_allclose(guidance.prior_spread[0], spread, rtol=1e-4)
  np.testing.assert_allclose(
    guidance.confidence[0], np.exp(-spread / 20), atol=1e-4
  )
  assert guidance.anchored is None
  assert (guidance.steady >= 0).all() and (guidance.steady <= 1).all()
  still = np.repeat(luminance[:, :1], T, 1)
  steady = apply(still, None, flow, method='guide_along').steady
  np.testing.assert_allclose(steady, 1, atol=1e-5)
