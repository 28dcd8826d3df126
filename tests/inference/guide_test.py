"""The guide of the networks: even exposure, less grain, the rest as it is."""

import cv2
import numpy as np
import pytest

from vitexco_jax.inference import guide

_SETTINGS = guide.Settings(0.98, 0.01, 3.0, 1.0)


@pytest.fixture
def still():
  """A picture of L with soft structure, [h, w]."""
  small = np.random.default_rng(0).uniform(30, 70, (6, 10)).astype(np.float32)
  return cv2.resize(small, (160, 96), interpolation=cv2.INTER_CUBIC)


def _prepare(frames, previous=None, gain=0.0, settings=_SETTINGS):
  luminance = np.stack(frames)[..., None].astype(np.float32) - 50
  actual, gain = guide.prepare(luminance, previous, gain, settings)
  return actual[..., 0] + 50, gain


def test_flicker_is_evened(still):
  gains = 1 + np.random.default_rng(1).uniform(-0.08, 0.08, 12)
  gains[0] = 1
  actual, _ = _prepare([gain * still for gain in gains])
  assert np.abs(actual.mean((1, 2)) / still.mean() - 1).max() < 0.02
  off = guide.Settings(0.0, 0.01, 0.0, 1.0)
  unchanged, _ = _prepare([gain * still for gain in gains], settings=off)
  np.testing.assert_allclose(unchanged, gains[:, None, None] * still, 1e-5)


def test_a_slow_fade_and_motion_are_not_flicker(still):
  fade = [0.995**i * still for i in range(9)]
  np.testing.assert_allclose(_prepare(fade)[0], fade, atol=1e-4)
  # A bright object that enters changes the mean, not the exposure.
  enters = [still.copy() for _ in range(9)]
  for i, frame in enumerate(enters):
    frame[:, : 8 * i] = 90
  np.testing.assert_allclose(_prepare(enters)[0], enters, atol=1e-4)


def test_a_lasting_change_of_light_returns_slowly(still):
  actual, gain = _prepare([still, *([0.8 * still] * 200)])
  means = actual.mean((1, 2)) / still.mean()
  assert means[1] > 0.98 and abs(means[-1] - 0.8) < 0.01 and abs(gain) < 0.01


def test_two_halves_equal_the_whole(still):
  gains = 1 + np.random.default_rng(2).uniform(-0.08, 0.08, 8)
  frames = [gain * still for gain in gains]
  whole, last = _prepare(frames)
  half, gain = _prepare(frames[:4])
  rest, gain = _prepare(frames[4:], half[-1][..., None] - 50, gain)
  np.testing.assert_allclose(np.concatenate([half, rest]), whole, atol=1e-3)
  assert gain == pytest.approx(last, abs=1e-5)


def test_black_and_white_frames_have_no_exposure(still):
  frames = [0 * still, still, 0 * still + 100, still]
  np.testing.assert_allclose(_prepare(frames)[0], frames, atol=1e-4)


def test_grain_is_filtered_and_clean_frames_are_not(still):
  grain = np.random.default_rng(3).normal(0, 3, still.shape)
  (noisy,), _ = _prepare([still + grain])
  assert np.abs(noisy - still).mean() < 0.6 * np.abs(grain).mean()
  (clean,), _ = _prepare([still])
  np.testing.assert_array_equal(clean, still)
