"""Prepares blocks of frames for the networks.

The host evens the luminance (`guide`); the host or the device estimates optical flow.
This needs nothing that the networks compute, so a block is prepared while the device
still colorizes the one before it.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from vitexco_jax import flow, stages
from vitexco_jax.inference import frame_blocks, guide
from vitexco_jax.inference import frame_programs as programs
from vitexco_jax.structs import Array


class HostState(NamedTuple):
  """What the host needs of the previous frame."""

  # [h, w, 1], L - 50, prepared; None: there is no such frame.
  luminance: np.ndarray | None
  anchor_flow: Array  # [1, h, w, 2]; see `ClipState`.
  gain: float  # See `ClipState`.


class Prepared(NamedTuple):
  """A block of frames, and what the networks need of it.

  h and w are the size at which colors are propagated, with padding.
  """

  frames: Sequence[np.ndarray]  # t of [H, W, 3], uint8 or uint16.
  luminance: np.ndarray  # [t, h, w, 1], L - 50.
  # [1, t, h, w, 2], (dx, dy) to the previous frame. If the device computes it, it is
  # that of a full block, whose last frames may be empty.
  backward_flow: Array | None
  anchor_flow: Array | None  # The same, to the anchor.
  state: HostState  # After the block.


class FlowSettings(NamedTuple):
  """How optical flow is estimated."""

  on_device: bool  # By `models/optical_flow.py`; otherwise by OpenCV.
  alpha: float  # See `flow.backward_flow`.


def prepare(
  frames: Sequence[np.ndarray],
  small: Sequence[jax.Array],
  state: HostState,
  settings: guide.Settings,
  flow_settings: FlowSettings | None,
  anchor_gray: np.ndarray | None,
) -> Prepared:
  """Prepares a block of consecutive frames.

  Args:
    frames: t of [H, W, 3].
    small: t of [h, w, 1], their L - 50 at the working size, from the device.
    state: before the block.
    settings: of the guide.
    flow_settings: None: no flow is needed.
    anchor_gray: [h, w, 1] uint8, 2.55 L of the anchor; None: there is none.
  """
  with stages.stage(stages.SHRINK):
    shrunk = np.stack(small)
  luminance, gain = guide.prepare(shrunk, state.luminance, state.gain, settings)
  backward_flow = anchor_flow = None
  last_flow = state.anchor_flow
  if flow_settings is not None:
    previous = state.luminance
    if previous is None:
      previous = np.zeros_like(luminance[0])
    clip = np.stack([previous, *luminance])
    arguments = clip, state.anchor_flow, flow_settings.alpha, anchor_gray
    if flow_settings.on_device:
      full = 1 + frame_blocks.length(frames[0].shape[:2])
      backward_flow, anchor_flow = _device_flows(
        *arguments, full, small[0].sharding
      )
    else:
      backward_flow, anchor_flow = _host_flows(*arguments)
    if anchor_flow is not None:
      last_flow = anchor_flow[:, len(frames) - 1]
  after = HostState(luminance[-1], last_flow, gain)
  return Prepared(frames, luminance, backward_flow, anchor_flow, after)


@functools.partial(jax.profiler.annotate_function, name=stages.FLOW)
def _host_flows(
  luminance: np.ndarray,
  before: Array,
  alpha: float,
  anchor_gray: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
  """Estimates the flow of a block by OpenCV.

  Args:
    luminance: [1 + t, h, w, 1], L - 50, the previous frame first.
    before: [1, h, w, 2], from the previous frame to the anchor.
    alpha: see `FlowSettings`.
    anchor_gray: see `prepare`.

  Returns:
    See `Prepared`.
  """
  grays = programs.lightness_levels(luminance)
  steps = [
    flow.backward_flow(gray, previous, alpha)
    for previous, gray in itertools.pairwise(grays)
  ]
  backward_flow = np.stack(steps)[None]
  if anchor_gray is None:
    return backward_flow, None
  anchor_flows = [np.asarray(before[0])]
  for gray, step in zip(grays[1:], steps, strict=True):
    anchor_flows.append(
      flow.flow_to_reference(gray, anchor_gray, step, anchor_flows[-1], alpha)
    )
  return backward_flow, np.stack(anchor_flows[1:])[None]


def _device_flows(
  luminance: np.ndarray,
  before: Array,
  alpha: float,
  anchor_gray: np.ndarray | None,
  count: int,
  sharding: jax.sharding.Sharding,
) -> tuple[jax.Array, jax.Array | None]:
  """Begins to compute the flow of a block on the device; see `_host_flows`.

  Args:
    luminance: [1 + t, h, w, 1], L - 50, the previous frame first.
    before: [1, h, w, 2], from the previous frame to the anchor.
    alpha: see `FlowSettings`.
    anchor_gray: see `prepare`.
    count: frames of a full block, and 1.
    sharding: of the device.

  Returns:
    See `Prepared`.
  """
  frames = frame_blocks.fill(luminance, 0, count)
  anchor = None
  if anchor_gray is not None:
    anchor = np.float32(anchor_gray) / np.float32(2.55) - np.float32(50)
  frames, anchor, before = jax.device_put((frames, anchor, before), sharding)
  return programs.block_flows(frames, anchor, before, alpha)
