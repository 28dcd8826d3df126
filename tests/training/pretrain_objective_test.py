"""The pretraining objective: fits of maps, class tokens, and colors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_pretraining import make_compare, make_config, random_crops

from vitexco_jax import color
from vitexco_jax.models import efficientnet, prior
from vitexco_jax.pretrained import efficientnet_weights
from vitexco_jax.training import pretrain_objective

pytestmark = pytest.mark.usefixtures('small_teachers')

_make_teacher = pretrain_objective.make_teacher  # Before it is replaced.


def test_explained_variance_agrees_with_a_slow_computation():
  rng = np.random.default_rng(0)
  wanted = rng.gamma(1, 1, (5, 6, 4, 3))
  actual = wanted + rng.normal(0, 0.3, wanted.shape)
  residual = total = 0.0
  for channel in range(3):
    mean = wanted[..., channel].mean()
    for a, b in zip(
      actual[..., channel].flat, wanted[..., channel].flat, strict=True
    ):
      residual += (a - b) ** 2
      total += (b - mean) ** 2
  each = [
    pretrain_objective.fit(jnp.asarray(a[None]), jnp.asarray(b[None]))
    for a, b in zip(actual, wanted, strict=True)
  ]
  all_ = jax.tree.map(lambda *x: np.mean(x, 0), *each)
  assert all_.explained() == pytest.approx(1 - residual / total, rel=1e-4)
  perfect = pretrain_objective.fit(jnp.asarray(wanted), jnp.asarray(wanted))
  assert perfect.explained() == 1


def test_targets_are_maps_of_the_input_and_tokens_of_the_color_picture(
  pretrain_state,
):
  compare = jax.jit(make_compare(make_config()))
  compare = functools.partial(
    compare, pretrain_state.params, pretrain_state.heads
  )
  rgb = random_crops(1).rgb
  shown_gray = compare(rgb, np.array([True]))
  lightness = np.asarray(color.uint8_to_lab(rgb)[..., :1]) / 100
  is_gray = np.uint8(np.round(255 * np.repeat(lightness, 3, -1)))
  is_gray = compare(is_gray, np.array([False]))
  in_color = compare(rgb, np.array([False]))
  for level, fit in shown_gray.fits.items():
    for x, y in zip(fit, is_gray.fits[level], strict=True):
      np.testing.assert_allclose(x, y, rtol=0.02, atol=0.02)
    assert abs(fit.error - in_color.fits[level].error) > 1e-3
  assert abs(shown_gray.class_token - is_gray.class_token) > 1e-3


def test_all_positions_of_a_target_have_equal_length():
  rng = np.random.default_rng(0)
  vgg_map = rng.gamma(1, 1, (2, 3, 4, 8)) * rng.gamma(1, 9, (2, 3, 4, 1))
  target = np.asarray(pretrain_objective.make_target(jnp.asarray(vgg_map)))
  np.testing.assert_allclose((target**2).mean(-1), 1, rtol=1e-5)
  ratio = target / vgg_map
  np.testing.assert_allclose(ratio, ratio[..., :1].repeat(8, -1), rtol=1e-5)


def test_teacher_preserves_cosines():
  width = 192  # As of `:small`.
  rgb = np.float32(random_crops(3).rgb / 255)
  actual = np.asarray(jax.jit(_make_teacher(width))(rgb))
  np.testing.assert_allclose((actual**2).sum(-1), 1, rtol=1e-5)
  large = jax.image.resize(rgb, (3, 224, 224, 3), 'bilinear')
  params = efficientnet_weights.load_efficientnet_lite0()
  whole = efficientnet.EfficientNetLite0()
  whole = np.array(jax.jit(whole.apply)({'params': params}, large))
  whole /= np.linalg.norm(whole, axis=1, keepdims=True)
  np.testing.assert_allclose(actual @ actual.T, whole @ whole.T, atol=0.25)


def test_colors_are_compared_at_each_position():
  rng = np.random.default_rng(0)
  ab = np.float32(rng.normal(0, 10, (2, 3, 4, 2)))
  spread = np.float32(rng.uniform(1, 20, (2, 3, 4, 1)))
  true_ab = np.float32(rng.normal(0, 10, (2, 12, 16, 2)))
  actual = pretrain_objective.compare_colors(
    prior.PriorColor(ab, spread), true_ab, np.array([False, True])
  )
  rows = []
  for i in range(3):
    for j in range(4):
      a, b = true_ab[1, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((0, 1))
      square = (ab[1, i, j, 0] - a) ** 2 + (ab[1, i, j, 1] - b) ** 2
      s = spread[1, i, j, 0]
      rows.append(
        {
          'color': ((square + 100) ** 0.5 - 10) / 20,
          'spread': np.log(s) + (square + 0.25) ** 0.5 / s,
          'error': square,
          'gray': a**2 + b**2,
        }
      )
  for name, value in actual.items():
    mean = np.mean([row[name] for row in rows])
    assert value == pytest.approx(mean, rel=1e-4), name
