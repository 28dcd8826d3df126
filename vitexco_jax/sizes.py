"""Conversion from the size of the source to the working size, and back.

Colors are predicted at the working size, which limits the cost. The L of a frame
is never resized. `size` is (height, width) in pixels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax import color
from vitexco_jax.structs import Array
from vitexco_jax.traces import Program

TOKEN = 16  # Networks need multiples of this; features need two tokens.


def within(size: tuple[int, int], bound: tuple[int, int]) -> tuple[int, int]:
  """Reduces a size to fit into `bound`, which is rotated for a tall picture."""
  h, w = size
  high, wide = sorted(bound, reverse=h > w)
  scale = min(1.0, high / h, wide / w)
  return max(1, round(h * scale)), max(1, round(w * scale))


def padded(size: tuple[int, int], multiple: int = TOKEN) -> tuple[int, int]:
  """Rounds a size up to a multiple, and to at least twice the multiple."""
  h, w = (max(2, -(-side // multiple)) * multiple for side in size)
  return h, w


def shared(size: tuple[int, int], bound: tuple[int, int]) -> tuple[int, int]:
  """Returns one of a few sizes that contains a size, so that programs are shared.

  It is the `padded` bound, rotated for a tall picture, or a half, a quarter, ... of it.

  Args:
    size: within `bound`, padded or not.
    bound: see `within`.
  """
  h, w = padded(size)
  high, wide = sorted(bound, reverse=h > w)
  result = padded((high, wide))
  while True:
    high, wide = -(-high // 2), -(-wide // 2)
    smaller = padded((high, wide))
    if smaller == result or h > smaller[0] or w > smaller[1]:
      return result
    result = smaller


def resize(
  image: jax.Array, size: tuple[int, int], method: str = 'linear'
) -> jax.Array:
  """Resizes a picture as `jax.image.resize` does, with antialiasing.

  It adds only pixels with a weight: a fifth of the time on a CPU, where JAX
  multiplies by a matrix that is nearly all zeros.

  Args:
    image: [h, w, c] float.
    size: the new (height, width).
    method: of `jax.image.resize`.

  Returns:
    [*size, c].
  """
  for axis, side in enumerate(size):
    if image.shape[axis] == side:
      continue
    places, weights = _taps(image.shape[axis], side, method)
    shape = [1, 1, 1]
    shape[axis] = side
    image = sum(
      (
        weight.reshape(shape) * jnp.take(image, place, axis, mode='clip')
        for place, weight in zip(places, weights, strict=True)
      ),
      start=jnp.zeros(()),
    )
    # Otherwise, XLA resizes rows once for each column that needs them.
    image = jax.lax.optimization_barrier(image)
  return image


@functools.lru_cache(maxsize=64)
def _taps(old: int, new: int, method: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns the pixels that are added, and their weights, [taps, new] each."""
  # One program, also while another one is traced.
  unit = np.eye(old, dtype=np.float32)
  lowered = jax.jit(jax.image.resize, static_argnums=(1, 2)).lower(
    unit, (new, old), method
  )
  matrix = np.asarray(lowered.compile()(unit))
  used = matrix != 0
  first, last = used.argmax(1), old - 1 - used[:, ::-1].argmax(1)
  count = int((last - first).max()) + 1
  places = np.minimum(first, old - count) + np.arange(count)[:, None]
  return places, matrix[np.arange(new), places]


def pad(image: jax.Array, multiple: int = TOKEN) -> jax.Array:
  """Repeats the bottom and right edge of [h, w, c] up to the `padded` size."""
  h, w = image.shape[:2]
  high, wide = padded((h, w), multiple)
  return jnp.pad(image, ((0, high - h), (0, wide - w), (0, 0)), 'edge')


@Program
def join(rgb: jax.Array, ab: jax.Array) -> jax.Array:
  """Combines the L of a frame with predicted colors.

  Args:
    rgb: [H, W, 3] uint8 or uint16; only its L is used.
    ab: [h, w, 2], resized bicubically.

  Returns:
    [H, W, 3], with the dtype of `rgb`; see `color.fade_to_rgb`.
  """
  ab = resize(ab, (rgb.shape[0], rgb.shape[1]), 'cubic')
  lab = jnp.concatenate([color.uint8_to_lightness(rgb), ab], -1)
  # Otherwise, XLA computes L several times on a CPU.
  lab = jax.lax.optimization_barrier(lab)
  top = jnp.iinfo(rgb.dtype).max
  return jnp.round(color.fade_to_rgb(lab) * top).astype(rgb.dtype)


def join_frames(rgb: np.ndarray, ab: Array) -> list[jax.Array]:
  """Joins several frames, [t, H, W, 3] and [t, h, w, 2], one at a time."""
  # All colors are separated at once: on a CPU, JAX waits if 32 calls are pending.
  return [join(frame, colors) for frame, colors in zip(rgb, ab, strict=True)]
