"""Inputs of the mixture, as the engine computes them, for its training.

The inputs of a frame are its luminance, its guidance, and the optical flow to the
previous frame. None of them depends on the mixture, so they are computed once. They
are stored as channels of one array, in the order of `pack`, averaged over the
*positions* of the mixture: cells of 2x2 pixels of the working size.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import typing

from vitexco_jax.inference import frame_programs as programs
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.models import layers
from vitexco_jax.models.motion import Anchor
from vitexco_jax.models.vitexco import Generator
from vitexco_jax.structs import Guidance, Reference

# Channels of the luminance, of the fields of `Guidance`, and of the flow.
_CHANNELS = (1, 2, 1, 2, 1, 1, 3, 1, 2)
CHANNELS = sum(_CHANNELS)
_FLOW = slice(CHANNELS - 2, CHANNELS)


def pack(
  luminance: jax.Array, guidance: Guidance, backward_flow: jax.Array
) -> jax.Array:
  """Joins the inputs of frames, fields [..., c], to [..., CHANNELS].

  Fields of the guidance that are None become zeros, which are no candidates.
  """
  shape = luminance.shape[:-1]
  fields = (luminance,) + tuple(guidance) + (backward_flow,)
  return jnp.concatenate(
    [
      jnp.zeros((*shape, c)) if x is None else x
      for x, c in zip(fields, _CHANNELS, strict=True)
    ],
    -1,
  )


def unpack(inputs: jax.Array) -> tuple[jax.Array, Guidance, jax.Array]:
  """Inverts `pack`: returns luminance, guidance, and flow."""
  ends = np.cumsum(_CHANNELS)[:-1].tolist()
  luminance, *guidance, backward_flow = jnp.split(inputs, ends, -1)
  return luminance, Guidance(*guidance), backward_flow


def without_anchor(inputs: np.ndarray) -> np.ndarray:
  """Returns inputs [..., CHANNELS] whose anchors are no candidates."""
  inputs = inputs.copy()
  # `Guidance` ends with the anchor's Lab and its likeness.
  inputs[..., _FLOW.start - 4 : _FLOW.start] = 0
  return inputs


def pool(inputs: jax.Array, window: int) -> jax.Array:
  """Averages inputs over windows; the flow is then in windows, not in pixels.

  Args:
    inputs: [t, h, w, CHANNELS].
    window: pixels along each side.

  Returns:
    [t, h/window, w/window, CHANNELS].
  """
  means = layers.average_pool(inputs, window)
  return means.at[..., _FLOW].divide(window)


def collect_block(
  generator: Generator,
  size: programs.Size,
  scale: int,
  variables: typing.VariableDict,
  reference: Reference | None,
  count: int,
  luminance: jax.Array,
  previous: jax.Array,
  backward_flow: jax.Array | None,
  anchor: Anchor | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Takes the place of `frame_programs.colorize_block`, with the same arguments.

  Returns:
    Inputs of the mixture, [t, h, w, CHANNELS], with padding, in the place of ab;
    confidence; and `previous` of the next block, without colors.
  """
  del size  # Padding stays.

  def collect(
    previous: jax.Array, luminance: jax.Array, guidance: Guidance, flow: Any
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    last = jnp.zeros_like(previous).at[..., :1].set(luminance[:, 0])
    inputs = pack(luminance, guidance, flow)
    return last, (inputs[0, 0], guidance.confidence[0, 0])

  last, (inputs, confidence) = programs.guide_block(
    collect,
    generator,
    scale,
    variables,
    reference,
    count,
    luminance,
    previous,
    backward_flow,
    anchor,
  )
  return inputs, confidence, last


class CandidateCollector(VideoColorizer):
  """The engine without its mixture: `predict` yields inputs instead of ab."""

  block_program = staticmethod(collect_block)

  def collect(
    self, frames: Sequence[np.ndarray]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Computes the inputs of frames; `set_reference` comes before.

    Args:
      frames: t of [h, w, 3] uint8, in color.

    Returns:
      Inputs [t, n, m, CHANNELS] and true ab [t, n, m, 2] by position.
    """
    blocks = [pool(x.ab, self._window(frames[0])) for x in self.predict(frames)]
    true_ab = [self.average_lab(frame)[..., 1:] for frame in frames]
    return np.concatenate(blocks), np.stack(true_ab)

  def average_lab(self, rgb: np.ndarray) -> np.ndarray:
    """Returns Lab of a frame by position, [n, m, 3], l = L - 50."""
    setup, _ = self._clip(rgb.shape[:2])
    lab = programs.fit_lab(setup.size, setup.scale, rgb)
    return np.asarray(layers.average_pool(lab, self._window(rgb)))[0]

  def _window(self, rgb: np.ndarray) -> int:
    """Returns the number of pixels of a position, along each side."""
    setup, _ = self._clip(rgb.shape[:2])
    return 2 * setup.scale
