"""Computation in blocks of rows equals that of all rows at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitexco_jax.models import blocked


def _matrices():
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(7, 3)).astype(np.float32)
  return rows, rng.normal(size=(5, 3)).astype(np.float32)


def _softmax_and_max(rows, keys):
  scores = rows @ keys.T
  return jax.nn.softmax(scores, -1) @ keys, scores.max(-1)


@pytest.mark.parametrize('block', [1, 3, 7, 100])
def test_equals_the_whole_with_its_gradients(block):
  rows, keys = _matrices()

  def whole(rows, keys):
    return _softmax_and_max(rows, keys)

  def in_blocks(rows, keys):
    return blocked.map_rows(lambda r: _softmax_and_max(r, keys), rows, block)

  def value_and_grads(function):
    def scalar(rows, keys):
      mixed, top = function(rows, keys)
      return jnp.sin(mixed).sum() + jnp.cos(top).sum(), (mixed, top)

    return jax.value_and_grad(scalar, (0, 1), has_aux=True)(rows, keys)

  (_, outputs), grads = jax.jit(lambda: value_and_grads(in_blocks))()
  (_, want), want_grads = value_and_grads(whole)
  assert [x.shape for x in outputs] == [(7, 3), (7,)]
  for actual, expected in zip(
    (*outputs, *grads), (*want, *want_grads), strict=True
  ):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_sees_no_more_rows_than_a_block():
  rows, _ = _matrices()
  seen = set()

  def function(rows):
    seen.add(rows.shape)
    return rows.sum(-1)

  jax.grad(lambda rows: blocked.map_rows(function, rows, 3).sum())(rows)
  assert seen == {(3, 3)}
