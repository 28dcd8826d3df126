"""Mixing of colors: trust falls with the difference."""

import jax.numpy as jnp
import numpy as np

from vitexco_jax.models import mixing


def test_trust_falls_to_a_third_at_the_tolerance():
  difference = jnp.array([0.0, 5.0, 10.0])
  want = [1.0, np.exp(-1), np.exp(-2)]
  np.testing.assert_allclose(mixing.trust(difference, 5.0), want, rtol=1e-6)


def test_the_weight_is_that_of_the_first_color():
  first, second = jnp.full((1, 2, 2), 8.0), jnp.zeros((1, 2, 2))
  weight = jnp.array([[[1.0], [0.25]]])
  mixed = mixing.mix(weight, first, second)
  np.testing.assert_array_equal(mixed, [[[8.0, 8.0], [2.0, 2.0]]])
