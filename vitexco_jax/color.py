"""Conversion between CIE Lab and sRGB, on device and differentiable.

`rgb` is sRGB in [0, 1]; `lab` is CIE Lab under D65, 2 degree observer, with L in
[0, 100] and a, b about [-110, 110]. Both are float, channels last. The networks
use l = L - 50 (`center`, `uncenter`), so that zeros are a medium gray.

The constants are those of scikit-image; results agree to 1e-3. Gradients are
finite everywhere, also at black, white and gray.
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
_LINEAR_BELOW = 0.008856  # CIE 15, rounded as in scikit-image.
_L_OFFSET = 50.0
_SHADOW = 8.0  # L below which Lab is linear in light.
_TINY = 1e-9  # Linear light that counts as zero.


def _matmul3(x: jax.Array, matrix: np.ndarray) -> jax.Array:
  """Applies a 3x3 matrix to the channels, in full float32 also on a GPU."""
  return jnp.einsum(
    '...c,dc->...d',
    x,
    jnp.asarray(matrix, x.dtype),
    precision=jax.lax.Precision.HIGHEST,
  )


def rgb_to_lab(rgb: jax.Array) -> jax.Array:
  """Converts sRGB in [0, 1] to CIE Lab, both [..., 3] float."""
  _check(rgb)
  return _linear_to_lab(_decode(rgb))


def _decode(rgb: jax.Array) -> jax.Array:
  """Converts sRGB to linear RGB; any shape."""
  return jnp.where(
    rgb > 0.04045,
    ((jnp.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4,
    rgb / 12.92,
  )


def _linear_to_lab(linear: jax.Array) -> jax.Array:
  """Converts linear RGB to CIE Lab, both [..., 3]."""
  xyz = _matmul3(linear, _XYZ_FROM_RGB / _WHITE[:, None])
  f = _f(xyz)
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


def _f(xyz: jax.Array) -> jax.Array:
  """Converts X, Y or Z relative to white to f of Lab; any shape."""
  return jnp.where(
    xyz > _LINEAR_BELOW,
    jnp.maximum(xyz, _LINEAR_BELOW) ** (1.0 / 3.0),
    7.787 * xyz + 16.0 / 116.0,
  )


def _inverse_f(f: jax.Array) -> jax.Array:
  """Converts f of Lab to X, Y or Z relative to white; any shape."""
  return jnp.where(f > 0.2068966, f**3, (f - 16.0 / 116.0) / 7.787)


def _encode(linear: jax.Array) -> jax.Array:
  """Converts linear RGB to sRGB; any shape."""
  return jnp.where(
    linear > 0.0031308,
    1.055 * jnp.maximum(linear, 0.0031308) ** (1.0 / 2.4) - 0.055,
    12.92 * linear,
  )


def fade_to_rgb(lab: jax.Array) -> jax.Array:
  """Converts CIE Lab to sRGB, reducing the chroma of colors outside of sRGB.

  Unlike `lab_to_rgb`, which clips, this preserves L exactly, and hue nearly:
  black stays black, white stays white, and gray has three equal channels. Colors
  inside sRGB are unchanged, except below L = 8. There Lab is linear in light, and
  chroma is scaled with L as in a shadow, where the ratio of R, G and B is
  constant. Otherwise, errors in the predicted chroma would turn black into dark
  red or blue.

  a and b are scaled toward gray until the color is inside sRGB. Two steps give
  the scale with enough precision (mean errors of colors outside of sRGB: 0.2
  degrees of hue, 0.1 of Delta E). What remains outside is mixed with gray of the
  same luminance in linear light.

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

  def from_gray(scale: jax.Array) -> list[jax.Array]:
    """Returns linear RGB minus gray, as 3 channels: this is faster."""
    x = _inverse_f(f + scale * x_step) - luminance
    z = _inverse_f(f + scale * z_step) - luminance
    return [of_x * x + of_z * z for of_x, _, of_z in matrix]

  def room(away: list[jax.Array]) -> jax.Array:
    """Returns the factor of `away` at which the color leaves sRGB."""
    above = jnp.maximum(functools.reduce(jnp.maximum, away), _TINY)
    below = jnp.maximum(-functools.reduce(jnp.minimum, away), _TINY)
    return jnp.minimum((1.0 - luminance) / above, luminance / below)

  scale = jnp.ones_like(f)
  for _ in range(2):
    # The root damps the steps, as light grows with the third power of chroma.
    scale = jnp.minimum(1.0, scale * jnp.sqrt(room(from_gray(scale))))
  away = from_gray(scale)
  rest = jnp.minimum(1.0, room(away))
  linear = jnp.stack([luminance + rest * part for part in away], -1)
  return jnp.clip(_encode(linear), 0.0, 1.0)


@jax.jit
def uint8_to_lab(rgb: jax.Array) -> jax.Array:
  """Converts sRGB, [..., 3] uint8 or uint16, to CIE Lab, [..., 3] float32."""
  return _linear_to_lab(_decode_levels(rgb))


@jax.jit
def uint8_to_lightness(rgb: jax.Array) -> jax.Array:
  """Computes only L of `uint8_to_lab`, [..., 1], in half of the time."""
  light = _decode_levels(rgb) * jnp.asarray(_XYZ_FROM_RGB[1], jnp.float32)
  return 116.0 * _f(light.sum(-1, keepdims=True)) - 16.0


def _decode_levels(rgb: jax.Array) -> jax.Array:
  """Converts uint8 or uint16 sRGB to linear RGB by a table; any shape."""
  with jax.ensure_compile_time_eval():
    table = _decode(jnp.linspace(0.0, 1.0, jnp.iinfo(rgb.dtype).max + 1))
  return table[rgb.astype(jnp.int32)]


@jax.jit
def gray(rgb: jax.Array) -> jax.Array:
  """Removes the color of sRGB and keeps L: [..., 3] uint8 to [..., 3] uint8."""
  without = fade_to_rgb(uint8_to_lab(rgb) * jnp.array([1.0, 0.0, 0.0]))
  return jnp.round(without * 255.0).astype(jnp.uint8)


def center(lab: jax.Array) -> jax.Array:
  """Converts L to l = L - 50, which the networks use: [..., 3] to [..., 3]."""
  return lab - jnp.array([_L_OFFSET, 0.0, 0.0], lab.dtype)


def uncenter(lab: jax.Array) -> jax.Array:
  """Inverts `center`: [..., 3] to [..., 3]."""
  return lab + jnp.array([_L_OFFSET, 0.0, 0.0], lab.dtype)


def _check(image: jax.Array) -> None:
  if image.shape[-1] != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(
      f'expected a float image [..., 3], got {image.dtype} {image.shape}'
    )
