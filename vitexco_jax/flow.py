"""Optical flow: estimating it, trusting it, and sampling along it.

`flow` is (dx, dy) in pixels on the grid of the frame it starts from: what is at
x in `from_rgb` is at x + flow(x) in `to_rgb`, so sampling the *later* picture at
x + flow(x) brings it to the *earlier* frame's grid:

  warp(to_rgb, flow)(x) = to_rgb(x + flow(x)), about equal to from_rgb(x).

Estimation and visibility run on the host (OpenCV, NumPy, one picture at a time);
`warp` runs on device, in batches.
"""

import cv2
import jax
import jax.numpy as jnp
import numpy as np

METHODS = ('deepflow', 'dis')


def estimate_flow(
  from_rgb: np.ndarray, to_rgb: np.ndarray, method: str = 'deepflow'
) -> np.ndarray:
  """Estimates where each pixel of one picture went in another.

  Args:
    from_rgb: [h, w, 3] uint8, the picture on whose grid the flow lies.
    to_rgb: [h, w, 3] uint8, the picture that it points into.
    method: `deepflow` (the paper's) or `dis` (many times faster).

  Returns:
    [h, w, 2] float32, (dx, dy) in pixels.
  """
  if method == 'deepflow':
    estimator = cv2.optflow.createOptFlow_DeepFlow()
  elif method == 'dis':
    estimator = _dis()
  else:
    raise ValueError(f'unknown flow {method!r}: {METHODS} are known')
  grey = [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (from_rgb, to_rgb)]
  return estimator.calc(grey[0], grey[1], None).astype(np.float32)


def backward_flow(grey: np.ndarray, previous: np.ndarray) -> np.ndarray:
  """Estimates where each place of a frame was in the frame before, by fine DIS.

  Args:
    grey: [h, w, 1] uint8, the frame's L times 2.55.
    previous: [h, w, 1] uint8, that of the frame before.

  Returns:
    [h, w, 2] float32, (dx, dy) in pixels, on the frame's own grid.
  """
  grey, previous = map(np.ascontiguousarray, (grey, previous))
  return _fine_dis().calc(grey, previous, None)


def flow_to_reference(
  grey: np.ndarray,
  reference: np.ndarray,
  backward: np.ndarray,
  before: np.ndarray,
) -> np.ndarray:
  """Follows the flow to an earlier frame one frame further, by fine DIS.

  The way by the frame before is where DIS starts from, so that it finds places
  that moved far; and as it compares with the reference itself, errors of that way
  do not add up from frame to frame.

  Args:
    grey: [h, w, 1] uint8, the frame's L times 2.55.
    reference: [h, w, 1] uint8, that of the reference.
    backward: [h, w, 2], from the frame to the one before.
    before: [h, w, 2], from that one to the reference.

  Returns:
    [h, w, 2] float32, from the frame to the reference.
  """
  start = backward + _sampled(before, backward)
  return _fine_dis().calc(grey, reference, start.astype(np.float32))


def _dis() -> cv2.DISOpticalFlow:
  return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _fine_dis() -> cv2.DISOpticalFlow:
  """DIS down to single pixels, smoothed half as much: slower, nearer."""
  estimator = _dis()
  estimator.setFinestScale(0)
  estimator.setVariationalRefinementAlpha(10.0)
  return estimator


def _sampled(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
  """What `warp` gives, of one picture, on the host."""
  height, width = flow.shape[:2]
  y, x = np.mgrid[:height, :width].astype(np.float32)
  return cv2.remap(
    picture,
    x + flow[..., 0],
    y + flow[..., 1],
    cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REPLICATE,
  )


def visible_mask(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
  """Marks where the forward flow can be trusted (Ruder et al. 2016).

  With w the forward flow at x and v the backward flow at x + w, x is not usable
  where w and v do not cancel, |w + v|^2 >= 0.01 (|w|^2 + |v|^2) + 0.5; where
  x + w leaves the picture; and on the boundaries of moving things,
  |grad w_x|^2 + |grad w_y|^2 > 0.01 |w|^2 + 0.002, whose flow is imprecise.
  Gradients are central differences, one-sided at the picture's border.

  Args:
    forward: [h, w, 2] float32, from the earlier frame to the later one.
    backward: [h, w, 2] float32, from the later frame to the earlier one.

  Returns:
    [h, w, 1] uint8 on the earlier frame's grid, 1 = usable.
  """
  returned = _sampled(backward, forward)

  def squared(flow):
    return np.sum(np.square(flow), -1)

  consistent = squared(forward + returned) < (
    0.01 * (squared(forward) + squared(returned)) + 0.5
  )
  down, across = np.gradient(forward, axis=(0, 1))
  boundary = squared(down) + squared(across) > 0.01 * squared(forward) + 0.002
  usable = stays_inside(forward) & consistent & ~boundary
  return usable[..., None].astype(np.uint8)


def stays_inside(flow: np.ndarray) -> np.ndarray:
  """Whether x + flow(x) is within the picture: [h, w, 2] to [h, w] bool."""
  height, width = flow.shape[:2]
  y, x = np.mgrid[:height, :width].astype(np.float32)
  x, y = x + flow[..., 0], y + flow[..., 1]
  return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def resize_flow(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes a flow field, and its vectors with it.

  Args:
    flow: [h, w, 2] float32, pixels of the old grid.
    size: the new (height, width).

  Returns:
    [*size, 2] float32, pixels of the new grid.
  """
  height, width = flow.shape[:2]
  shrinks = size[0] < height
  resized = cv2.resize(
    flow,
    (size[1], size[0]),
    interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
  )
  return resized * np.float32([size[1] / width, size[0] / height])


def warp(image: jax.Array, flow: jax.Array) -> jax.Array:
  """Samples `image` bilinearly at x + flow(x); outside, the border goes on.

  To bring frame t to the grid of frame t-1, give it frame t and the forward
  flow from t-1 to t.

  Args:
    image: [b, h, w, c] float, the picture that the flow points into.
    flow: [b, h, w, 2] float, (dx, dy) in pixels.

  Returns:
    [b, h, w, c] on the grid that the flow starts from; differentiable in both.
  """
  batch, height, width, channels = image.shape
  if flow.shape != (batch, height, width, 2):
    raise ValueError(f'flow {flow.shape} does not fit image {image.shape}')
  x = jnp.arange(width, dtype=jnp.float32) + flow[..., 0]
  y = jnp.arange(height, dtype=jnp.float32)[:, None] + flow[..., 1]
  x = jnp.clip(x, 0, width - 1)
  y = jnp.clip(y, 0, height - 1)
  # The last left corner is the last but one pixel, so that both corners exist.
  left = jnp.clip(jnp.floor(x), 0, max(width - 2, 0)).astype(jnp.int32)
  top = jnp.clip(jnp.floor(y), 0, max(height - 2, 0)).astype(jnp.int32)
  right_share = (x - left)[..., None].astype(image.dtype)
  bottom_share = (y - top)[..., None].astype(image.dtype)
  pixels = image.reshape(batch, height * width, channels)

  def corner(row, column):
    position = (row * width + column).reshape(batch, height * width, 1)
    return jnp.take_along_axis(
      pixels, position, axis=1, mode='promise_in_bounds'
    ).reshape(image.shape)

  right, bottom = (
    jnp.minimum(left + 1, width - 1),
    jnp.minimum(top + 1, height - 1),
  )
  upper = corner(top, left) * (1 - right_share) + (
    corner(top, right) * right_share
  )
  lower = corner(bottom, left) * (1 - right_share) + (
    corner(bottom, right) * right_share
  )
  return upper * (1 - bottom_share) + lower * bottom_share
