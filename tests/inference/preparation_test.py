"""Blocks on the host: two blocks equal one, and flow leads to where it should."""

import cv2
import jax
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


_ON_HOST, _ON_DEVICE = (
  preparation.FlowSettings(on_device, 10.0) for on_device in (False, True)
)


def _prepare(frames, state, anchor=None, flow=_ON_HOST):
  return preparation.prepare(
    list(frames),
    list(map(jax.device_put, frames)),
    state,
    _SETTINGS,
    flow,
    anchor,
  )


def _inside(flow):
  return flow[..., 8:-8, 20:-20, :]


@pytest.mark.parametrize('flow', [_ON_HOST, _ON_DEVICE])
def test_flow_leads_to_the_previous_frame_and_to_the_anchor(
  moving, start, flow
):
  state = start._replace(luminance=moving[0])
  anchor = np.round((moving[0] + 50) * 2.55).clip(0, 255).astype(np.uint8)
  block = _prepare(moving[1:], state, anchor, flow)
  steps, total = (
    _inside(x[0, :7]) for x in (block.backward_flow, block.anchor_flow)
  )
  np.testing.assert_allclose(np.median(steps[..., 0], (1, 2)), -2, atol=0.1)
  expected = -2.0 * np.arange(1, 8)
  np.testing.assert_allclose(
    np.median(total[..., 0], (1, 2)), expected, atol=0.2
  )
  for x in (steps, total):
    assert np.abs(np.median(x[..., 1], (1, 2))).max() < 0.1
  np.testing.assert_array_equal(
    block.state.anchor_flow, block.anchor_flow[:, 6]
  )


@pytest.mark.parametrize('flow', [_ON_HOST, _ON_DEVICE])
def test_two_blocks_equal_one(moving, start, flow):
  flickering = [
    gain * (x + 50) - 50
    for gain, x in zip(
      (1, 0.95, 1.04, 1, 0.97, 1.03, 1, 0.96), moving, strict=True
    )
  ]
  state = start._replace(luminance=flickering[0])
  anchor = np.round((moving[0] + 50) * 2.55).clip(0, 255).astype(np.uint8)
  whole, first = (
    _prepare(x, state, anchor, flow) for x in (flickering[1:], flickering[1:4])
  )
  second = _prepare(flickering[4:], first.state, anchor, flow)
  for name, axis in (
    ('luminance', 0),
    ('backward_flow', 1),
    ('anchor_flow', 1),
  ):
    parts = [
      np.take(getattr(x, name), range(count), axis)
      for x, count in ((first, 3), (second, 4))
    ]
    expected = np.take(getattr(whole, name), range(7), axis)
    np.testing.assert_array_equal(np.concatenate(parts, axis), expected)
  assert second.state.gain == whole.state.gain != 0
  np.testing.assert_array_equal(
    second.state.anchor_flow, second.anchor_flow[:, 3]
  )


def test_without_flow_the_state_has_the_same_anchor_flow(moving, start):
  block = _prepare(moving, start, flow=None)
  assert block.backward_flow is None
  assert block.anchor_flow is None
  assert block.state.anchor_flow is start.anchor_flow
  np.testing.assert_array_equal(block.state.luminance, block.luminance[-1])
