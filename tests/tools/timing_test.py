"""FLOP counts against counts by hand and against XLA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax.tools import timing


def test_flops_of_a_product_and_a_convolution():
  a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
  assert timing.count_flops(jnp.matmul, a, b) == 2 * 3 * 5 * 7

  image, kernel = jnp.ones((2, 8, 6, 4)), jnp.ones((3, 3, 4, 10))
  convolve = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(2, 2),
    padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  flops = 2 * (2 * 4 * 3 * 10) * (3 * 3 * 4)  # Per output: 3x3 taps of 4.
  assert timing.count_flops(convolve, image, kernel) == flops
  # The gradient of each argument costs the same again.
  gradient = jax.grad(lambda i, k: convolve(i, k).sum(), (0, 1))
  count = timing.count_flops(gradient, image, kernel)
  assert 2.9 * flops < count < 3.5 * flops


def test_flops_of_a_loop_include_every_iteration():
  rows, matrix = jnp.ones((6, 4, 5)), jnp.ones((5, 5))

  def loop(rows):
    return jax.lax.map(jax.jit(lambda x: x @ matrix), rows)

  assert timing.count_flops(loop, rows) == 6 * 2 * 4 * 5 * 5


def test_flops_agree_with_xla_without_loops():
  def function(a, b):
    return jnp.tanh(a @ b) @ b

  a = jnp.ones((64, 64))
  compiled = jax.jit(function).lower(a, a).compile()
  flops = compiled.cost_analysis()['flops']  # Counts tanh as well.
  counted = timing.count_flops(function, a, a)
  np.testing.assert_allclose(counted, flops, rtol=0.05)
