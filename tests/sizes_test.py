"""Sizes: bounds, padding, and joining colors to a frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import color as skcolor

from vitexco_jax import sizes


@pytest.mark.parametrize(
  'size, expected',
  [
    ((480, 854), (216, 384)),  # Limited by the width.
    ((600, 800), (224, 299)),  # Limited by the height.
    ((854, 480), (384, 216)),  # The bound is rotated.
    ((100, 200), (100, 200)),  # Never enlarged.
    ((1, 5000), (1, 384)),
  ],
)
def test_the_working_size_is_within_its_bounds(size, expected):
  assert sizes.within(size, (224, 384)) == expected


@pytest.mark.parametrize(
  'size, expected',
  [
    ((216, 384), (224, 384)),
    ((224, 224), (224, 384)),
    ((240, 224), (384, 224)),  # Tall.
    ((16, 193), (224, 384)),
    ((112, 192), (112, 192)),  # Half of the bound.
    ((57, 32), (96, 64)),  # A quarter, (96, 56), is padded.
    ((100, 60), (192, 112)),
    ((1, 2), (32, 32)),
  ],
)
def test_sizes_share_few_sizes(size, expected):
  assert sizes.shared(size, (224, 384)) == expected


def test_pad_repeats_the_lower_and_right_edge():
  image = jnp.arange(5 * 33 * 2.0).reshape(5, 33, 2)
  padded = sizes.pad(image)
  assert padded.shape == (*sizes.padded((5, 33)), 2) == (32, 48, 2)
  np.testing.assert_array_equal(padded[:5, :33], image)
  np.testing.assert_array_equal(padded[4:, :33], image[4:].repeat(28, 0))
  np.testing.assert_array_equal(padded[:, 32:], padded[:, 32:33].repeat(16, 1))


def test_join_uses_only_the_lightness_of_the_frame():
  rng = np.random.default_rng(0)
  rgb = rng.integers(90, 160, (12, 16, 3), np.uint8)
  lab = skcolor.rgb2lab(rgb) * [1, 0, 0] + [0, 8, -6]
  expected = np.round(255 * skcolor.lab2rgb(lab))
  result = sizes.join(
    jnp.asarray(rgb), jnp.full((3, 4, 2), jnp.array([8, -6.0]))
  )
  assert result.dtype == jnp.uint8
  assert np.abs(np.float32(result) - expected).max() <= 1


@pytest.mark.parametrize('method', ['linear', 'cubic'])
@pytest.mark.parametrize('size', [(7, 9), (23, 31), (12, 40), (12, 17)])
def test_resize_is_that_of_jax(size, method):
  image = np.random.default_rng(0).normal(size=(12, 17, 2)).astype(np.float32)
  result = sizes.resize(jnp.asarray(image), size, method)
  with jax.default_matmul_precision('highest'):
    want = jax.image.resize(image, (*size, 2), method)
  np.testing.assert_allclose(result, want, atol=1e-5)
