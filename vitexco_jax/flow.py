"""Optical flow: estimation, visibility, and warping.

`flow` is (dx, dy) in pixels on the grid of the frame where it starts: what is at
x in `from_rgb` is at x + flow(x) in `to_rgb`. So sampling `to_rgb` at
x + flow(x) warps it to the grid of `from_rgb`:

  warp(to_rgb, flow)(x) = to_rgb(x + flow(x)), which approximates from_rgb(x).

Estimation and visibility run on the CPU (OpenCV, NumPy, one picture at a time);
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
  """Estimates the optical flow from one picture to another.

  Args:
    from_rgb: [h, w, 3] uint8, the picture where the flow starts.
    to_rgb: [h, w, 3] uint8, the picture where it ends.
    method: `deepflow`, as in the paper, or `dis`, which is many times faster.

  Returns:
    [h, w, 2] float32, (dx, dy) in pixels.
  """
  if method == 'deepflow':
    estimator = cv2.optflow.createOptFlow_DeepFlow()
  elif method == 'dis':
    estimator = _dis()
  else:
    raise ValueError(f'method is {method!r}; known are ' + ', '.join(METHODS))
  gray = [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (from_rgb, to_rgb)]
  # The type stubs do not know that the initial flow is optional.
  flow = estimator.calc(gray[0], gray[1], None)  # type: ignore[call-overload]
  return np.asarray(flow, np.float32)


def backward_flow(
  gray: np.ndarray, previous: np.ndarray, alpha: float = 10.0
) -> np.ndarray:
  """Estimates the flow from a frame to the previous one, by fine DIS.

  Args:
    gray: [h, w, 1] uint8, 2.55 L of the frame.
    previous: [h, w, 1] uint8, 2.55 L of the previous frame.
    alpha: weight of smoothness in the variational refinement; OpenCV's default
      is 20.

  Returns:
    [h, w, 2] float32, (dx, dy) in pixels, on the grid of the frame.
  """
  gray, previous = map(np.ascontiguousarray, (gray, previous))
  return np.asarray(
    _fine_dis(alpha).calc(gray, previous, None)  # type: ignore[call-overload]
  )


def flow_to_reference(
  gray: np.ndarray,
  reference: np.ndarray,
  backward: np.ndarray,
  before: np.ndarray,
  alpha: float = 10.0,
) -> np.ndarray:
  """Estimates the flow from a frame to a reference earlier in the clip.

  Fine DIS starts from the flow by way of the previous frame, so it can follow
  large motion. It compares the frame with the reference directly, so errors do
  not add up from frame to frame.

  Args:
    gray: [h, w, 1] uint8, 2.55 L of the frame.
    reference: [h, w, 1] uint8, 2.55 L of the reference.
    backward: [h, w, 2], from the frame to the previous one.
    before: [h, w, 2], from the previous frame to the reference.
    alpha: see `backward_flow`.

  Returns:
    [h, w, 2] float32, from the frame to the reference.
  """
  start = backward + _sampled(before, backward)
  flow = _fine_dis(alpha).calc(gray, reference, start.astype(np.float32))
  return np.asarray(flow)


def _dis() -> cv2.DISOpticalFlow:
  return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _fine_dis(alpha: float) -> cv2.DISOpticalFlow:
  """Returns DIS at full resolution: slower, more exact."""
  estimator = _dis()
  estimator.setFinestScale(0)
  estimator.setVariationalRefinementAlpha(alpha)
  # 5, the default of the preset, takes 1.5 times as long and is not better.
  estimator.setVariationalRefinementIterations(3)
  return estimator


def _sampled(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
  """Warps one picture on the CPU; see `warp`."""
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
  """Marks where the forward flow is reliable (Ruder et al. 2016).

  Let w be the forward flow at x, and v the backward flow at x + w. The flow is
  not reliable in three cases: w and v do not cancel, |w + v|^2 >= 0.01 (|w|^2 +
  |v|^2) + 0.5; x + w is outside of the picture; or x is at a motion boundary,
  |grad w_x|^2 + |grad w_y|^2 > 0.01 |w|^2 + 0.002. Gradients are central
  differences, one-sided at the border of the picture.

  Args:
    forward: [h, w, 2] float32, from the earlier frame to the later one.
    backward: [h, w, 2] float32, from the later frame to the earlier one.

  Returns:
    [h, w, 1] uint8 on the grid of the earlier frame, 1 = reliable.
  """
  returned = _sampled(backward, forward)

  def squared(flow: np.ndarray) -> np.ndarray:
    return np.sum(np.square(flow), -1)

  consistent = squared(forward + returned) < (
    0.01 * (squared(forward) + squared(returned)) + 0.5
  )
  down, across = np.gradient(forward, axis=(0, 1))
  boundary = squared(down) + squared(across) > 0.01 * squared(forward) + 0.002
  reliable = stays_inside(forward) & consistent & ~boundary
  return reliable[..., None].astype(np.uint8)


def stays_inside(flow: np.ndarray) -> np.ndarray:
  """Tests if x + flow(x) is inside the picture: [h, w, 2] to [h, w] bool."""
  height, width = flow.shape[:2]
  y, x = np.mgrid[:height, :width].astype(np.float32)
  x, y = x + flow[..., 0], y + flow[..., 1]
  return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def resize_flow(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes a flow field and scales its vectors.

  Args:
    flow: [h, w, 2] float32, (dx, dy) in pixels of the old size.
    size: the new (height, width).

  Returns:
    [*size, 2] float32, (dx, dy) in pixels of the new size.
  """
  height, width = flow.shape[:2]
  shrinks = size[0] < height
  resized = cv2.resize(
    flow,
    (size[1], size[0]),
    interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
  )
  scale = np.array([size[1] / width, size[0] / height], np.float32)
  return np.asarray(resized) * scale


def warp(image: jax.Array, flow: jax.Array) -> jax.Array:
  """Samples `image` bilinearly at x + flow(x); outside, the border is repeated.

  To warp frame t to the grid of frame t-1, use frame t and the forward flow from
  t-1 to t.

  Args:
    image: [b, h, w, c] float, the picture where the flow ends.
    flow: [b, h, w, 2] float, (dx, dy) in pixels.

  Returns:
    [b, h, w, c] on the grid where the flow starts; differentiable in both
    arguments.

  Raises:
    ValueError: the sizes differ.
  """
  batch, height, width, channels = image.shape
  if flow.shape != (batch, height, width, 2):
    raise ValueError(
      f'flow is {flow.shape}, which does not fit image {image.shape}'
    )
  x = jnp.arange(width, dtype=jnp.float32) + flow[..., 0]
  y = jnp.arange(height, dtype=jnp.float32)[:, None] + flow[..., 1]
  x = jnp.clip(x, 0, width - 1)
  y = jnp.clip(y, 0, height - 1)
  # Left and top are at most the last but one pixel, so that all corners exist.
  left = jnp.clip(jnp.floor(x), 0, max(width - 2, 0)).astype(jnp.int32)
  top = jnp.clip(jnp.floor(y), 0, max(height - 2, 0)).astype(jnp.int32)
  right_share = (x - left)[..., None].astype(image.dtype)
  bottom_share = (y - top)[..., None].astype(image.dtype)
  pixels = image.reshape(batch, height * width, channels)

  def corner(row: jax.Array, column: jax.Array) -> jax.Array:
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
