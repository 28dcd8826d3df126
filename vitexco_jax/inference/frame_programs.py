"""Array functions of the engine, compiled by XLA.

Frames and references are resized to a working size and padded to multiples of the
networks' stride. With `scale` > 1, colors are propagated at `scale` times the
working size, and only the matching runs at the working size. `size` is
(height, width) at which colors are propagated, without padding.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import typing

from vitexco_jax import color, sizes
from vitexco_jax.models import cells, layers
from vitexco_jax.models.correspondence import STRIDE
from vitexco_jax.models.motion import Anchor
from vitexco_jax.models.vitexco import Generator, colorize_clip
from vitexco_jax.structs import Reference

Size = tuple[int, int]  # (height, width)


def lightness_levels(luminance: jax.Array | np.ndarray) -> np.ndarray:
  """L - 50 as optical flow takes it: [..., 1] uint8."""
  levels = (np.clip(luminance, -50, 50) + 50.0) * 2.55
  return np.asarray(np.round(levels), np.uint8)


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit_lab(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes [H, W, 3] RGB and returns Lab, l = L - 50, padded: [1, h, w, 3]."""
  return color.center(color.rgb_to_lab(fit_rgb(size, scale, rgb)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit_rgb(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes [H, W, 3] uint8 or uint16; returns [1, h, w, 3] in [0, 1], padded."""
  scaled = jnp.asarray(rgb, jnp.float32) / jnp.iinfo(rgb.dtype).max
  fitted = sizes.pad(sizes.resize(scaled, size), scale * sizes.TOKEN)
  return jnp.clip(fitted, 0.0, 1.0)[None]


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit_luminance(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes L - 50 of [t, H, W, 3] uint8 or uint16: [t, h, w, 1], padded."""

  def fit(rgb: jax.Array) -> jax.Array:
    luminance = color.uint8_to_lightness(rgb) - 50.0
    return sizes.pad(sizes.resize(luminance, size), scale * sizes.TOKEN)

  # One frame at a time: a whole block at full size would need much memory.
  return jax.lax.map(fit, rgb)


def encode_reference(
  generator: Generator,
  in_cells: bool,
  variables: typing.VariableDict,
  rgb: jax.Array,
) -> Reference:
  """Encodes a reference.

  Args:
    generator: the networks.
    in_cells: whether to order its positions by cells.
    variables: of the generator.
    rgb: [1, h, w, 3] in [0, 1]; h and w multiples of 16.
  """
  apply: Callable[..., Any] = generator.apply
  reference: Reference = apply(variables, rgb, method='encode_reference')
  if not in_cells:
    return reference
  size = rgb.shape[1] // STRIDE, rgb.shape[2] // STRIDE
  return reference._replace(
    keys=cells.divide(reference.keys, size),
    ab=cells.divide(reference.ab, size),
  )


def colorize_block(
  generator: Generator,
  size: Size,
  scale: int,
  variables: typing.VariableDict,
  reference: Reference | None,
  luminance: jax.Array,
  previous: jax.Array,
  backward_flow: jax.Array | None,
  anchor: Anchor | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Predicts the colors of consecutive frames.

  Args:
    generator: the networks.
    size: see above.
    scale: see above.
    variables: of the generator.
    reference: the encoded references; None: colors of the prior.
    luminance: [t, h, w, 1], L - 50.
    previous: [1, h, w, 3 + carried], the previous frame: Lab, l = L - 50, and
      what else the colorizer carries.
    backward_flow: [1, t, h, w, 2] (dx, dy) in pixels, from each frame to the
      previous one; None if the colorizer does not use it.
    anchor: the first reference, if it is a frame of the clip.

  Returns:
    ab [t, *size, 2], confidence [t, *size, 1], and `previous` of the next block.
  """
  apply: Callable[..., Any] = functools.partial(generator.apply, variables)
  if generator.follows_motion or reference is None or scale > 1:
    frames = jnp.concatenate([previous[..., :1], luminance])
    small = layers.average_pool(frames, scale)[None]
    guidance = apply(
      small, reference, backward_flow, anchor, scale, method='guide_along'
    )
  else:
    guidance = apply(luminance[None], reference, method='guide')
  predicted, last = colorize_clip(
    functools.partial(apply, scale=scale, method='colorize_frame'),
    luminance[None],
    guidance,
    previous,
    backward_flow=backward_flow,
  )
  height, width = size
  ab, confidence = (
    x[0, :, :height, :width] for x in (predicted[..., :2], guidance.confidence)
  )
  return ab, confidence, last
