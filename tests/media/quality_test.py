"""quality: degraded pictures are rejected, real ones accepted."""

import cv2
import numpy as np
import pytest
from skimage import data

from configs.vitexco import get_config
from vitexco_jax.media import quality

_BOUNDS = get_config().data.quality
_PICTURES = ('chelsea', 'coffee', 'rocket', 'astronaut')


def _picture(name):
  rgb = getattr(data, name)()
  return cv2.resize(rgb, (384, 224), interpolation=cv2.INTER_AREA)


def _jpeg(rgb, percent):
  options = (cv2.IMWRITE_JPEG_QUALITY, percent)
  return cv2.imdecode(cv2.imencode('.jpg', rgb, options)[1], cv2.IMREAD_COLOR)


def _toned(rgb, tint):
  gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
  return np.uint8(np.clip(gray[..., None] * np.float32(tint), 0, 255))


def _pan(rgb, step):
  """Four frames of a camera that moves by `step` pixels each."""
  return [rgb[:, step * i :][:, :300] for i in range(4)]


def _reason(frames, bounds=_BOUNDS):
  measures = [quality.measure(frame, frame) for frame in frames]
  return quality.why_refused(measures, frames, bounds)


@pytest.mark.parametrize('name', _PICTURES)
def test_good_pictures_and_shots_pass(name):
  rgb = _picture(name)
  assert _reason([rgb]) == ''  # A still has no motion.
  assert _reason(_pan(rgb, 3)) == ''
  # One hue all over is color, as long as it is not one tone.
  assert _reason([np.uint8(rgb * np.float32([0.5, 1.0, 0.9]))]) == ''


@pytest.mark.parametrize('name', _PICTURES)
@pytest.mark.parametrize(
  'spoil, reason',
  [
    (lambda x: _toned(x, (1, 1, 1)), 'black-and-white'),
    (lambda x: _jpeg(_toned(x, (1, 1, 1)), 30), 'black-and-white'),
    (lambda x: _toned(x, (1.07, 0.95, 0.74)), 'black-and-white'),  # Sepia.
    (lambda x: _jpeg(x, 8), 'heavily compressed'),
    (lambda x: cv2.GaussianBlur(x, (0, 0), 4), 'blurred'),
  ],
)
def test_degraded_pictures_and_shots_fail(name, spoil, reason):
  assert _reason(_pan(spoil(_picture(name)), 8)) == reason


def test_a_frozen_picture_is_static_with_or_without_noise():
  rng = np.random.default_rng(0)
  rgb = _picture('coffee')
  noisy = [rgb + rng.normal(0, 6, rgb.shape) for _ in range(4)]
  frames = [np.uint8(np.clip(frame, 0, 255)) for frame in noisy]
  assert _reason(frames) == 'static'
  assert quality.motion(frames) < 0.5 * quality.motion(_pan(rgb, 1))


def test_a_small_moving_object_is_motion():
  rgb = _picture('coffee')
  frames = [rgb.copy() for _ in range(3)]
  for i, frame in enumerate(frames):
    cv2.circle(frame, (60 + 12 * i, 60), 14, (255, 255, 255), -1)
  assert _reason(frames) == ''


def test_a_frame_with_motion_blur_does_not_reject_a_shot():
  frames = _pan(_picture('chelsea'), 3)
  frames[1] = cv2.GaussianBlur(frames[1], (0, 0), 6)
  assert _reason(frames) == ''


def test_zero_switches_a_bound_off():
  spoiled = _jpeg(_toned(_picture('rocket'), (1, 1, 1)), 8)
  spoiled = [cv2.GaussianBlur(spoiled, (0, 0), 4)] * 3
  assert _reason(spoiled) == 'black-and-white'
  assert _reason(spoiled, dict.fromkeys(_BOUNDS, 0.0)) == ''


def test_blockiness_of_constructed_steps():
  ramp = np.broadcast_to(np.arange(64, dtype=np.uint8), (64, 64))
  flat = np.repeat(ramp[..., None], 3, -1)  # Steps of 1, on the grid or not.
  # Down, where nothing changes, the ratio counts as 1.
  assert quality.blockiness(flat) == pytest.approx(1)
  stairs = ramp + 3 * (ramp // 8)  # Of 4 at the borders of blocks.
  stairs = np.repeat(np.uint8(stairs)[..., None], 3, -1)
  assert quality.blockiness(stairs) == pytest.approx((4 + 1) / 2)
