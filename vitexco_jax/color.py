"""CIE Lab and sRGB, on device and differentiable.

`rgb` is sRGB in [0, 1]; `lab` is CIE Lab under D65, 2 degree observer, with L in
[0, 100] and a, b about [-110, 110]. Both are float, channels last. The networks
use l = L - 50 (`center`, `uncenter`), so that zeros mean mid grey.

The constants are scikit-image's; the two agree to 1e-3. Powers are guarded so
that gradients stay finite at black, white and grey.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_XYZ_FROM_RGB = np.array(
  [
    [0.412453, 0.357580, 0.180423],
    [0.212671, 0.715160, 0.072169],
    [0.019334, 0.119193, 0.950227],
  ]
)
_RGB_FROM_XYZ = np.linalg.inv(_XYZ_FROM_RGB)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_LINEAR_BELOW = 0.008856  # CIE 15, in the rounding that scikit-image uses.
_L_OFFSET = 50.0
_SHADOW = 8.0  # L, below which Lab is linear in light.
_TINY = 1e-9  # Of linear light.


def _matmul3(x: jax.Array, matrix: np.ndarray) -> jax.Array:
  """Applies a 3x3 matrix to the channels, in full float32 also on a GPU."""
  matrix = jnp.asarray(matrix, x.dtype)
  return jnp.einsum(
    '...c,dc->...d', x, matrix, precision=jax.lax.Precision.HIGHEST
  )


def rgb_to_lab(rgb: jax.Array) -> jax.Array:
  """Converts sRGB in [0, 1] to CIE Lab, both [..., 3] float."""
  _check(rgb)
  linear = jnp.where(
    rgb > 0.04045,
    ((jnp.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4,
    rgb / 12.92,
  )
  xyz = _matmul3(linear, _XYZ_FROM_RGB / _WHITE[:, None])
  f = jnp.where(
    xyz > _LINEAR_BELOW,
    jnp.cbrt(jnp.maximum(xyz, _LINEAR_BELOW)),
    7.787 * xyz + 16.0 / 116.0,
  )
  x, y, z = f[..., 0], f[..., 1], f[..., 2]
  return jnp.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], -1)


def lab_to_rgb(lab: jax.Array) -> jax.Array:
  """Converts CIE Lab to sRGB, both [..., 3] float; clips to [0, 1]."""
  _check(lab)
  y = (lab[..., 0] + 16.0) / 116.0
  x = y + lab[..., 1] / 500.0
  z = jnp.maximum(y - lab[..., 2] / 200.0, 0.0)
  f = jnp.stack([x, y, z], -1)
  linear = _matmul3(_inverse_f(f), _RGB_FROM_XYZ * _WHITE)
  return jnp.clip(_encode(linear), 0.0, 1.0)


def _inverse_f(f: jax.Array) -> jax.Array:
  """X, Y or Z over that of white, of Lab's f, of any shape."""
  return jnp.where(f > 0.2068966, f**3, (f - 16.0 / 116.0) / 7.787)


def _encode(linear: jax.Array) -> jax.Array:
  """sRGB of linear RGB, of any shape."""
  return jnp.where(
    linear > 0.0031308,
    1.055 * jnp.maximum(linear, 0.0031308) ** (1.0 / 2.4) - 0.055,
    12.92 * linear,
  )


def fade_to_rgb(lab: jax.Array) -> jax.Array:
  """Converts CIE Lab to sRGB; chroma fades where RGB cannot hold it.

  Unlike `lab_to_rgb`, which clips, it keeps L exactly, and hue nearly: black
  stays black, white stays white, and gray comes out as three equal channels.
  What RGB can hold is not changed, unless it is nearly black, below L = 8. There
  Lab is linear in light, so that with L chroma goes to zero as in a shadow, where
  the ratio of R, G and B stays the same. A network that guesses the chroma of what
  is almost black would make it dark red or blue.

  a and b are scaled towards gray until the color lies within RGB. Two steps find
  that scale well enough (against the exact one: hue to 0.2 degrees, Delta E to
  0.1, in the mean of colors outside RGB); the small rest is mixed with gray of
  the same luminance in linear light.

  Args:
    lab: [..., 3] float.

  Returns:
    [..., 3] in [0, 1].
  """
  _check(lab)
  f = (lab[..., 0] + 16.0) / 116.0
  luminance = jnp.clip(_inverse_f(f), 0.0, 1.0)
  shadow = jnp.clip(lab[..., 0] / _SHADOW, 0.0, 1.0)
  x_step, z_step = shadow * lab[..., 1] / 500.0, -shadow * lab[..., 2] / 200.0
  matrix = (_RGB_FROM_XYZ * _WHITE).astype(np.float32).tolist()

  def from_gray(scale):
    """Linear RGB minus gray, a list of 3: separate channels are fast."""
    x = _inverse_f(f + scale * x_step) - luminance
    z = _inverse_f(f + scale * z_step) - luminance
    return [of_x * x + of_z * z for of_x, _, of_z in matrix]

  def room(away):
    """By what `away` from gray may be multiplied to reach RGB's border."""
    above = jnp.maximum(functools.reduce(jnp.maximum, away), _TINY)
    below = jnp.maximum(-functools.reduce(jnp.minimum, away), _TINY)
    return jnp.minimum((1.0 - luminance) / above, luminance / below)

  scale = jnp.ones_like(f)
  for _ in range(2):
    # The root damps: far from gray, light grows with the third power.
    scale = jnp.minimum(1.0, scale * jnp.sqrt(room(from_gray(scale))))
  away = from_gray(scale)
  rest = jnp.minimum(1.0, room(away))
  linear = jnp.stack([luminance + rest * part for part in away], -1)
  return jnp.clip(_encode(linear), 0.0, 1.0)


@jax.jit
def uint8_to_lab(rgb: jax.Array) -> jax.Array:
  """Converts sRGB in levels, [..., 3] uint8 (or uint16), to CIE Lab, [..., 3]."""
  return rgb_to_lab(rgb.astype(jnp.float32) / jnp.iinfo(rgb.dtype).max)


@jax.jit
def grey(rgb: jax.Array) -> jax.Array:
  """A picture's L alone, in three equal channels: [..., 3] uint8 to uint8."""
  without = fade_to_rgb(uint8_to_lab(rgb) * jnp.array([1.0, 0.0, 0.0]))
  return jnp.round(without * 255.0).astype(jnp.uint8)


def center(lab: jax.Array) -> jax.Array:
  """Lab as the networks take it: l = L - 50. [..., 3] to [..., 3]."""
  return lab - jnp.array([_L_OFFSET, 0.0, 0.0], lab.dtype)


def uncenter(lab: jax.Array) -> jax.Array:
  """Undoes `center`. [..., 3] to [..., 3]."""
  return lab + jnp.array([_L_OFFSET, 0.0, 0.0], lab.dtype)


def _check(image: jax.Array):
  if image.shape[-1] != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(
      f'expected float with 3 channels last, got {image.dtype} {image.shape}'
    )
