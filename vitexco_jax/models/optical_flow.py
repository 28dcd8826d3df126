"""Dense optical flow on the device, from coarse to fine.

It replaces OpenCV's DIS (`vitexco_jax/flow.py`, which also states the convention of
`flow`) where the host would keep an accelerator waiting. An addition to the paper.

At each level of a pyramid, the target is warped by the flow, and an increment
minimizes a sum over pixels: the robust difference of lightness and of its gradient,
each linearized and divided by the contrast, and the robust variation of the flow
(Brox et al. 2004; normalization as in Zimmer et al. 2011). The linear equations are
solved by successive over-relaxation in two colors, as on a chessboard.

Within a level, a field is one row of numbers, the rows of the picture one after
another. They have an odd length and margins on all sides. So a neighbor of all
pixels is one slice at another offset, and the two colors are the even and the odd
positions.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from vitexco_jax import flow as flows
from vitexco_jax import sizes

_LIGHTNESS, _GRADIENT = 10.0, 20.0  # Weights of the two differences.
_CONTRAST = 0.1  # Added to the gradient that differences are divided by.
_ROBUST = 0.001  # Differences below this count quadratically.
_STEPS = 2  # Increments at the finest level; one more at each coarser one ...
_MOST_STEPS = 6  # ... up to this number.
_SWEEPS = 5  # Of the solver, per increment.
_RELAXATION = 1.6
_LEAST_SIDE = 16  # Pixels; a level with a shorter side has no coarser one.
_LEVELS = 6
_LEVELS_FROM_START = 5  # If a flow is given from which to start.
_AROUND = 9  # Side of the squares in which two flows are compared, in pixels.
_MOST_DIFFERENT = 30.0  # Differences of lightness are compared up to this.
_OUTSIDE = 10.0  # Difference where a flow leaves the picture.
_MARGIN = 2  # Rows and columns around the picture.

Pair = tuple[jax.Array, jax.Array]


def backward_flows(luminance: jax.Array, alpha: float = 10.0) -> jax.Array:
  """Estimates the flow from each frame to the previous one.

  Args:
    luminance: [1 + t, h, w, 1], L - 50, the previous frame first; at least 16
      pixels high and wide.
    alpha: weight of smoothness, about as in `flow.backward_flow`.

  Returns:
    [t, h, w, 2], (dx, dy) in pixels, on the grids of the frames.
  """
  grays = _levels_of_gray(luminance)
  return jax.vmap(lambda x, y: _estimate(x, y, None, alpha))(
    grays[1:], grays[:-1]
  )


def flows_to_reference(
  luminance: jax.Array,
  reference: jax.Array,
  backward: jax.Array,
  before: jax.Array,
  alpha: float = 10.0,
) -> jax.Array:
  """Estimates the flow from each frame to a reference earlier in the clip.

  Each one starts from the flow by way of the previous frame; see
  `flow.flow_to_reference`.

  Args:
    luminance: [t, h, w, 1], L - 50 of consecutive frames.
    reference: [h, w, 1], L - 50.
    backward: [t, h, w, 2], from `backward_flows`.
    before: [h, w, 2], from the frame before the first one to the reference.
    alpha: see `backward_flows`.

  Returns:
    [t, h, w, 2], (dx, dy) in pixels.
  """
  target = _levels_of_gray(reference)

  def step(before: jax.Array, frame: Pair) -> Pair:
    gray, backward = frame
    start = backward + flows.warp(before[None], backward[None])[0]
    found = _estimate(gray, target, start, alpha)
    return found, found

  return lax.scan(step, before, (_levels_of_gray(luminance), backward))[1]


def _levels_of_gray(luminance: jax.Array) -> jax.Array:
  """L - 50 in [-50, 50], [..., 1], to [...] in [0, 255]."""
  return (jnp.clip(luminance[..., 0], -50, 50) + 50.0) * 2.55


def _estimate(
  gray: jax.Array, target: jax.Array, start: jax.Array | None, alpha: float
) -> jax.Array:
  """Estimates the flow from one picture to another.

  Args:
    gray: [h, w] in [0, 255], where the flow starts.
    target: [h, w], where it ends.
    start: [h, w, 2], a first estimate; None: no motion.
    alpha: weight of smoothness.

  Returns:
    [h, w, 2].
  """
  level_count = _LEVELS if start is None else _LEVELS_FROM_START
  pyramid = [jnp.stack([gray, target], -1)]
  while len(pyramid) < level_count and min(pyramid[-1].shape[:2]) > _LEAST_SIDE:
    height, width = pyramid[-1].shape[:2]
    half = math.ceil(height / 2), math.ceil(width / 2)
    pyramid.append(sizes.resize(pyramid[-1], half))
  found = jnp.zeros_like(pyramid[-1]) if start is None else start
  for level, pair in reversed(list(enumerate(pyramid))):
    height, width = pair.shape[:2]
    found = _resize(found, (height, width))
    step = _Level(pair[..., 0], pair[..., 1], alpha).step
    count = min(_STEPS + level, _MOST_STEPS)
    found = lax.fori_loop(0, count, lambda _, x, step=step: step(x), found)
    if start is not None:
      found = _better(pair, found, _resize(start, (height, width)))
  return found


def _better(pair: jax.Array, flow: jax.Array, other: jax.Array) -> jax.Array:
  """Returns, at each pixel, the flow along which its surroundings agree better.

  Args:
    pair: [h, w, 2] in [0, 255], the picture where flow starts, and its target.
    flow: [h, w, 2].
    other: [h, w, 2].
  """

  def mean_around(x: jax.Array) -> jax.Array:
    for window in ((_AROUND, 1), (1, _AROUND)):
      x = lax.reduce_window(x, 0.0, lax.add, window, (1, 1), 'same') / _AROUND
    return x

  def difference(flow: jax.Array) -> jax.Array:
    warped = flows.warp(pair[None, ..., 1:], flow[None])[0, ..., 0]
    change = warped - pair[..., 0]
    change = jnp.abs(change - mean_around(change))  # Light may have changed.
    outside = _OUTSIDE * (1 - _stays_inside(flow))
    return mean_around(jnp.minimum(change, _MOST_DIFFERENT)) + outside

  better = difference(flow) < difference(other)
  return jnp.where(better[..., None], flow, other)


def _resize(flow: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Does what `flow.resize_flow` does, on the device."""
  height, width = flow.shape[:2]
  scale = jnp.array([size[1] / width, size[0] / height])
  return sizes.resize(flow, size) * scale


