"""color against scikit-image, over the whole cube."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import color as skcolor

from vitexco_jax import color


def _cube(steps):
  axis = np.linspace(0, 1, steps)
  return np.stack(np.meshgrid(axis, axis, axis, indexing='ij'), -1).reshape(
    -1, 3
  )


def test_rgb_to_lab_agrees_with_scikit_image():
  rgb = np.concatenate([_cube(33), _cube(256)[:256] / 20])  # Dark ones too.
  ours = color.rgb_to_lab(jnp.asarray(rgb, jnp.float32))
  np.testing.assert_allclose(ours, skcolor.rgb2lab(rgb), atol=1e-3)


def test_lab_to_rgb_agrees_with_scikit_image_also_out_of_gamut():
  rng = np.random.default_rng(0)
  lab = rng.uniform([0, -110, -110], [100, 110, 110], (20_000, 3))
  # scikit-image warns of the negative z that both clip.
  keep = (lab[:, 0] + 16) / 116 - lab[:, 2] / 200 >= 0
  ours = color.lab_to_rgb(jnp.asarray(lab[keep], jnp.float32))
  np.testing.assert_allclose(ours, skcolor.lab2rgb(lab[keep]), atol=1e-3)


def test_round_trip():
  rgb = _cube(17).astype(np.float32)
  back = color.lab_to_rgb(color.rgb_to_lab(jnp.asarray(rgb)))
  np.testing.assert_allclose(back, rgb, atol=1e-4)


@pytest.mark.parametrize('value', [0.0, 0.04045, 0.5, 1.0])
def test_gradients_are_finite_on_the_grey_axis(value):
  rgb = jnp.full((4, 3), value)
  lab = color.rgb_to_lab(rgb)
  for function, at in [(color.rgb_to_lab, rgb), (color.lab_to_rgb, lab)]:
    grad = jax.grad(lambda x, f=function: f(x).sum())(at)
    assert np.isfinite(grad).all()


def test_gradients_are_finite_everywhere():
  lab = np.random.default_rng(1).uniform(-130, 130, (5000, 3))
  grad = jax.grad(lambda x: color.lab_to_rgb(x).sum())(jnp.asarray(lab))
  assert np.isfinite(grad).all()


def test_center_is_undone_and_zero_is_mid_grey():
  lab = jnp.array([[50.0, 3.0, -4.0]])
  np.testing.assert_array_equal(color.center(lab)[0], [0, 3, -4])
  np.testing.assert_array_equal(color.uncenter(color.center(lab)), lab)


def test_integers_are_refused():
  with pytest.raises(TypeError, match='uint8'):
    color.rgb_to_lab(jnp.zeros((2, 3), jnp.uint8))
