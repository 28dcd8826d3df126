"""Optical flow: direction, units, and where it is reliable."""

import itertools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage

from vitexco_jax import flow


def _texture(height, width, seed=0):
  """Returns smooth noise, which flow can follow, [h, w, 3] uint8."""
  noise = np.random.default_rng(seed).standard_normal((height, width, 3))
  smooth = ndimage.gaussian_filter(noise, (2, 2, 0))
  return np.uint8(np.clip(128 + 400 * smooth, 0, 255))


@pytest.mark.parametrize('method', ['deepflow', 'dis'])
def test_estimate_flow_points_to_the_later_position(method):
  scene = _texture(80, 112)
  earlier, later = scene[8:72, 8:104], scene[10:74, 5:101]
  # The window moves by (-3, 2), so the scene moves by (3, -2).
  estimated = flow.estimate_flow(earlier, later, method)
  assert estimated.shape == (64, 96, 2) and estimated.dtype == np.float32
  inner = estimated[12:-12, 12:-12].reshape(-1, 2)
  np.testing.assert_allclose(np.median(inner, 0), [3, -2], atol=0.2)
  assert np.percentile(np.abs(inner - [3, -2]), 90) < 0.3
  # By the formula of the docstring, it warps `later` to `earlier`.
  warped = flow.warp(jnp.float32(later)[None], jnp.asarray(estimated)[None])[0]
  inner = (slice(8, -8), slice(8, -8))
  assert np.abs(warped - earlier)[inner].mean() < 4
  assert np.abs(np.float32(later) - earlier)[inner].mean() > 20


def test_backward_flow_points_to_the_earlier_position():
  scene = cv2.cvtColor(_texture(80, 112), cv2.COLOR_RGB2GRAY)[..., None]
  earlier, later = scene[8:72, 8:104], scene[10:74, 5:101]
  estimated = flow.backward_flow(later, earlier)
  inner = estimated[12:-12, 12:-12].reshape(-1, 2)
  np.testing.assert_allclose(np.median(inner, 0), [-3, 2], atol=0.2)


def test_flow_to_a_reference_follows_larger_motion_than_one_estimate():
  """A window over a scene moves by 4 pixels per frame, 60 in total."""
  scene = cv2.cvtColor(_texture(64, 160), cv2.COLOR_RGB2GRAY)[..., None]
  window = [
    np.ascontiguousarray(scene[:, 4 * t : 4 * t + 96]) for t in range(16)
  ]
  estimated = np.zeros((64, 96, 2), np.float32)
  for before, gray in itertools.pairwise(window):
    backward = flow.backward_flow(gray, before)
    estimated = flow.flow_to_reference(gray, window[0], backward, estimated)
  seen = estimated[8:-8, 8:28].reshape(
    -1, 2
  )  # Visible in the first frame, too.
  np.testing.assert_allclose(np.median(seen, 0), [60, 0], atol=0.2)
  assert np.percentile(np.abs(seen - [60, 0]), 90) < 0.5
  at_once = flow.backward_flow(window[-1], window[0])[8:-8, 8:28]
  assert np.abs(np.median(at_once.reshape(-1, 2), 0) - [60, 0]).max() > 5


def test_estimate_flow_rejects_an_unknown_method():
  with pytest.raises(ValueError, match='raft'):
    flow.estimate_flow(_texture(32, 32), _texture(32, 32), 'raft')


def _slow_visible(forward, backward):
  """Computes the formula pixel by pixel."""
  height, width = forward.shape[:2]
  visible = np.zeros((height, width, 1), np.uint8)
  for y in range(height):
    for x in range(width):
      w = forward[y, x].astype(float)
      at = np.array([y + w[1], x + w[0]])
      if not (0 <= at[0] <= height - 1 and 0 <= at[1] <= width - 1):
        continue
      v = np.array(
        [
          ndimage.map_coordinates(backward[..., c], at[:, None], order=1)[0]
          for c in range(2)
        ]
      )
      if (w + v) @ (w + v) >= 0.01 * (w @ w + v @ v) + 0.5:
        continue
      north, south = max(y - 1, 0), min(y + 1, height - 1)
      west, east = max(x - 1, 0), min(x + 1, width - 1)
      down = (forward[south, x] - forward[north, x]) / (south - north)
      across = (forward[y, east] - forward[y, west]) / (east - west)
      if down @ down + across @ across > 0.01 * (w @ w) + 0.002:
        continue
      visible[y, x] = 1
  return visible


