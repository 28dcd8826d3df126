"""Mixing the colors of two sources by how far one of them can be trusted.

Each mix of colors uses it: likeness along optical flow (`motion`), the rules of the
`mixture`, and colors that come from both ends of a stretch (`inference`).
"""

import jax
import jax.numpy as jnp


def trust(difference: jax.Array, tolerance: float) -> jax.Array:
  """Computes the trust in a source that differs from what is expected.

  Args:
    difference: any shape; 0 where the source is as expected.
    tolerance: the difference at which the trust falls to 1/e.

  Returns:
    exp(-difference / tolerance), in [0, 1] if no difference is negative.
  """
  return jnp.exp(-difference / tolerance)


def mix(weight: jax.Array, ab: jax.Array, other_ab: jax.Array) -> jax.Array:
  """Averages two colors, [..., 2]; `weight`, [..., 1], is that of the first."""
  return weight * ab + (1.0 - weight) * other_ab
