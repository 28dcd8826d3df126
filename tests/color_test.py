"""Color conversion against scikit-image, over the whole RGB cube."""

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
  rgb = np.concatenate([_cube(33), _cube(256)[:256] / 20])  # Also dark colors.
  result = color.rgb_to_lab(jnp.asarray(rgb, jnp.float32))
  np.testing.assert_allclose(result, skcolor.rgb2lab(rgb), atol=1e-3)


def test_lab_to_rgb_agrees_with_scikit_image_also_out_of_gamut():
  rng = np.random.default_rng(0)
  lab = rng.uniform([0, -110, -110], [100, 110, 110], (20_000, 3))
  # scikit-image warns about negative z, which both clip.
  keep = (lab[:, 0] + 16) / 116 - lab[:, 2] / 200 >= 0
  result = color.lab_to_rgb(jnp.asarray(lab[keep], jnp.float32))
  np.testing.assert_allclose(result, skcolor.lab2rgb(lab[keep]), atol=1e-3)


def test_round_trip():
  rgb = _cube(17).astype(np.float32)
  back = color.lab_to_rgb(color.rgb_to_lab(jnp.asarray(rgb)))
  np.testing.assert_allclose(back, rgb, atol=1e-4)


def _random_lab():
  """Lightness from 8, also close to white, with colors mostly outside of RGB."""
  rng = np.random.default_rng(0)
  lightness = np.concatenate(
    [rng.uniform(*span, 4000) for span in ((8, 100), (8, 16), (94, 100))]
  )
  return np.stack([lightness, *rng.normal(0, 40, (2, 12_000))], -1)


def test_faded_colors_preserve_lightness_and_hue():
  lab = _random_lab()
  rgb = np.asarray(color.fade_to_rgb(jnp.asarray(lab, jnp.float32)), float)
  assert rgb.min() >= 0 and rgb.max() <= 1
  result = skcolor.rgb2lab(rgb)
  np.testing.assert_allclose(result[:, 0], lab[:, 0], atol=2e-3)
  chroma, before = (np.linalg.norm(x[:, 1:], axis=1) for x in (result, lab))
  assert (chroma <= before + 0.05).all()
  cosine = (result[:, 1:] * lab[:, 1:]).sum(-1) / np.maximum(
    chroma * before, 1e-6
  )
  angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))[chroma > 2]
  assert np.median(angle) < 0.1 and np.percentile(angle, 99) < 5


def test_colors_do_not_fade_more_than_necessary():
  lab = _random_lab()
  rgb = np.asarray(color.fade_to_rgb(jnp.asarray(lab, jnp.float32)), float)

  def fits(scale):
    # scikit-image clips, so colors outside do not come back the same.
    scaled = lab * np.stack([np.ones_like(scale), scale, scale], -1)
    valid = (lab[:, 0] + 16) / 116 - scaled[:, 2] / 200 > 1e-4
    scaled[~valid] = 0  # skimage warns about negative z.
    back = skcolor.rgb2lab(skcolor.lab2rgb(scaled))
    return valid & (np.abs(back - scaled).max(-1) < 0.01)

  low, high = np.zeros(len(lab)), np.ones(len(lab))
  for _ in range(14):
    middle = (low + high) / 2
    inside = fits(middle)
    low, high = np.where(inside, middle, low), np.where(inside, high, middle)
  largest = low * np.linalg.norm(lab[:, 1:], axis=1)
  chroma = np.linalg.norm(skcolor.rgb2lab(rgb)[:, 1:], axis=1)
  assert abs(np.mean(chroma - largest)) < 0.2
  assert np.percentile(largest - chroma, 99) < 1.5


def test_colors_within_rgb_do_not_fade():
  rgb = _cube(17)
  lab = skcolor.rgb2lab(rgb)
  rgb, lab = rgb[lab[:, 0] > 8], lab[lab[:, 0] > 8]
  result = color.fade_to_rgb(jnp.asarray(lab, jnp.float32))
  np.testing.assert_allclose(result, rgb, atol=2e-3)