def test_visible_mask_agrees_with_the_formula():
  rng = np.random.default_rng(1)
  bumps = rng.standard_normal((2, 24, 32, 2))
  forward, wobble = (
    15 * ndimage.gaussian_filter(bump, (6, 6, 0)) for bump in bumps
  )
  forward = np.float32(forward + [2, -1])
  backward = np.float32(-forward + 0.6 * wobble)
  mask = flow.visible_mask(forward, backward)
  expected = _slow_visible(forward, backward)
  assert 0.1 < expected.mean() < 0.9
  # OpenCV samples in steps of 1/32 pixel, so a few pixels may differ.
  assert np.mean(mask != expected) < 0.01


def test_visible_mask_by_hand():
  still = np.zeros((16, 20, 2), np.float32)
  assert flow.visible_mask(still, still).all()

  moving = still + np.float32([3, 0])
  mask = flow.visible_mask(moving, -moving)
  assert mask.shape == (16, 20, 1) and mask.dtype == np.uint8
  assert mask[:, :17].all() and not mask[:, 17:].any()  # 17 + 3 is outside.

  assert not flow.visible_mask(moving, moving).any()  # They do not cancel.

  half = still.copy()
  half[:, 10:, 1] = (
    0.5  # A step of 0.5: 0.25^2 is above the bound on both sides.
  )
  boundary = flow.visible_mask(half, -half)[..., 0]
  assert not boundary[:8, 9:11].any()
  assert boundary[:8, :9].all() and boundary[:8, 11:].all()


def test_resize_flow_scales_the_vectors():
  scene = _texture(64, 96)
  constant = np.zeros((64, 96, 2), np.float32) + np.float32([6, 4])
  resized = flow.resize_flow(constant, (32, 24))
  assert resized.shape == (32, 24, 2) and resized.dtype == np.float32
  np.testing.assert_allclose(resized, np.broadcast_to([1.5, 2.0], (32, 24, 2)))
  np.testing.assert_allclose(flow.resize_flow(resized, (64, 96)), constant)

  # Warping, then shrinking, is shrinking, then warping by the shrunk flow.
  def shrink(image):
    return cv2.resize(np.float32(image), (48, 32), interpolation=cv2.INTER_AREA)

  def warp(image, motion):
    return flow.warp(jnp.float32(image)[None], jnp.asarray(motion)[None])[0]

  late = shrink(np.asarray(warp(scene, constant)))
  early = warp(shrink(scene), flow.resize_flow(constant, (32, 48)))
  inner = (slice(-3), slice(-4))  # Outside, the border is repeated.
  np.testing.assert_allclose(late[inner], early[inner], atol=1e-3)


def test_warp_agrees_with_scipy():
  rng = np.random.default_rng(2)
  image = rng.standard_normal((2, 9, 13, 3)).astype(np.float32)
  motion = (4 * rng.standard_normal((2, 9, 13, 2))).astype(np.float32)
  warped = jax.jit(flow.warp)(image, motion)
  y, x = np.mgrid[:9, :13]
  for b in range(2):
    at = [y + motion[b, ..., 1], x + motion[b, ..., 0]]
    for c in range(3):
      expected = ndimage.map_coordinates(
        image[b, ..., c], at, order=1, mode='nearest'
      )
      np.testing.assert_allclose(warped[b, ..., c], expected, atol=1e-5)


def test_warp_by_whole_pixels_moves_the_picture():
  image = np.arange(20, dtype=np.float32).reshape(1, 4, 5, 1)
  right = np.zeros((1, 4, 5, 2), np.float32) + np.float32([1, 0])
  warped = flow.warp(image, right)[0, ..., 0]
  # The result at x is the image at x + 1; the last column is repeated.
  np.testing.assert_array_equal(warped, image[0, :, [1, 2, 3, 4, 4], 0].T)


def test_warp_has_the_right_gradients():
  rng = np.random.default_rng(3)
  image = jnp.float32(rng.standard_normal((1, 5, 6, 2)))
  # Away from whole pixels, where bilinear sampling has a kink.
  motion = jnp.float32(rng.integers(-2, 2, (1, 5, 6, 2)) + 0.4)
  check_grads(
    jax.jit(flow.warp), (image, motion), order=1, modes=['rev'], rtol=1e-2
  )


def test_warp_in_bfloat16_samples_at_exact_positions():
  image = jnp.broadcast_to(jnp.arange(300, dtype=jnp.bfloat16) % 7, (1, 2, 300))
  still = jnp.zeros((1, 2, 300, 2))
  warped = jax.jit(flow.warp)(image[..., None], still)[..., 0]
  assert warped.dtype == jnp.bfloat16
  np.testing.assert_array_equal(warped, image)


def test_warp_rejects_a_flow_of_another_size():
  with pytest.raises(ValueError, match='does not fit'):
    flow.warp(jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 5, 2)))
