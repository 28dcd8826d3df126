"""Prepares blocks of frames for the networks, on the host.

The host evens the luminance (`guide`) and estimates optical flow. It needs nothing
that the networks compute, so it can prepare a block while the device still
colorizes the one before it.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from vitexco_jax import flow, stages
from vitexco_jax.inference import frame_programs as programs
from vitexco_jax.inference import guide


class HostState(NamedTuple):
  """What the host needs of the previous frame."""

  luminance: (
    np.ndarray | None
  )  # [h, w, 1], L - 50, prepared; None: no such frame.
  anchor_flow: np.ndarray  # [1, h, w, 2]; see `ClipState`.
  gain: float  # See `ClipState`.


class Prepared(NamedTuple):
  """A block of frames, and what the networks need of it.

  h and w are the size at which colors are propagated, with padding.
  """

  frames: Sequence[np.ndarray]  # t of [H, W, 3], uint8 or uint16.
  luminance: np.ndarray  # [t, h, w, 1], L - 50.
  backward_flow: (
    np.ndarray | None
  )  # [1, t, h, w, 2], (dx, dy) to the previous frame.
  anchor_flow: np.ndarray | None  # [1, t, h, w, 2], to the anchor.
  state: HostState  # After the block.


def prepare(
  frames: Sequence[np.ndarray],
  small: Sequence[jax.Array],
  state: HostState,
  settings: guide.Settings,
  flow_alpha: float | None,
  anchor_gray: np.ndarray | None,
) -> Prepared:
  """Prepares a block of consecutive frames.

  Args:
    frames: t of [H, W, 3].
    small: t of [h, w, 1], their L - 50 at the working size, from the device.
    state: before the block.
    settings: of the guide.
    flow_alpha: see `flow.backward_flow`; None: no flow is needed.
    anchor_gray: [h, w, 1] uint8, 2.55 L of the anchor; None: there is none.
  """
  with stages.stage(stages.SHRINK):
    shrunk = np.stack(small)
  luminance, gain = guide.prepare(shrunk, state.luminance, state.gain, settings)
  backward_flow = anchor_flow = None
  last_flow = state.anchor_flow
  if flow_alpha is not None:
    backward_flow, anchor_flow = _flows(
      luminance, state, flow_alpha, anchor_gray
    )
    if anchor_flow is not None:
      last_flow = anchor_flow[:, -1]
  after = HostState(luminance[-1], last_flow, gain)
  return Prepared(frames, luminance, backward_flow, anchor_flow, after)


@functools.partial(jax.profiler.annotate_function, name=stages.FLOW)
def _flows(
  luminance: np.ndarray,
  state: HostState,
  alpha: float,
  anchor_gray: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
  """Estimates the flow of a block; see `prepare` and `Prepared`."""
  previous = state.luminance
  if previous is None:
    previous = np.zeros_like(luminance[0])
  grays = programs.lightness_levels(np.stack([previous, *luminance]))
  steps = [
    flow.backward_flow(gray, previous, alpha)
    for previous, gray in itertools.pairwise(grays)
  ]
  backward_flow = np.stack(steps)[None]
  if anchor_gray is None:
    return backward_flow, None
  anchor_flows = [state.anchor_flow[0]]
  for gray, step in zip(grays[1:], steps, strict=True):
    anchor_flows.append(
      flow.flow_to_reference(gray, anchor_gray, step, anchor_flows[-1], alpha)
    )
  return backward_flow, np.stack(anchor_flows[1:])[None]