def test_shadows_of_a_color_preserve_its_ratios():
  y = np.linspace(0.01, 1, 50)[:, None] * 0.0088  # L from 0 to 8.
  ab = np.tile([2.0, -1.0], (len(y), 1))
  lab = jnp.asarray(np.concatenate([116 * 7.787 * y, ab], -1), jnp.float32)
  ratios = skcolor.rgb2xyz(np.float64(color.fade_to_rgb(lab))) / y
  assert (ratios.max(0) / ratios.min(0) < 1.01).all()


@pytest.mark.parametrize('level', [1, 2, 4])
def test_colors_that_are_nearly_black_stay_dark(level):
  gray = jnp.full((1000, 3), level / 255)
  ab = np.random.default_rng(0).normal(0, 12, (1000, 2))
  lab = color.rgb_to_lab(gray).at[:, 1:].set(jnp.asarray(ab))
  result = np.round(255 * np.asarray(color.fade_to_rgb(lab)))
  assert result.max() <= 4 * level + 3


@pytest.mark.parametrize('top', [255, 1023, 65535])
def test_gray_has_equal_channels_of_its_level(top):
  levels = np.arange(0, top + 1, max(1, top // 1000), np.int64)
  levels = np.append(levels, top)
  rgb = np.repeat(levels[:, None] / top, 3, -1).astype(np.float32)
  lab = color.rgb_to_lab(jnp.asarray(rgb)) * jnp.array([1.0, 0, 0])
  result = np.round(np.float64(color.fade_to_rgb(lab)) * top)
  assert np.ptp(result, axis=1).max() == 0
  assert np.abs(result[:, 0] - levels).max() <= max(1, top // 65535)


def test_black_and_white_stay_with_any_color():
  ab = jnp.asarray(np.random.default_rng(0).normal(0, 60, (1000, 2)))
  for lightness, value in (-0.1, 0), (0, 0), (100, 1), (100.1, 1):
    lab = jnp.concatenate([jnp.full((1000, 1), lightness), ab], -1)
    np.testing.assert_allclose(color.fade_to_rgb(lab), value, atol=1e-4)


@pytest.mark.parametrize('value', [0.0, 0.04045, 0.5, 1.0])
def test_gradients_are_finite_on_the_gray_axis(value):
  rgb = jnp.full((4, 3), value)
  lab = color.rgb_to_lab(rgb)
  for function, at in [(color.rgb_to_lab, rgb), (color.lab_to_rgb, lab)]:
    grad = jax.grad(lambda x, f=function: f(x).sum())(at)
    assert np.isfinite(grad).all()


def test_gradients_are_finite_everywhere():
  lab = np.random.default_rng(1).uniform(-130, 130, (5000, 3))
  grad = jax.grad(lambda x: color.lab_to_rgb(x).sum())(jnp.asarray(lab))
  assert np.isfinite(grad).all()


def test_uncenter_inverts_center_and_zero_is_medium_gray():
  lab = jnp.array([[50.0, 3.0, -4.0]])
  np.testing.assert_array_equal(color.center(lab)[0], [0, 3, -4])
  np.testing.assert_array_equal(color.uncenter(color.center(lab)), lab)


def test_integers_are_refused():
  with pytest.raises(TypeError, match='uint8'):
    color.rgb_to_lab(jnp.zeros((2, 3), jnp.uint8))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_lightness_of_levels_is_that_of_scikit_image(dtype):
  top = np.iinfo(dtype).max
  rng = np.random.default_rng(0)
  rgb = rng.integers(0, top, (40, 50, 3), dtype, endpoint=True)
  want = skcolor.rgb2lab(rgb / top)
  lightness = color.uint8_to_lightness(rgb)
  np.testing.assert_allclose(lightness, want[..., :1], atol=1e-3)
  np.testing.assert_allclose(color.uint8_to_lab(rgb), want, atol=5e-3)
