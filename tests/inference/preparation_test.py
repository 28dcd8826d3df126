"""Blocks on the host: two blocks equal one, and flow leads to where it should."""

import cv2
import numpy as np
import pytest

from vitexco_jax.inference import guide, preparation

_SIZE = 64, 96
_SETTINGS = guide.Settings(0.98, 0.01, 0.0, 1.0)


@pytest.fixture(scope='module')
def moving():
  """Eight frames of L - 50, [64, 96, 1]: a texture that moves 2 pixels right."""
  noise = np.random.default_rng(0).uniform(-20, 20, (8, 14)).astype(np.float32)
  texture = cv2.resize(noise, (112, 64), interpolation=cv2.INTER_CUBIC)
  return [texture[:, 16 - 2 * t : 112 - 2 * t, None] for t in range(8)]


@pytest.fixture
def start():
  return preparation.HostState(None, np.zeros((1, *_SIZE, 2), np.float32), 0.0)


def _prepare(frames, state, anchor=None, alpha=10.0):
  return preparation.prepare(
    list(frames), list(frames), state, _SETTINGS, alpha, anchor
  )


def _inside(flow):
  return flow[..., 8:-8, 20:-20, :]


def test_flow_leads_to_the_previous_frame_and_to_the_anchor(moving, start):
  state = start._replace(luminance=moving[0])
  anchor = np.round((moving[0] + 50) * 2.55).clip(0, 255).astype(np.uint8)
  block = _prepare(moving[1:], state, anchor)
  steps, total = _inside(block.backward_flow[0]), _inside(block.anchor_flow[0])
  np.testing.assert_allclose(np.median(steps[..., 0], (1, 2)), -2, atol=0.1)
  expected = -2.0 * np.arange(1, 8)
  np.testing.assert_allclose(
    np.median(total[..., 0], (1, 2)), expected, atol=0.2
  )
  for flow in (steps, total):
    assert np.abs(np.median(flow[..., 1], (1, 2))).max() < 0.1


def test_two_blocks_equal_one(moving, start):
  flickering = [
    gain * (x + 50) - 50
    for gain, x in zip(
      (1, 0.95, 1.04, 1, 0.97, 1.03, 1, 0.96), moving, strict=True
    )
  ]
  state = start._replace(luminance=flickering[0])
  anchor = np.round((moving[0] + 50) * 2.55).clip(0, 255).astype(np.uint8)
  whole = _prepare(flickering[1:], state, anchor)
  first = _prepare(flickering[1:4], state, anchor)
  second = _prepare(flickering[4:], first.state, anchor)
  for name, axis in (
    ('luminance', 0),
    ('backward_flow', 1),
    ('anchor_flow', 1),
  ):
    parts = [getattr(x, name) for x in (first, second)]
    np.testing.assert_array_equal(
      np.concatenate(parts, axis), getattr(whole, name)
    )
  assert second.state.gain == whole.state.gain != 0
  np.testing.assert_array_equal(
    second.state.anchor_flow, whole.anchor_flow[:, -1]
  )


def test_without_flow_the_state_has_the_same_anchor_flow(moving, start):
  block = _prepare(moving, start, alpha=None)
  assert block.backward_flow is None
  assert block.anchor_flow is None
  assert block.state.anchor_flow is start.anchor_flow
  np.testing.assert_array_equal(block.state.luminance, block.luminance[-1])
