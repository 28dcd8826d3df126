"""The mixture of candidate colors: rules, network, carried errors, absences."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitexco_jax.models.mixture import Mixture, _guided
from vitexco_jax.structs import Guidance

H, W, STRIDE = 16, 32, 2
RULES = Mixture(
  channels=0,
  context=0,
  smooth=0,
  previous_weight=0.98,
  previous_tolerance=10.0,
  anchor_weight=0.7,
  anchor_tolerance=5.0,
)
NET = RULES.clone(channels=4, context=2)


def _inputs(seed=0):
  rng = np.random.default_rng(seed)

  def uniform(least, most, channels):
    return rng.uniform(least, most, (2, H, W, channels)).astype(np.float32)

  luminance = uniform(-50, 50, 1)

  def like_frame():
    ab = uniform(-60, 60, 2)
    return np.concatenate([luminance + uniform(-9, 9, 1), ab], -1)

  guidance = Guidance(
    warped_ab=uniform(-60, 60, 2),
    confidence=uniform(-1, 1, 1),
    prior_ab=uniform(-60, 60, 2),
    prior_spread=uniform(1, 40, 1),
    steady=uniform(0, 1, 1),
    anchor_lab=like_frame(),
    anchored=uniform(0.1, 1, 1),
  )
  previous = np.concatenate([like_frame(), uniform(0, 6, 1)], -1)
  return luminance, guidance, previous


@pytest.fixture(scope='module')
def variables():
  """Random parameters: the last layer of a new network is zero."""
  shapes = jax.eval_shape(
    lambda: NET.init(jax.random.key(0), *_inputs(), STRIDE)
  )
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda x: np.float32(rng.normal(0, 0.3, x.shape)), shapes)


@pytest.fixture(scope='module')
def apply(variables):
  run = jax.jit(NET.apply, static_argnums=4)
  return lambda *inputs: np.asarray(run(variables, *inputs, STRIDE))


@pytest.fixture(scope='module')
def new():
  """A new network, at a position per pixel: only the formulas count."""
  init = jax.jit(NET.init, static_argnums=4)
  variables = init(jax.random.key(0), *_inputs(), 1)
  run = jax.jit(NET.apply, static_argnums=4)
  return lambda *inputs: np.asarray(run(variables, *inputs, 1))


def test_without_a_network_rules_decide():
  """One candidate is mixed over the other."""
  luminance, guidance, previous = inputs = _inputs()
  assert RULES.init(jax.random.key(0), *inputs, STRIDE) == {}
  falls = np.exp(-np.abs(luminance - previous[..., :1]) / 10)
  weight = 0.98 * falls * guidance.steady
  want = weight * previous[..., 1:3] + (1 - weight) * guidance.warped_ab
  falls = np.exp(-np.abs(luminance - guidance.anchor_lab[..., :1]) / 5)
  weight = 0.7 * guidance.anchored * falls
  want = weight * guidance.anchor_lab[..., 1:] + (1 - weight) * want
  ab = RULES.apply({}, *inputs, STRIDE)[..., :2]
  np.testing.assert_allclose(ab, want, atol=1e-3)


def test_weights_are_inverse_to_the_expected_errors(new):
  luminance, guidance, previous = _inputs()
  bare = guidance._replace(anchor_lab=None, anchored=None)
  result = new(luminance, bare, np.zeros_like(previous))
  confidence = guidance.confidence
  known = 1 / (1 + np.exp(-(confidence - 0.5) * np.exp(2.0)))
  of_warped = np.exp(5.5 - 2 * confidence - np.exp(1.5) * known)
  of_prior = np.exp(6) * guidance.prior_spread / 20
  share = of_prior / (of_warped + of_prior)
  want = share * guidance.warped_ab + (1 - share) * guidance.prior_ab
  np.testing.assert_allclose(result[..., :2], want, atol=1e-2)
  remaining = np.log(share * of_warped + (1 - share) * of_prior)
  np.testing.assert_allclose(result[..., 2:], remaining, atol=1e-3)


def test_certain_colors_persist_and_guesses_are_replaced(new):
  """Lightness and features are those of the previous frame."""
  luminance, guidance, previous = _inputs()
  guidance = guidance._replace(
    confidence=np.full_like(luminance, 0.3),
    steady=np.ones_like(luminance),
    anchor_lab=None,
    anchored=None,
  )
  previous[..., :1] = luminance
  known, guessed = previous.copy(), previous.copy()
  known[..., 3], guessed[..., 3] = -1.0, 7.0
  distance = [
    np.abs(new(luminance, guidance, x)[..., :2] - previous[..., 1:3]).mean()
    for x in (known, guessed)
  ]
  assert distance[0] < 2 < 10 < distance[1]
  # The error grows a little while nothing is known that is better.
  assert 0 < new(luminance, guidance, known)[..., 2].mean() < 2


@pytest.mark.parametrize('context', [0, 2])
def test_a_position_sees_its_surroundings_only_by_context(context):
  """Two distant regions change places, so means of all positions stay."""
  luminance, guidance, previous = _inputs()
  # Its means of small areas would reach from region to region.
  guidance = guidance._replace(confidence=np.zeros_like(luminance))
  net = NET.clone(context=context)
  shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *_inputs(), 1))
  rng = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda x: np.float32(rng.normal(0, 0.3, x.shape)), shapes
  )

  def exchange(x):
    columns = np.r_[0:8, 24:32, 16:24, 8:16]
    return x[:, :, columns]

  inputs = luminance, guidance, previous
  before, after = (
    net.apply(variables, *x, 1)[:, :, :8]
    for x in (inputs, jax.tree.map(exchange, inputs))
  )
  moved = np.abs(before - after).max()
  assert moved > 0.01 if context else moved < 1e-3


def test_smoothing_is_a_guided_filter():
  """Where all colors are equally certain, it equals that of OpenCV."""
  luminance, guidance, _ = _inputs()
  ab = guidance.warped_ab
  actual = _guided(luminance, ab, np.full_like(luminance, 2.0), 1, 2)
  for guide, colors, smooth in zip(luminance, ab, actual, strict=True):
    want = cv2.ximgproc.guidedFilter(guide, colors, 2, 4.0)
    # Their means differ at the border.
    inside = slice(4, -4), slice(4, -4)
    np.testing.assert_allclose(smooth[inside], want[inside], atol=0.05)


def test_doubtful_colors_are_smoothed_and_certain_ones_count_more():
  luminance, guidance, _ = _inputs()
  luminance[:] = 0.0
  rng = np.random.default_rng(2)
  ab = 20 + rng.normal(0, 10, guidance.warped_ab.shape).astype(np.float32)
  doubt = np.full_like(luminance, 6.0)
  smooth = np.asarray(_guided(luminance, ab, doubt, 1, 2))
  assert np.abs(smooth - 20).mean() < 0.3 * np.abs(ab - 20).mean()
  ab[:, 8, 16], doubt[:, 8, 16] = -40.0, -2.0
  pulled = np.asarray(_guided(luminance, ab, doubt, 1, 2))
  assert (pulled[:, 8, 16] < -30).all()


def test_the_share_of_smoothing_grows_with_the_expected_error():
  luminance, guidance, previous = _inputs()
  bare = guidance._replace(
    prior_ab=None, prior_spread=None, anchor_lab=None, anchored=None
  )
  sharp, smooth = NET, NET.clone(smooth=1)
  changes = []
  for confidence in (1.0, -1.0):
    bare = bare._replace(confidence=np.full_like(luminance, confidence))
    inputs = luminance, bare, np.zeros_like(previous), 1
    results = (
      net.apply(net.init(jax.random.key(0), *inputs), *inputs)[..., :2]
      for net in (sharp, smooth)
    )
    changes.append(np.abs(np.subtract(*results)).mean())
  assert changes[1] > 2 * changes[0] > 0


@pytest.mark.parametrize('absent', ['previous', 'anchor', 'prior'])
def test_absent_candidates_have_no_influence(apply, absent):
  """As None, or as colors that may not count."""
  luminance, guidance, previous = _inputs()
  zero = np.zeros_like(luminance)
  one = other = guidance
  before = after = previous
  if absent == 'previous':
    before = np.zeros_like(previous)
    after = before.copy()
    after[..., 3] = 5.0
  elif absent == 'anchor':
    one = guidance._replace(anchor_lab=None, anchored=None)
    other = guidance._replace(anchored=zero)
  else:
    one = guidance._replace(prior_ab=None, prior_spread=None)
    other = one._replace(prior_ab=zero.repeat(2, -1), prior_spread=zero)
  result = apply(luminance, one, before)
  assert np.isfinite(result).all()
  np.testing.assert_allclose(apply(luminance, other, after), result, atol=1e-3)


def test_colors_stay_between_the_candidates(apply):
  luminance, guidance, previous = _inputs()
  ab = apply(luminance, guidance, previous)[..., :2]
  candidates = np.stack(
    [
      guidance.warped_ab,
      previous[..., 1:3],
      guidance.anchor_lab[..., 1:],
      guidance.prior_ab,
    ]
  )
  assert (ab <= candidates.max(0) + 1e-3).all()
  assert (ab >= candidates.min(0) - 1e-3).all()


def test_the_decisions_are_those_of_the_colors(variables):
  """Without an anchor, and at a position per pixel."""
  luminance, guidance, previous = _inputs()
  bare = guidance._replace(anchor_lab=None, anchored=None)
  inputs = luminance, bare, previous, 1
  mixed = NET.apply(variables, *inputs, method='mix')
  np.testing.assert_array_equal(mixed.color, NET.apply(variables, *inputs))
  wanted = guidance.warped_ab, previous[..., 1:3], guidance.prior_ab
  actual = [mixed.candidates[i] for i in (0, 1, 3)]
  np.testing.assert_array_equal(actual, wanted)
  possible = np.asarray(mixed.possible) > 0
  assert possible.all((0, 1, 2)).tolist() == [True, True, False, True]
  # What remains is a mean of the errors of the possible candidates.
  errors = np.where(possible, mixed.log_errors, np.nan).clip(-2, 9)
  remaining = mixed.color[..., 2]
  assert (remaining <= np.nanmax(errors, -1) + 1e-3).all()
  assert (remaining >= np.nanmin(errors, -1) - 1e-3).all()


def test_each_input_affects_only_its_picture(apply):
  luminance, guidance, previous = _inputs()
  before = apply(luminance, guidance, previous)
  changed = {
    name: guidance._replace(**{name: np.float32(0.9 * x + 0.05)})
    for name, x in guidance._asdict().items()
  }
  for name, other in changed.items():
    first = jax.tree.map(lambda x, y: np.stack([x[0], y[1]]), other, guidance)
    moved = np.abs(apply(luminance, first, previous) - before)
    assert moved[0].max() > 1e-3, name
    assert not moved[1].any(), name


def test_gradients_are_finite_without_candidates(variables):
  luminance, guidance, previous = _inputs()
  bare = Guidance(guidance.warped_ab, guidance.confidence)

  def loss(params):
    result = NET.apply(
      {'params': params}, luminance, bare, jnp.zeros_like(previous), STRIDE
    )
    return jnp.square(result).mean()

  grads = jax.jit(jax.grad(loss))(variables['params'])
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
  assert any(np.abs(x).max() > 0 for x in jax.tree.leaves(grads))
