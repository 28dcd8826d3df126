"""From the source's size to the working size, and back.

Colours are predicted at the working size, which bounds the cost; a frame's own
L never leaves the source's size. `size` is (height, width).
"""

import jax
import jax.numpy as jnp

from vitexco_jax import color

TOKEN = 16  # Networks see multiples of this; features need two tokens.


def within(size: tuple[int, int], bound: tuple[int, int]) -> tuple[int, int]:
  """Shrinks a size to fit within `bound`, on its side for a tall picture."""
  h, w = size
  bound = sorted(bound, reverse=h > w)
  scale = min(1.0, bound[0] / h, bound[1] / w)
  return max(1, round(h * scale)), max(1, round(w * scale))


def padded(size: tuple[int, int], multiple: int = TOKEN) -> tuple[int, int]:
  """The size behind `pad`: multiples, at least two of it."""
  return tuple(max(2, -(-side // multiple)) * multiple for side in size)


def resize(image: jax.Array, size: tuple[int, int]) -> jax.Array:
  """[h, w, c] float to [*size, c], bilinear, smoothed where it shrinks."""
  return jax.image.resize(image, (*size, image.shape[-1]), 'linear')


def pad(image: jax.Array, multiple: int = TOKEN) -> jax.Array:
  """Repeats the lower and right edge of [h, w, c] up to `padded`."""
  size = image.shape[:2]
  pads = [(0, p - s) for p, s in zip(padded(size, multiple), size, strict=True)]
  return jnp.pad(image, (*pads, (0, 0)), 'edge')


def join(rgb: jax.Array, ab: jax.Array) -> jax.Array:
  """Gives a frame predicted colors and keeps its L; see `color.fade_to_rgb`.

  Args:
    rgb: [H, W, 3] uint8 or uint16, of which L alone is looked at.
    ab: [h, w, 2], brought up bicubically.

  Returns:
    [H, W, 3], of `rgb`'s type.
  """
  ab = jax.image.resize(ab, (*rgb.shape[:2], 2), 'cubic')
  lab = jnp.concatenate([color.uint8_to_lab(rgb)[..., :1], ab], -1)
  # On a CPU, XLA would compute L again for each of its many uses.
  lab = jax.lax.optimization_barrier(lab)
  top = jnp.iinfo(rgb.dtype).max
  return jnp.round(color.fade_to_rgb(lab) * top).astype(rgb.dtype)


@jax.jit
def join_frames(rgb: jax.Array, ab: jax.Array) -> jax.Array:
  """`join` of several frames, [t, H, W, 3] and [t, h, w, 2], one by one."""
  return jax.lax.map(lambda frame: join(*frame), (rgb, ab))
