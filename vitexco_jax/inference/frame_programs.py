"""Array functions of the engine, compiled by XLA.

Frames and references are resized to a working size and padded to multiples of the
networks' stride. With `scale` > 1, colors are propagated at `scale` times the
working size, and only the matching runs at the working size. `size` is
(height, width) at which colors are propagated, without padding.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import typing
from jax import export

from vitexco_jax import color, sizes
from vitexco_jax.models import cells, layers, optical_flow, references
from vitexco_jax.models.correspondence import STRIDE
from vitexco_jax.models.motion import Anchor
from vitexco_jax.models.vitexco import (
  Generator,
  colorize_clip,
  upsample,
)
from vitexco_jax.structs import Guidance, Reference
from vitexco_jax.traces import Program

for _type in (Reference, Anchor):
  export.register_namedtuple_serialization(
    _type, serialized_name=_type.__qualname__
  )

Size = tuple[int, int]  # (height, width)


def lightness_levels(luminance: jax.Array | np.ndarray) -> np.ndarray:
  """L - 50 as optical flow takes it: [..., 1] uint8."""
  levels = (np.clip(luminance, -50, 50) + 50.0) * 2.55
  return np.asarray(np.round(levels), np.uint8)


@functools.partial(Program, static=2)
def fit_lab(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes [H, W, 3] RGB and returns Lab, l = L - 50, padded: [1, h, w, 3]."""
  return color.center(color.rgb_to_lab(fit_rgb(size, scale, rgb)))


