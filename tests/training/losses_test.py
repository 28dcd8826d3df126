"""Losses, compared with slow formulas and values by hand; flat pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitexco_jax.training import losses


def _random(*shape, seed=0, scale=1.0):
  return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


# l1


def test_l1_is_the_mean_absolute_error():
  ab = np.zeros((2, 1, 2, 2), np.float32)
  true_ab = ab.copy()
  true_ab[0, 0, 0] = [3, -5]
  assert losses.l1(ab, true_ab) == 1.0  # 8 over 8 entries.


def test_l1_weights_pick_samples_and_split_evenly_over_batches():
  ab, true_ab = _random(4, 2, 3, 2), _random(4, 2, 3, 2, seed=1)
  weight = np.array([True, False, False, False])
  whole = losses.l1(ab, true_ab, weight)
  np.testing.assert_allclose(whole, np.abs(ab - true_ab)[0].mean() / 4, 1e-6)
  halves = [
    losses.l1(ab[s], true_ab[s], weight[s]) for s in (np.s_[:2], np.s_[2:])
  ]
  np.testing.assert_allclose(whole, np.mean(halves), 1e-6)
  assert halves[1] == 0


# adversarial


def test_adversarial_by_hand():
  real, fake = jnp.array([1.0, 3.0]), jnp.array([0.0, -2.0])
  # Means 2 and -1. Generator: real - (-1) + 1 = 3, 5; fake - 2 - 1 = -3, -5.
  assert losses.adversarial_generator(real, fake) == 17.0
  # Discriminator: real - (-1) - 1 = 1, 3; fake - 2 + 1 = -1, -3.
  assert losses.adversarial_discriminator(real, fake) == 5.0


def test_adversarial_gradients_have_the_right_signs():
  real, fake = jnp.zeros(2), jnp.zeros(2)
  grad = jax.grad(losses.adversarial_generator, argnums=1)(real, fake)
  assert (grad < 0).all()  # A step down the gradient raises fake scores.
  grad = jax.grad(losses.adversarial_discriminator, argnums=1)(real, fake)
  assert (grad > 0).all()


@pytest.mark.parametrize(
  'loss', [losses.adversarial_generator, losses.adversarial_discriminator]
)
def test_adversarial_on_two_devices_equals_one(loss):
  assert jax.local_device_count() == 2
  inputs = _random(2, 4, 3)  # real and fake, samples, what is scored
  weight = _random(3, seed=1)

  def scored(weight, inputs, axis_name=None):
    real, fake = jnp.tanh(inputs @ weight)
    return loss(real, fake, axis_name)

  def step(weight, inputs):
    value, grad = jax.value_and_grad(scored)(weight, inputs, 'devices')
    return jax.lax.pmean((value, grad), 'devices')

  value, grad = jax.value_and_grad(scored)(weight, inputs)
  shards = np.stack([inputs[:, :2], inputs[:, 2:]])
  values, grads = jax.pmap(step, 'devices', in_axes=(None, 0))(weight, shards)
  np.testing.assert_allclose(values, [value, value], 1e-5)
  np.testing.assert_allclose(grads, [grad, grad], 1e-4, 1e-6)


# perceptual


def test_perceptual_is_the_mean_square_with_a_gradient_only_for_the_prediction():
  features, true = _random(2, 3, 4, 5), _random(2, 3, 4, 5, seed=1)
  each = [
    4000 * np.mean((x - y) ** 2) / np.mean(y**2)
    for x, y in zip(features, true, strict=True)
  ]
  actual = losses.perceptual(features, true)
  np.testing.assert_allclose(actual, np.mean(each), 1e-5)
  # The scale of the features, and how many channels they have, do not matter.
  for same in (lambda x: 100 * x, lambda x: np.concatenate([x, x], -1)):
    again = losses.perceptual(same(features), same(true))
    np.testing.assert_allclose(again, actual, 1e-5)
  grads = jax.grad(losses.perceptual, (0, 1))(features, true)
  assert np.any(grads[0]) and not np.any(grads[1])


# contextual


def _slow_contextual(features, reference_features):
  """The printed formula, position by position in float64."""
  losses_ = []
  for n in range(features[0].shape[0]):
    loss = 0
    for i, weight in enumerate([1 / 7, 2 / 7, 4 / 7]):
      x = np.float64(features[i][n])
      y = np.float64(reference_features[i][n])
      if i == 0:
        x = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4
        y = (y[::2, ::2] + y[1::2, ::2] + y[::2, 1::2] + y[1::2, 1::2]) / 4
      x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
      mean = y.mean(0)
      best = []
      for q in x:
        d = []
        for k in y:
          q1, k1 = q - mean, k - mean
          cosine = q1 @ k1 / np.linalg.norm(q1) / np.linalg.norm(k1)
          d.append(1 - cosine)
        d = np.array(d) / (min(d) + 1e-5)
        a = np.exp((1 - d) / 0.1)
        best.append((a / a.sum()).max())
      loss += weight * -np.log(np.mean(best))
    losses_.append(loss)
  return np.mean(losses_)


def _levels(seed, h, w, c=6):
  # Offset, as features are after a ReLU: centering matters.
  return tuple(
    _random(2, h // s, w // s, c, seed=seed + s) + 0.7 for s in (1, 2, 4)
  )


_contextual_grad = jax.jit(jax.grad(losses.contextual), static_argnums=2)


@pytest.mark.parametrize('block', [1000, 5])  # One block; the last one padded.
def test_contextual_agrees_with_the_slow_formula(block):
  features, reference = _levels(0, 8, 12), _levels(10, 8, 8)
  actual = losses.contextual(features, reference, block)
  np.testing.assert_allclose(
    actual, _slow_contextual(features, reference), 1e-4
  )


def test_contextual_gradient_agrees_with_differences():
  features, reference = _levels(0, 4, 8), _levels(10, 4, 8)
  grads = _contextual_grad(features, reference, 3)
  for level in range(3):
    direction = _random(*features[level].shape, seed=level)
    step = 1e-4 * np.float64(direction)
    moved = [
      _slow_contextual(
        (
          *features[:level],
          features[level] + sign * step,
          *features[level + 1 :],
        ),
        reference,
      )
      for sign in (1, -1)
    ]
    np.testing.assert_allclose(
      np.vdot(grads[level], direction), (moved[0] - moved[1]) / 2e-4, 2e-3
    )


def test_contextual_gradient_is_independent_of_blocks():
  features, reference = _levels(0, 8, 8), _levels(10, 8, 8)
  one = _contextual_grad(features, reference, 1000)
  many = _contextual_grad(features, reference, 3)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-6), one, many
  )


def test_contextual_is_zero_for_a_rotated_reference():
  reference = _levels(0, 8, 8)
  turned = tuple(x[:, ::-1, ::-1] for x in reference)
  assert losses.contextual(turned, reference) < 1e-3
  assert losses.contextual(_levels(20, 8, 8), reference) > 0.03


def test_contextual_has_no_gradient_for_the_reference():
  grads = jax.grad(losses.contextual, 1)(_levels(0, 8, 8), _levels(10, 8, 8))
  assert not any(np.any(g) for g in grads)


# temporal


def test_temporal_warps_the_frame_to_the_previous_grid():
  # The picture moves 2 to the right and 1 down from t-1 to t.
  previous_ab = _random(1, 6, 8, 2)
  ab = np.roll(previous_ab, (1, 2), (1, 2))
  flow = np.full((1, 6, 8, 2), [2.0, 1.0], np.float32)
  visible = np.zeros((1, 6, 8, 1), np.uint8)
  visible[:, :5, :6] = 1  # The rest has left the picture.
  assert losses.temporal(ab, previous_ab, flow, visible) < 1e-12
  assert losses.temporal(ab, previous_ab, -flow, visible) > 0.1
  ab[0, 3, 4, 0] += 10.0  # At (2, 2) of the previous frame.
  np.testing.assert_allclose(
    losses.temporal(ab, previous_ab, flow, visible), 100 / (6 * 8 * 2), 1e-4
  )
  visible[0, 2, 2] = 0
  assert losses.temporal(ab, previous_ab, flow, visible) < 1e-12


# smoothness


def _slow_smoothness(ab, lab):
  n, h, w, _ = ab.shape
  total = 0.0
  for b, y, x in np.ndindex(n, h, w):
    weights, colors = [], []
    for v in range(max(y - 1, 0), min(y + 2, h)):
      for u in range(max(x - 1, 0), min(x + 2, w)):
        difference = np.float64(lab[b, v, u]) - lab[b, y, x]
        weights.append(np.exp(-np.sum(difference**2) / 10))
        colors.append(ab[b, v, u])
    mean = np.average(colors, axis=0, weights=weights)
    total += np.sum((ab[b, y, x] - mean) ** 2)
  return total / ab.size


def test_smoothness_agrees_with_the_slow_formula():
  ab = _random(2, 4, 5, 2, scale=20)
  lab = _random(2, 4, 5, 3, seed=1, scale=2)
  np.testing.assert_allclose(
    losses.smoothness(ab, lab), _slow_smoothness(ab, lab), 1e-5
  )


def test_smoothness_is_zero_for_flat_colors_also_at_the_border():
  ab = np.full((1, 4, 5, 2), 60.0, np.float32)
  assert losses.smoothness(ab, np.zeros((1, 4, 5, 3), np.float32)) < 1e-8


def test_the_errors_of_frames_count_by_their_logarithms():
  ab = np.zeros((2, 1, 2, 2), np.float32)
  true_ab = np.array([[[[3, 4], [0, 0]]], [[[1, 0], [1, 0]]]], np.float32)
  np.testing.assert_allclose(
    losses.log_square(ab, true_ab),
    np.log([12.5 + 0.3, 1 + 0.3]).mean(),
    rtol=1e-6,
  )


def test_candidate_errors_are_least_where_they_are_the_errors():
  """Of two possible candidates; the third would be infinitely bad."""
  true_ab = jnp.array([[1.0, 2.0]])
  candidates = [jnp.array([x]) for x in ([1.0, 5.0], [4.0, 6.0], [1e9, 0.0])]
  possible = jnp.array([[1.0, 0.1, 0.0]])

  def loss(log_errors):
    return losses.candidate_errors(log_errors, candidates, possible, true_ab)

  exact = jnp.log(jnp.array([[9.3, 25.3, 1.0]]))
  np.testing.assert_allclose(jax.grad(loss)(exact), 0, atol=1e-6)
  want = 0.5 + 0.5 * np.log([9.3, 25.3]).mean()
  np.testing.assert_allclose(loss(exact), want, rtol=1e-6)
  assert loss(exact + 0.1) > loss(exact) < loss(exact - 0.1)
  assert loss(exact - 30) <= 0.5 * np.exp(3)  # Outliers are bounded.


# Finite


def test_the_expected_error_is_least_where_it_is_the_error():
  """Squared errors of 8 and 24, to which 1 is added."""
  ab = jnp.zeros((1, 1, 2, 2))
  true_ab = jnp.array([[[[2.0, 2.0], [4.0, -(8.0**0.5)]]]])

  def loss(log_error):
    return losses.expected_error(log_error, ab, true_ab)

  exact = jnp.log(jnp.array([9.0, 25.0])).reshape(1, 1, 2, 1)
  np.testing.assert_allclose(jax.grad(loss)(exact), 0, atol=1e-6)
  np.testing.assert_allclose(loss(exact), 1 + np.log([9, 25]).mean(), rtol=1e-6)
  assert loss(exact + 0.1) > loss(exact) < loss(exact - 0.1)
  assert loss(exact - 30) <= 50 + exact.mean()  # Outliers are bounded.


@pytest.mark.parametrize('value', [0.0, 1.0, 100.0])
def test_flat_pictures_have_finite_losses_and_gradients(value):
  ab = jnp.full((1, 8, 8, 2), value)
  lab = jnp.full((1, 8, 8, 3), value)
  flow, visible = jnp.zeros((1, 8, 8, 2)), jnp.ones((1, 8, 8, 1))
  levels = tuple(jnp.full((1, 8 // s, 8 // s, 4), value) for s in (1, 2, 4))
  textured = _levels(0, 8, 8, 4)
  textured = tuple(x[:1] for x in textured)
  cases = [
    (lambda x: losses.l1(x, ab), ab),
    (lambda x: losses.perceptual(x, levels[2]), levels[2]),
    (lambda x: losses.contextual(x, levels), levels),
    (lambda x: losses.contextual(x, levels), textured),
    (lambda x: losses.contextual(x, textured), levels),
    (lambda x: losses.contextual(x, textured), textured),
    (lambda x: losses.temporal(x, ab, flow, visible), ab),
    (lambda x: losses.smoothness(x, lab), ab),
  ]
  for loss, at in cases:
    value_, grad = jax.jit(jax.value_and_grad(loss))(at)
    assert np.isfinite(value_)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grad))


def test_losses_are_float32_from_bfloat16():
  features = tuple(jnp.asarray(x, jnp.bfloat16) for x in _levels(0, 8, 8))
  ab = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
  assert losses.contextual(features, features).dtype == jnp.float32
  assert losses.perceptual(features[2], features[2]).dtype == jnp.float32
  assert losses.l1(ab, ab).dtype == jnp.float32
