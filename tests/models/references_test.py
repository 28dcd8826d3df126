"""Several references as one, and principal components."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_generator
from tiny_generator import T, make_tiny, random_luminance, random_rgb

from vitexco_jax.models.references import combine, compress, first_keys
from vitexco_jax.structs import Reference


@pytest.fixture(scope='module')
def variables():
  return tiny_generator.random_variables()


def test_with_several_references_the_best_match_gives_the_color(
  variables,
):
  settings = dict(make_tiny().correspondence, temperature=0)
  generator = make_tiny(correspondence=settings)
  guide = jax.jit(functools.partial(generator.apply, method='guide'))
  reference, other = (
    generator.apply(
      variables, random_rgb(2, seed=seed), method='encode_reference'
    )
    for seed in (0, 9)
  )
  first, second, both = (
    guide(variables, random_luminance(), x)
    for x in (reference, other, combine([reference, other]))
  )
  wins = first.confidence >= second.confidence
  assert 0.1 < wins.mean() < 0.9
  for x, y, z in zip(first[:2], second[:2], both[:2], strict=True):
    np.testing.assert_allclose(np.where(wins, x, y), z, atol=1e-5)


def test_components_that_span_the_keys_change_nothing():
  rng = np.random.default_rng(0)
  span = np.linalg.qr(rng.normal(size=(2, 64, 10)))[0]
  keys = rng.normal(size=(2, 90, 10)) @ span.swapaxes(1, 2)
  keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
  whole = Reference(
    jnp.zeros((2, 24, 60, 3)),
    jnp.asarray(keys, jnp.float32),
    jnp.asarray(rng.normal(size=(2, 90, 2)), jnp.float32),
  )
  # Keys do not span the other components of queries.
  queries = rng.normal(size=(2, T, 3, 5, 64)).astype(np.float32)
  queries /= np.linalg.norm(queries, axis=-1, keepdims=True)
  few = compress(whole, 10)
  assert few.keys.shape == (2, 90, 10)
  result, want = (
    make_tiny().apply({}, queries, x, method='match') for x in (few, whole)
  )
  np.testing.assert_allclose(result.warped_ab, want.warped_ab, atol=1e-3)
  np.testing.assert_allclose(result.confidence, want.confidence, atol=1e-5)
  for components in (0, 64):
    assert compress(whole, components) is whole
  # Three components are those with the largest singular values.
  singular = np.linalg.svd(keys[0], compute_uv=False)
  np.testing.assert_allclose(
    np.sum(np.square(compress(whole, 3).keys[0])),
    np.sum(np.square(singular[:3])),
    rtol=1e-4,
  )


def test_the_first_keys_are_cropped_or_padded():
  keys = np.arange(2 * 3, dtype=np.float32).reshape(1, 6, 1)
  first = Reference(jnp.zeros((1, 8, 12, 3)), keys, jnp.zeros((1, 6, 2)))
  both = combine([first, first._replace(keys=keys + 10)])
  np.testing.assert_array_equal(
    first_keys(both, (3, 2))[0, ..., 0], [[0, 1], [3, 4], [3, 4]]
  )