@functools.partial(Program, static=2)
def fit_rgb(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes [H, W, 3] uint8 or uint16; returns [1, h, w, 3] in [0, 1], padded."""
  scaled = jnp.asarray(rgb, jnp.float32) / jnp.iinfo(rgb.dtype).max
  fitted = sizes.pad(sizes.resize(scaled, size), scale * sizes.TOKEN)
  return jnp.clip(fitted, 0.0, 1.0)[None]


@functools.partial(Program, static=2)
def fit_reference(size: Size, shape: Size, rgb: np.ndarray) -> jax.Array:
  """Does what `fit_rgb` does, and mirrors the result at its edges up to a shape.

  Args:
    size: (height, width) of the picture in the result.
    shape: of the result, which is [1, *shape, 3].
    rgb: [H, W, 3] uint8 or uint16.
  """
  fitted = fit_rgb(size, 1, rgb)
  pads = [
    (0, new - old) for new, old in zip(shape, fitted.shape[1:3], strict=True)
  ]
  return jnp.pad(fitted, ((0, 0), *pads, (0, 0)), 'reflect')


@functools.partial(Program, static=2)
def fit_luminance(size: Size, scale: int, rgb: np.ndarray) -> jax.Array:
  """Resizes L - 50 of [H, W, 3] uint8 or uint16: [h, w, 1], padded."""
  luminance = color.uint8_to_lightness(rgb) - 50.0
  return sizes.pad(sizes.resize(luminance, size), scale * sizes.TOKEN)


@Program
def block_flows(
  luminance: jax.Array,
  anchor: jax.Array | None,
  before: jax.Array,
  alpha: float,
) -> tuple[jax.Array, jax.Array | None]:
  """Estimates the flow of a block on the device.

  Args:
    luminance: [1 + t, h, w, 1], L - 50, the previous frame first.
    anchor: [h, w, 1], L - 50; None: there is none.
    before: [1, h, w, 2], (dx, dy) in pixels, from the previous frame to the anchor.
    alpha: see `optical_flow.backward_flows`.

  Returns:
    [1, t, h, w, 2] from each frame to the previous one; the same to the anchor, or
    None.
  """
  steps = optical_flow.backward_flows(luminance, alpha)
  if anchor is None:
    return steps[None], None
  total = optical_flow.flows_to_reference(
    luminance[1:], anchor, steps, before[0], alpha
  )
  return steps[None], total[None]


def encode_reference(
  generator: Generator, variables: typing.VariableDict, rgb: jax.Array
) -> Reference:
  """Encodes a reference.

  Args:
    generator: the networks.
    variables: of the generator.
    rgb: [1, h, w, 3] in [0, 1], from `fit_reference`.
  """
  apply: Callable[..., Any] = generator.apply
  reference: Reference = apply(variables, rgb, method='encode_reference')
  return reference


@functools.partial(Program, static=2)
def cut_reference(
  size: Size, in_cells: bool, reference: Reference
) -> Reference:
  """Cuts off what `fit_reference` has added.

  Args:
    size: (height, width) of the picture without it; multiples of 16.
    in_cells: whether to order the positions by cells; see `models/cells.py`.
    reference: from `encode_reference`.
  """
  lab = reference.lab
  n, m = (side // STRIDE for side in size)

  def cut(x: jax.Array) -> jax.Array:
    rows = x.reshape(1, -1, lab.shape[2] // STRIDE, x.shape[-1])
    x = rows[:, :n, :m].reshape(1, n * m, x.shape[-1])
    return cells.divide(x, (n, m)) if in_cells else x

  return reference._replace(
    lab=lab[:, : size[0], : size[1]],
    keys=cut(reference.keys),
    ab=cut(reference.ab),
  )


def collect(in_cells: bool, encoded: Sequence[Reference]) -> Reference:
  """Combines encoded references.

  Args:
    in_cells: whether their positions are ordered by cells. Then references of many
      shapes and numbers become one of few shapes.
    encoded: at least one, from `cut_reference`.
  """
  reference = references.combine(encoded)
  return cells.fill(reference) if in_cells else reference


def condense(
  in_cells: bool, components: int, reference: Reference
) -> Reference:
  """Reduces references to principal components, and summarizes their cells.

  Args:
    in_cells: see `collect`.
    components: see `references.compress`.
    reference: from `collect`.
  """
  reference = references.compress(reference, components)
  return cells.summarize(reference) if in_cells else reference


def colorize_block(
  generator: Generator,
  size: Size,
  scale: int,
  variables: typing.VariableDict,
  reference: Reference | None,
  count: int,
  luminance: jax.Array,
  previous: jax.Array,
  backward_flow: jax.Array | None,
  anchor: Anchor | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Predicts the colors of consecutive frames, one at a time.

  On a CPU this is faster than all at once, because a frame fits into its caches.
  With `count`, one program serves blocks of any length.

  Args:
    generator: the networks.
    size: see above.
    scale: see above.
    variables: of the generator.
    reference: the encoded references; None: colors of the prior.
    count: number of frames; the others only fill the arrays.
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

  def color(
    previous: jax.Array,
    luminance: jax.Array,
    guidance: Guidance,
    backward_flow: jax.Array | None,
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    predicted, last = colorize_clip(
      functools.partial(apply, scale=scale, method='colorize_frame'),
      luminance,
      guidance,
      previous,
      backward_flow=backward_flow,
    )
    return last, (predicted[0, 0, ..., :2], guidance.confidence[0, 0])

  last, colors = guide_block(
    color,
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
  ab, confidence = (x[:, : size[0], : size[1]] for x in colors)
  return ab, confidence, last


def guide_block(
  step: Callable[..., tuple[jax.Array, Any]],
  generator: Generator,
  scale: int,
  variables: typing.VariableDict,
  reference: Reference | None,
  count: int,
  luminance: jax.Array,
  previous: jax.Array,
  backward_flow: jax.Array | None,
  anchor: Anchor | None,
) -> tuple[jax.Array, Any]:
  """Computes the guidance of consecutive frames, one at a time.

  Args:
    step: gets `previous`, and of one frame the luminance [1, 1, h, w, 1], the
      guidance, fields [1, 1, h, w, c], and the flow [1, 1, h, w, 2] or None.
      Returns `previous` of the next frame and a tree of arrays.
    generator: see `colorize_block`, as all others.
    scale: see `colorize_block`.
    variables: of the generator.
    reference: the encoded references, or None.
    count: number of frames.
    luminance: [t, h, w, 1], L - 50.
    previous: [1, h, w, 3 + carried].
    backward_flow: [1, t, h, w, 2], or None.
    anchor: the first reference, if it is a frame of the clip.

  Returns:
    `previous` of the next block, and the trees of all frames, stacked.
  """
  apply: Callable[..., Any] = functools.partial(generator.apply, variables)
  along = generator.follows_motion or reference is None or scale > 1

  def see(_: None, frame: jax.Array) -> tuple[None, Any]:
    small = layers.average_pool(frame[None], scale)[None]
    return None, apply(small, method='extract' if along else 'encode_frames')

  def guide_and_step(
    previous: jax.Array, frame: tuple[Any, ...]
  ) -> tuple[jax.Array, Any]:
    luminance, before, seen, backward_flow, anchor_flow = frame
    if along:
      guidance = apply(
        jnp.concatenate([before[0], seen[0]], 1),
        seen[1],
        reference,
        backward_flow,
        anchor and anchor._replace(flow=anchor_flow),
        scale,
        method='guide_extracted',
      )
    else:
      guidance = upsample(apply(seen, reference, method='match'))
    return step(previous, luminance[None, None], guidance, backward_flow)

  def frame_by_frame(x: jax.Array | None) -> jax.Array | None:
    return None if x is None else x.swapaxes(0, 1)[:, None]

  frames = jnp.concatenate([previous[..., :1], luminance])
  _, seen = _scan(see, None, frames, count + 1)
  before = jax.tree.map(lambda x: x[:-1], seen)
  seen = jax.tree.map(lambda x: x[1:], seen)
  flows = map(frame_by_frame, (backward_flow, anchor and anchor.flow))
  return _scan(
    guide_and_step, previous, (luminance, before, seen, *flows), count
  )


def _scan(
  step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, count: int
) -> tuple[Any, Any]:
  """Does what `jax.lax.scan` does for the first `count` of `xs`."""
  step = jax.jit(step)  # It is traced once.

  def take(i: int) -> Any:
    return jax.tree.map(lambda x: x[i], xs)

  _, first = jax.eval_shape(step, carry, take(0))
  length = len(jax.tree.leaves(xs)[0])
  results = jax.tree.map(lambda x: jnp.zeros((length, *x.shape)), first)

  def body(i: int, state: tuple[Any, Any]) -> tuple[Any, Any]:
    carry, results = state
    carry, result = step(carry, take(i))
    return carry, jax.tree.map(lambda y, x: y.at[i].set(x), results, result)

  carry, results = jax.lax.fori_loop(0, count, body, (carry, results))
  return carry, results