class _Equations(NamedTuple):
  """Linear equations of the flow (u, v) at each pixel, all [n].

  a11 u + a12 v = b1 and a12 u + a22 v = b2 without smoothness. With weights s of
  the neighbors, s (u - neighbor's u) is added to the first one, and so on.
  """

  a11: jax.Array
  a12: jax.Array
  a22: jax.Array
  b1: jax.Array
  b2: jax.Array


class _Level:
  """A pair of pictures at one level; see above for the layout of fields."""

  def __init__(self, gray: jax.Array, target: jax.Array, alpha: float):
    """Initializes the level.

    Args:
      gray: [h, w] in [0, 255], where the flow starts.
      target: [h, w], where it ends.
      alpha: weight of smoothness.
    """
    self._gray, self._target, self._alpha = gray, target, alpha
    self._size = height, width = gray.shape
    rows = height + height % 2  # Even, so that both colors have as many pixels.
    self._row = row = width + 2 * _MARGIN + 1 - width % 2
    self._begin, self._count = _MARGIN * row, rows * row
    self._pads = (
      (_MARGIN, _MARGIN + rows - height),
      (_MARGIN, row - width - _MARGIN),
    )
    self._inside = self._lay(jnp.ones_like(gray), mode='constant')

  def step(self, flow: jax.Array) -> jax.Array:
    """Improves the flow [h, w, 2] once."""
    fields = self._lay(flow[..., 0]), self._lay(flow[..., 1])
    equations = self._data(flow, fields)
    weights = self._smoothness(fields)
    solved = self._solve(fields, equations, weights)
    height, width = self._size
    pixels = slice(_MARGIN, _MARGIN + width)
    return jnp.stack(
      [x.reshape(-1, self._row)[:height, pixels] for x in solved], -1
    )

  def _lay(self, picture: jax.Array, mode: str = 'edge') -> jax.Array:
    """Makes a field of [h, w]."""
    # Without the barrier, XLA computes the picture once for each slice of it.
    field = jnp.pad(picture, self._pads, mode).reshape(-1)
    return lax.optimization_barrier(field)

  def _margin(self, x: jax.Array) -> jax.Array:
    """Makes a field of [n], with zeros around."""
    return lax.optimization_barrier(jnp.pad(x, self._begin))

  def _at(self, field: jax.Array, offset: int = 0) -> jax.Array:
    """Returns the neighbors of all pixels at an offset, [n]."""
    first = self._begin + offset
    return lax.slice(field, [first], [first + self._count])

  def _data(self, flow: jax.Array, fields: Pair) -> _Equations:
    """Linearizes the differences of lightness and of its gradient."""
    warped = flows.warp(self._target[None, ..., None], flow[None])[0, ..., 0]
    mean = self._lay((self._gray + warped) / 2)
    change = self._lay(warped - self._gray)
    known = self._at(self._lay(_stays_inside(flow), mode='constant'))
    u, v = map(self._at, fields)

    def at(*offsets: int) -> jax.Array:
      return sum((self._at(mean, x) for x in offsets), jnp.zeros(()))

    row = self._row
    x, y = (at(1) - at(-1)) / 2, (at(row) - at(-row)) / 2
    xx = (at(2, -2) - 2 * at(0)) / 4
    yy = (at(2 * row, -2 * row) - 2 * at(0)) / 4
    xy = (at(row + 1, -row - 1) - at(row - 1, 1 - row)) / 4
    t = self._at(change)
    xt = (self._at(change, 1) - self._at(change, -1)) / 2
    yt = (self._at(change, row) - self._at(change, -row)) / 2

    def per_contrast(dx: jax.Array, dy: jax.Array) -> jax.Array:
      return 1 / (dx * dx + dy * dy + _CONTRAST**2)

    w, wx, wy = per_contrast(x, y), per_contrast(xx, xy), per_contrast(xy, yy)
    lightness = _LIGHTNESS * known * _robust(t * t * w)
    gradient = _GRADIENT * known * _robust(xt * xt * wx + yt * yt * wy)
    w, wx, wy = w * lightness, wx * gradient, wy * gradient
    w, wx, wy = lax.optimization_barrier((w, wx, wy))
    a11 = w * x * x + wx * xx * xx + wy * xy * xy
    a12 = w * x * y + wx * xx * xy + wy * xy * yy
    a22 = w * y * y + wx * xy * xy + wy * yy * yy
    # The unknown is the whole flow, not the increment.
    b1 = a11 * u + a12 * v - (w * x * t + wx * xx * xt + wy * xy * yt)
    b2 = a12 * u + a22 * v - (w * y * t + wx * xy * xt + wy * yy * yt)
    return _Equations(a11, a12, a22, b1, b2)

  def _smoothness(self, fields: Pair) -> Pair:
    """Returns weights of the edges to the left and the upper neighbor, fields."""
    squares = [
      (self._at(field, offset) - self._at(field)) ** 2
      for field in fields
      for offset in (1, self._row)
    ]
    weight = self._margin(self._alpha * _robust(sum(squares, jnp.zeros(()))))

    def edge(offset: int) -> jax.Array:
      mean = (self._at(weight) + self._at(weight, offset)) / 2
      inside = self._at(self._inside) * self._at(self._inside, offset)
      return self._margin(mean * inside)

    return edge(-1), edge(-self._row)

  def _solve(self, fields: Pair, equations: _Equations, edges: Pair) -> Pair:
    """Returns approximate solutions u and v, [n], starting from fields."""
    row = self._row
    left, up = edges
    weights = (
      self._at(left),
      self._at(left, 1),
      self._at(up),
      self._at(up, row),
    )
    diagonal = sum(weights, jnp.full((), 1e-9))  # Not 0 outside of the picture.
    a11, a12, a22, b1, b2 = equations
    coefficients = b1, b2, a12, 1 / (a11 + diagonal), 1 / (a22 + diagonal)
    # Without the first barrier, XLA computes them once for each color.
    parts = lax.optimization_barrier(
      [_colors(x) for x in lax.optimization_barrier((*coefficients, *weights))]
    )
    # Left, right, upper, and lower neighbors have the other color.
    lower, upper = row // 2, row // 2 + 1
    offsets = (-1, 0, -upper, lower), (0, 1, -lower, upper)
    first, count = self._begin // 2, self._count // 2

    def at(field: jax.Array, offset: int = 0) -> jax.Array:
      return lax.slice(field, [first + offset], [first + offset + count])

    def relax(
      own: jax.Array,
      other: jax.Array,
      coupled: jax.Array,
      b: jax.Array,
      a12: jax.Array,
      inverse: jax.Array,
      neighbors: list[tuple[jax.Array, int]],
    ) -> jax.Array:
      total = b - a12 * at(coupled)
      for weight, offset in neighbors:
        total += weight * at(other, offset)
      new = at(own) + _RELAXATION * (total * inverse - at(own))
      return lax.dynamic_update_slice(own, new, (first,))

    def sweep(_: int, state: list[list[jax.Array]]) -> list[list[jax.Array]]:
      u, v = (list(x) for x in state)
      for color in (0, 1):
        b1, b2, a12, i1, i2, *weights = (x[color] for x in parts)
        around = list(zip(weights, offsets[color], strict=True))
        u[color] = relax(u[color], u[1 - color], v[color], b1, a12, i1, around)
        v[color] = relax(v[color], v[1 - color], u[color], b2, a12, i2, around)
      return [u, v]

    start = [list(_colors(x)) for x in fields]
    u, v = lax.fori_loop(0, _SWEEPS, sweep, start)

    def whole(colors: list[jax.Array]) -> jax.Array:
      return jnp.stack([at(x) for x in colors], -1).reshape(-1)

    return whole(u), whole(v)


def _robust(square: jax.Array) -> jax.Array:
  """Derivative of the robust function sqrt(x + c) by x, times 2."""
  return lax.rsqrt(square + _ROBUST**2)


def _colors(field: jax.Array) -> Pair:
  """Splits a field into its even and its odd positions."""
  pairs = field.reshape(-1, 2)
  return pairs[:, 0], pairs[:, 1]


def _stays_inside(flow: jax.Array) -> jax.Array:
  """Does what `flow.stays_inside` does, on the device: 1 or 0, [h, w]."""
  height, width = flow.shape[:2]
  x = jnp.arange(width) + flow[..., 0]
  y = jnp.arange(height)[:, None] + flow[..., 1]
  inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
  return inside.astype(flow.dtype)
