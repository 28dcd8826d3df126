"""Optical flow on the device, on textures whose motion is known exactly."""

import cv2
import jax
import numpy as np
import pytest

from vitexco_jax import flow
from vitexco_jax.models import optical_flow

_SIZE = 44, 60  # The coarsest level has odd sides.
_FRAMES = 4

backward_flows = jax.jit(optical_flow.backward_flows)
flows_to_reference = jax.jit(optical_flow.flows_to_reference)


def _grid():
  """Returns positions of pixels as (x, y, 1), [h, w, 3]."""
  y, x = np.mgrid[: _SIZE[0], : _SIZE[1]]
  return np.stack([x, y, np.ones_like(x)], -1).astype(float)


def _waves(position, seed=0, channels=1):
  """A smooth texture at any positions [..., >= 2]: [..., channels], about -40 to 40."""
  rng = np.random.default_rng(seed)
  directions = rng.normal(size=(40, 2))
  lengths = rng.uniform(5, 30, (40, 1))
  waves = 2 * np.pi * directions / lengths
  waves /= np.linalg.norm(directions, axis=-1, keepdims=True)
  phases = rng.uniform(0, 2 * np.pi, 40)
  heights = rng.normal(size=(40, channels))
  return 3 * np.sin(position[..., :2] @ waves.T + phases) @ heights


def _around_center(zoom=1.0, degrees=0.0, shift=(0.0, 0.0)):
  """Returns a matrix [3, 3] of positions (x, y, 1)."""
  y, x = (side / 2 for side in _SIZE)
  matrix = np.eye(3)
  matrix[:2] = cv2.getRotationMatrix2D((x, y), degrees, zoom)
  matrix[:2, 2] += shift
  return matrix


_MOTIONS = (
  _around_center(shift=(2.5, -1.25)),
  _around_center(zoom=1.05, shift=(1, 0)),
  _around_center(degrees=4, shift=(0, -1)),
)


@pytest.fixture(scope='module')
def clip():
  """Four frames, [4, h, w, 1], and matrices of their positions in the scene."""
  places = [np.eye(3)]
  for motion in _MOTIONS:
    places.append(places[-1] @ motion)
  frames = [_waves(_grid() @ place.T) for place in places]
  return np.float32(frames), places


def _true_flow(place, other):
  """The flow from a frame to another one: both show the scene at these places."""
  grid = _grid()
  return (grid @ (np.linalg.inv(other) @ place).T - grid)[..., :2]


def _errors(estimated, expected):
  """Returns the length of the error where the flow stays inside."""
  inside = flow.stays_inside(np.float32(expected))
  return np.linalg.norm(estimated - expected, axis=-1)[inside]


def test_shift_zoom_and_rotation(clip):
  frames, places = clip
  estimated = np.asarray(backward_flows(frames))
  assert estimated.shape == (3, *_SIZE, 2)
  for t in range(3):
    expected = _true_flow(places[t + 1], places[t])
    assert np.linalg.norm(expected, axis=-1).mean() > 1
    errors = _errors(estimated[t], expected)
    assert errors.mean() < 0.12 and np.percentile(errors, 99) < 0.5


def test_the_flow_to_a_reference_does_not_add_up_errors(clip):
  frames, places = clip
  true = [_true_flow(places[t + 1], places[t]) for t in range(3)]
  wrong = np.float32(true) + 0.3
  start = np.zeros((*_SIZE, 2), np.float32)
  estimated = flows_to_reference(frames[1:], frames[0], wrong, start)
  for t in range(3):
    errors = _errors(estimated[t], _true_flow(places[t + 1], places[0]))
    assert errors.mean() < 0.12 and np.percentile(errors, 99) < 0.5


def test_the_flow_to_a_reference_follows_large_motion():
  """A shift of 4 pixels per frame, 20 in total, of waves of 5 to 30 pixels."""
  motion = _around_center(shift=(4, 0))
  places = [np.linalg.matrix_power(motion, t) for t in range(7)]
  frames = np.float32([_waves(_grid() @ place.T) for place in places])
  steps = np.broadcast_to(np.float32((4, 0)), (3, *_SIZE, 2))
  total = np.zeros((*_SIZE, 2), np.float32)
  for begin in (1, 4):
    block = frames[begin : begin + 3]
    *_, total = flows_to_reference(block, frames[0], steps, total)
  expected = _true_flow(places[6], places[0])
  assert _errors(total, expected).mean() < 0.2
  # Without the start, the texture repeats too often.
  (lost, *_) = backward_flows(frames[[0, 6, 0, 6]])
  assert _errors(lost, expected).mean() > 2


def test_colors_are_propagated_as_well_as_by_opencv(clip):
  frames, places = clip
  ab = [_waves(_grid() @ place.T, seed=1, channels=2) for place in places]
  levels = np.uint8(np.round((frames + 50) * 2.55))
  estimated = backward_flows(frames)
  for t in range(3):
    dis = flow.backward_flow(levels[t + 1], levels[t])
    inside = flow.stays_inside(np.float32(_true_flow(places[t + 1], places[t])))
    ours, theirs, still = (
      np.square(flow.warp(np.float32(ab[t])[None], x[None])[0] - ab[t + 1])[
        inside
      ].mean()
      for x in (np.asarray(estimated[t]), dis, np.zeros_like(dis))
    )
    assert ours < 1.4 * theirs
    assert ours < 0.02 * still


def test_a_batch_equals_single_pairs(clip):
  frames, _ = clip
  whole = np.asarray(backward_flows(frames))
  for t in range(_FRAMES - 1):
    # As one program for all: the same pair three times, with the one before it.
    before, frame = frames[t : t + 2]
    alternating = np.stack([before, frame, before, frame])
    single = np.asarray(backward_flows(alternating))
    np.testing.assert_allclose(single[0], whole[t], atol=1e-3)
    np.testing.assert_allclose(single[2], whole[t], atol=1e-3)


def test_two_blocks_equal_one(clip):
  frames, _ = clip
  start = np.zeros((*_SIZE, 2), np.float32)
  steps = np.asarray(backward_flows(frames))
  whole = flows_to_reference(frames[1:], frames[0], steps, start)
  for t in range(_FRAMES - 1):
    rest = np.arange(t, t + 3).clip(max=2)  # Its first one counts.
    start, *_ = flows_to_reference(
      frames[1 + rest], frames[0], steps[rest], start
    )
    np.testing.assert_allclose(start, whole[t], atol=1e-3)


def test_nothing_moves_where_nothing_is_seen():
  frames = np.zeros((_FRAMES, *_SIZE, 1), np.float32)
  np.testing.assert_array_equal(backward_flows(frames), 0)
