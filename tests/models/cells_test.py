"""Matching in two steps, against matching with all positions."""

import jax.numpy as jnp
import numpy as np
import pytest

from vitexco_jax.models import cells
from vitexco_jax.models.correspondence import match
from vitexco_jax.models.references import first_keys
from vitexco_jax.structs import Reference

_SIZE = 8, 12
_TEMPERATURE = 0.05


def _unit(rng, *shape):
  x = rng.normal(size=shape)
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _pictures(seed=0):
  """Returns queries and a reference, both smooth, and the reference's rows."""
  rng = np.random.default_rng(seed)
  coarse = _unit(rng, 2, 2, 3, 20).repeat(4, 1).repeat(4, 2)
  keys = coarse + 0.3 * _unit(rng, 2, *_SIZE, 20)
  keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
  queries = coarse[:, None, ::-1] + 0.3 * _unit(rng, 2, 3, *_SIZE, 20)
  queries /= np.linalg.norm(queries, axis=-1, keepdims=True)
  rows = Reference(
    jnp.zeros((2, 32, 48, 3)),
    jnp.asarray(keys.reshape(2, -1, 20)),
    jnp.asarray(rng.normal(size=(2, 96, 2)), jnp.float32),
  )
  divided = rows._replace(
    keys=cells.divide(rows.keys, _SIZE), ab=cells.divide(rows.ab, _SIZE)
  )
  return queries, cells.summarize(divided), rows


def test_a_cell_has_the_positions_of_4x4():
  x = np.arange(96).reshape(1, 96, 1)
  divided = cells.divide(jnp.asarray(x), _SIZE)
  first, second = divided[0, :16, 0], divided[0, 16:32, 0]
  want = [12 * row + column for row in range(4) for column in range(4)]
  np.testing.assert_array_equal(first, want)
  np.testing.assert_array_equal(second, np.add(want, 4))
  np.testing.assert_array_equal(cells.undivide(divided, _SIZE), x)


@pytest.mark.parametrize('temperature', [0, _TEMPERATURE])
def test_with_all_cells_it_is_the_exact_matching(temperature):
  queries, divided, rows = _pictures()
  result = cells.match(jnp.asarray(queries), divided, temperature, 99)
  flat = queries.reshape(2, -1, 20)
  want = match(flat, rows.keys, rows.ab, temperature, 40)
  for x, y in zip(result, want, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize('count', [2, 99])
@pytest.mark.parametrize('temperature', [0, _TEMPERATURE])
def test_filling_changes_nothing(temperature, count):
  queries, divided, _ = _pictures()
  queries = jnp.abs(jnp.asarray(queries))
  part = Reference(  # Nine cells; negative, so that zeros are more similar.
    divided.lab,
    *(
      jnp.tile(x, (1, 2, 1))[:, :144] for x in (-abs(divided.keys), divided.ab)
    ),
  )
  filled = cells.fill(part)
  assert filled.keys.shape == (2, 160, 20)
  result, want = (
    cells.match(queries, cells.summarize(x), temperature, count)
    for x in (filled, part)
  )
  for x, y in zip(result, want, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6)


def test_keys_outside_of_the_best_cells_have_no_weight():
  queries, divided, rows = _pictures()
  ab, confidence = cells.match(jnp.asarray(queries), divided, _TEMPERATURE, 1)
  # Tiles of the upper half show the lower half of the reference, and vice versa.
  flat = queries.reshape(2, 3, 2, 4, 3, 4, 20)
  keys = np.asarray(rows.keys).reshape(2, 2, 4, 3, 4, 20)
  colors = np.asarray(rows.ab).reshape(2, 2, 4, 3, 4, 2)
  near = np.einsum('btixjyd,biujvd->btixjyuv', flat, keys[:, ::-1])
  weights = np.exp(near / _TEMPERATURE)
  weights /= weights.sum((-1, -2), keepdims=True)
  want = np.einsum('btixjyuv,biujvc->btixjyc', weights, colors[:, ::-1])
  np.testing.assert_allclose(ab, want.reshape(2, -1, 2), atol=1e-4)
  want = near.max((-1, -2)).reshape(2, -1, 1)
  np.testing.assert_allclose(confidence, want, atol=1e-5)


def test_the_first_keys_of_divided_references_are_rows():
  _, divided, rows = _pictures()
  for size in ((8, 12), (5, 16)):
    np.testing.assert_array_equal(
      first_keys(divided, size), first_keys(rows, size)
    )
