"""Array functions of the engine, compiled by XLA.

Frames and references are resized to a working size and padded to multiples of the
networks' stride. With `scale` > 1, colors are propagated at `scale` times the
working size, and only the matching runs at the working size. `size` is
(height, width) at which colors are propagated, without padding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import typing

from vitexco_jax import color, sizes
from vitexco_jax.models import layers
from vitexco_jax.models.anchor import Anchor
from vitexco_jax.models.correspondence import STRIDE
from vitexco_jax.models.vitexco import Generator, colorize_clip
from vitexco_jax.structs import Guidance, Reference

Size = tuple[int, int]  # (height, width)


def lightness_levels(luminance: jax.Array | np.ndarray) -> np.ndarray:
  """L - 50 as optical flow takes it: [..., 1] uint8."""
  return np.uint8(np.round((np.clip(luminance, -50, 50) + 50.0) * 2.55))


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit_lab(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes [H, W, 3] RGB and returns Lab, l centered, padded: [1, h, w, 3]."""
  return color.center(color.rgb_to_lab(fit_rgb(size, scale, rgb)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit_rgb(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes [H, W, 3] uint8 or uint16; returns [1, h, w, 3] in [0, 1], padded."""
  rgb = rgb.astype(jnp.float32) / jnp.iinfo(rgb.dtype).max
  rgb = sizes.pad(sizes.resize(rgb, size), scale * sizes.TOKEN)
  return jnp.clip(rgb, 0.0, 1.0)[None]


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit_luminance(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes L - 50 of [t, H, W, 3] uint8 or uint16: [t, h, w, 1], padded."""

  def fit(rgb):
    luminance = color.uint8_to_lab(rgb)[..., :1] - 50.0
    return sizes.pad(sizes.resize(luminance, size), scale * sizes.TOKEN)

  # One frame at a time: a whole block at full size would need much memory.
  return jax.lax.map(fit, rgb)


def guide_frames(
  generator: Generator,
  scale: int,
  variables: typing.VariableDict,
  reference: Reference,
  luminance: jax.Array,
  backward_flow: np.ndarray | None,
  anchor_flow: np.ndarray | None,
) -> tuple[Guidance, jax.Array | None, jax.Array | None]:
  """Matches frames with their references, at 1 / `scale` of the frames' size.

  Args:
    generator: the networks.
    scale: see above.
    variables: of the generator.
    reference: the encoded references.
    luminance: [1 + t, h, w, 1] of the previous frame and of t frames.
    backward_flow: [1, t, h, w, 2] (dx, dy) in pixels, from each frame to the
      previous one.
    anchor_flow: the same, to the first reference.

  Returns:
    Guidance of the t frames, [1, t, h, w, c], and for each flow [1, t, h, w, 1]:
    how similar a frame is to what the flow points to. None for a flow of None.
  """
  apply = functools.partial(generator.apply, variables)
  small = layers.average_pool(luminance, scale)[None]
  steady = anchored = None
  if backward_flow is None and anchor_flow is None:
    guidance = apply(small[:, 1:], reference, method='guide')
  else:
    guidance, steady, anchored = apply(
      *(small, reference, backward_flow, anchor_flow, scale),
      method='guide_along',
    )
  return _enlarge(luminance, scale, guidance), steady, anchored


def guide_by_prior(
  generator: Generator,
  scale: int,
  variables: typing.VariableDict,
  luminance: jax.Array,
  backward_flow: np.ndarray | None,
) -> tuple[Guidance, jax.Array | None, None]:
  """Does what `guide_frames` does, without a reference."""
  small = layers.average_pool(luminance, scale)[None]
  guidance, steady, anchored = generator.apply(
    variables, small, backward_flow, scale, method='guide_by_prior'
  )
  return _enlarge(luminance, scale, guidance), steady, anchored


def colorize_frames(
  generator: Generator,
  size: Size,
  variables: typing.VariableDict,
  guidance: Guidance,
  previous_lab: jax.Array | np.ndarray,
  luminance: jax.Array,
  backward_flow: np.ndarray | None,
  steady: jax.Array | None,
  anchor: Anchor | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Predicts the colors of consecutive frames.

  Args:
    generator: the networks.
    size: see above.
    variables: of the generator.
    guidance: see `guide_frames`.
    previous_lab: [1, h, w, 3] of the previous frame, l centered.
    luminance: [t, h, w, 1], L - 50.
    backward_flow: see `guide_frames`.
    steady: see `guide_frames`.
    anchor: the first reference's colors, if they are propagated.

  Returns:
    ab [t, *size, 2], confidence [t, *size, 1], and Lab of the last frame,
    [1, h, w, 3].
  """
  ab, last_lab = colorize_clip(
    functools.partial(generator.apply, variables, method='colorize_frame'),
    luminance[None],
    guidance,
    previous_lab,
    backward_flow=backward_flow,
    steady=steady,
    anchor=anchor,
    anchor_lightness=generator.motion.anchor_lightness,
  )
  ab, confidence = (
    x[0, :, : size[0], : size[1]] for x in (ab, guidance.confidence)
  )
  return ab, confidence, last_lab


def _enlarge(luminance: jax.Array, scale: int, guidance: Guidance) -> Guidance:
  """Resizes guidance to the size of [n, h, w, 1] luminance."""
  if scale == 1:
    return guidance
  size = luminance.shape[1:3]
  return jax.tree.map(functools.partial(_enlarge_cells, size), guidance)


def _enlarge_cells(size: Size, x: jax.Array) -> jax.Array:
  """Resizes what is constant within matching cells to [b, t, *size, c]."""
  b, t, _, _, c = x.shape
  cells = layers.average_pool(x.reshape(b * t, *x.shape[2:]), STRIDE)
  fine = jax.image.resize(cells, (b * t, *size, c), 'bilinear')
  return fine.reshape(b, t, *size, c)
