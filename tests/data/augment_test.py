"""Augmentation: consistent geometry, and degradation of the stated strength."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from vitexco_jax.data import augment
from vitexco_jax.structs import Clips

_H, _W, _T = 48, 80, 3


def _clip(first_frame=False):
  """A smooth texture that drifts and grows, with its true flow."""
  y, x = np.mgrid[:_H, :_W].astype(float)
  scale = 1.03 ** np.arange(_T)
  shift = np.outer(np.arange(_T), [2.5, -1.5])
  waves = np.random.default_rng(0).normal(0, 0.25, (3, 6, 2))

  def at_start(t):  # Position at time 0 of the content at time t.
    return (x - shift[t, 0]) / scale[t], (y - shift[t, 1]) / scale[t]

  def paint(t):
    sx, sy = at_start(t)
    channels = [
      sum(np.sin(fx * sx + fy * sy + i) for i, (fx, fy) in enumerate(wave))
      for wave in waves
    ]
    return np.uint8(np.rint(127.5 + 20 * np.stack(channels, -1)))

  flows = []
  for t in range(_T - 1):
    sx, sy = at_start(t)
    ends = [
      s * scale[t + 1] + o for s, o in zip((sx, sy), shift[t + 1], strict=True)
    ]
    flows.append(np.stack([ends[0] - x, ends[1] - y], -1).astype(np.float32))
  visible = [_inside(flow)[..., None].astype(np.uint8) for flow in flows]
  rgb = np.stack([paint(t) for t in range(_T)])
  return Clips(
    rgb=rgb,
    reference=rgb[0 if first_frame else 2],
    flow=np.stack(flows),
    visible=np.stack(visible),
    same_video=np.bool_(True),
    first_frame=np.bool_(first_frame),
    backward_flow=np.zeros((_T - 1, 0, 0, 2), np.float32),
    anchor_flow=np.zeros((_T, 0, 0, 2), np.float32),
  )


def _inside(flow):
  """Pixel by pixel: whether its flow ends in the picture."""
  inside = np.zeros(flow.shape[:2], bool)
  for y, x in np.ndindex(*inside.shape):
    dx, dy = flow[y, x].astype(float)
    inside[y, x] = 0 <= x + dx <= _W - 1 and 0 <= y + dy <= _H - 1
  return inside


def _places(first_frame=False):
  """A clip whose colors encode the origin of each pixel, in 1/3 pixels."""
  y, x = np.mgrid[:_H, :_W]
  picture = np.uint8(3 * np.stack([x, y, 0 * x], -1))
  return _clip(first_frame)._replace(
    rgb=np.stack(_T * [picture]), reference=picture
  )


def _windows(clip):
  """(left, top, share of the width, share of the height) of each picture."""
  actual = []
  for picture in (*clip.rgb, clip.reference):
    x, y = picture[_H // 2, :, 0] / 3, picture[:, _W // 2, 1] / 3
    # Not at the border, where cubic sampling differs.
    across = np.polyfit(np.arange(_W)[4:-4], x[4:-4], 1)
    down = np.polyfit(np.arange(_H)[4:-4], y[4:-4], 1)
    actual.append((across[1], down[1], across[0], down[0]))
  return np.array(actual)


def _rng(seed=0):
  return np.random.default_rng(seed)


def _assert_equal(actual, expected):
  for x, y in zip(actual, expected, strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('crop', [0.4, 1.0])
def test_flow_is_consistent_with_the_content(flip, crop):
  y, x = np.mgrid[:_H, :_W]
  for seed in range(5):
    clip = augment.reframe(_clip(), _rng(seed), flip, crop)
    for t in range(1, _T):
      dx, dy = np.moveaxis(clip.flow[t - 1], -1, 0)
      landed = [
        ndimage.map_coordinates(
          np.float32(channel), [y + dy, x + dx], order=1, mode='nearest'
        )
        for channel in np.moveaxis(clip.rgb[t], -1, 0)
      ]
      usable = clip.visible[t - 1, ..., 0] == 1
      before = clip.rgb[t - 1][usable].astype(float)
      error = np.abs(np.stack(landed, -1)[usable] - before).mean()
      unmoved = np.abs(clip.rgb[t][usable] - before).mean()
      assert usable.mean() > 0.5
      assert error < 1.5 and unmoved > 5 * error


def test_a_pixel_that_leaves_the_window_is_not_visible():
  lost = 0
  for seed in range(5):
    clip = augment.reframe(_clip(), _rng(seed), 0.0, 0.4)
    inside = np.stack([_inside(flow) for flow in clip.flow])
    assert not clip.visible[..., 0][~inside].any()
    lost += (~inside).sum()
  assert lost > 0


def test_invisible_pixels_stay_invisible():
  holes = np.random.default_rng(1).random((_T - 1, _H, _W, 1)) > 0.05
  still = np.zeros((_T - 1, _H, _W, 2), np.float32)
  whole = _places()._replace(flow=still, visible=holes.astype(np.uint8))
  clip = augment.reframe(whole, _rng(), 0.0, 0.5)
  left, top, across, down = _windows(clip)[0]
  for y, x in np.ndindex(_H, _W):
    place = np.array([top + y * down, left + x * across])
    nearest = np.clip(np.rint(place).astype(int), 0, [_H - 1, _W - 1])
    for t in range(_T - 1):
      assert clip.visible[t, y, x, 0] <= holes[t, *nearest, 0]
  assert clip.visible.mean() > 0.7


def test_one_window_of_the_same_aspect_for_all_frames():
  shares = []
  for seed in range(40):
    whole = _places()
    clip = augment.reframe(whole, _rng(seed), 0.0, 0.6)
    for actual, expected in zip(clip, whole, strict=True):
      assert actual.shape == expected.shape and actual.dtype == expected.dtype
    frames = _windows(clip)[:_T]
    assert np.ptp(frames, 0).max() == 0
    left, top, across, down = frames[0]
    # Sides are whole pixels, so shares are rounded to 1/48 and 1/80.
    assert across == pytest.approx(down, abs=0.02)
    assert left > -1 and left + across * _W < _W + 1
    assert top > -1 and top + down * _H < _H + 1
    shares.append(across)
    # Vectors grow as the picture does.
    middle = slice(16, 32), slice(30, 50)
    place = np.rint(top + down * 24).astype(int), np.rint(left + across * 40)
    before = whole.flow[0][place[0], int(place[1])] / (across, down)
    np.testing.assert_allclose(
      clip.flow[0][middle].mean((0, 1)), before, atol=0.25
    )
  assert 0.58 < min(shares) < 0.66 and 0.94 < max(shares) < 1.01


def test_only_a_first_frame_reference_has_the_window_of_the_clip():
  apart = []
  for seed in range(8):
    clip = augment.reframe(_clip(first_frame=True), _rng(seed), 0.5, 0.5)
    np.testing.assert_array_equal(clip.reference, clip.rgb[0])
    windows = _windows(augment.reframe(_places(), _rng(seed), 0.0, 0.5))
    apart.append(np.abs(windows[0] - windows[-1]).max())
  assert np.median(apart) > 3  # Pixels; some are alike by chance.


def test_two_flips_cancel():
  clip = _clip()
  once = augment.reframe(clip, _rng(), 1.0, 1.0)
  np.testing.assert_array_equal(once.reference[3, 5], clip.reference[3, -6])
  np.testing.assert_allclose(once.flow[0, 3, 5], clip.flow[0, 3, -6] * (-1, 1))
  _assert_equal(augment.reframe(once, _rng(), 1.0, 1.0), clip)


def test_random_choices_depend_only_on_the_generator():
  def draw(seed, flip=0.5, crop=0.5):
    return augment.reframe(_clip(), _rng(seed), flip, crop)

  _assert_equal(draw(1), draw(1))
  assert any((x != y).any() for x, y in zip(draw(1), draw(2), strict=True))
  mirrored = [
    (draw(seed, crop=1.0).flow[..., 0] < 0).all() for seed in range(60)
  ]
  assert 0.3 < np.mean(mirrored) < 0.7

  rng, other = _rng(), _rng()
  _assert_equal(augment.reframe(_clip(), rng, 0.0, 1.0), _clip())
  other.random()  # Only the flip draws a number.
  assert rng.random() == other.random()


def _luminance(level=None, shape=(4, 3, 64, 96, 1)):
  """A texture, or one level, in [-50, 50]."""
  if level is not None:
    return jnp.full(shape, level, jnp.float32)
  noise = np.random.default_rng(3).normal(size=shape)
  smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2, 0))
  return jnp.float32(np.clip(120 * smooth, -50, 50))


@functools.partial(jax.jit, static_argnames='strengths')
def _compiled(luminance, key, strengths):
  return augment.degrade(luminance, key, **dict(strengths))


def _degrade(luminance, seed=0, **strengths):
  key = jax.random.key(seed)
  return np.asarray(_compiled(luminance, key, tuple(strengths.items())))


_ALL = {'blur': 2.0, 'flicker': 0.1, 'grain': 3.0, 'luminance_noise': 2.0}


def test_augmentation_is_off_by_default():
  np.testing.assert_array_equal(_degrade(_luminance()), _luminance())


@pytest.mark.parametrize('name', _ALL)
def test_results_depend_on_the_key(name):
  clean = np.repeat(_luminance()[:1], 4, 0)
  once, again, other = (
    _degrade(clean, seed, **{name: _ALL[name]}) for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(once, again)
  assert np.abs(once - other).max() > 0.1
  assert np.abs(once[1:] - once[0]).max() > 0.1  # Clips differ as well.


def test_the_mean_is_unchanged():
  clean = np.asarray(_luminance())
  worn = _degrade(clean, **_ALL)
  assert worn.shape == clean.shape and worn.dtype == clean.dtype
  moved = (worn - clean).mean((2, 3, 4))
  bound = _ALL['flicker'] * (clean + 50).mean((2, 3, 4)) + 0.2
  assert (np.abs(moved) < bound).all()
  assert np.abs(worn - clean).mean() > 1


def test_noise_is_independent_in_each_pixel_with_the_stated_strength():
  clean = _luminance()
  noise = _degrade(clean, luminance_noise=2.0) - np.asarray(clean)
  assert noise.std() == pytest.approx(2.0, rel=0.02)
  for axis in (1, 2, 3):  # Time, down, across.
    pair = np.take(noise, 0, axis), np.take(noise, 1, axis)
    assert abs(np.corrcoef(*map(np.ravel, pair))[0, 1]) < 0.1
  # Other degradations do not change it.
  film = {k: _ALL[k] for k in ('blur', 'flicker', 'grain')}
  both = _degrade(clean, luminance_noise=2.0, **film)
  np.testing.assert_allclose(both - _degrade(clean, **film), noise, atol=1e-4)


def test_grain_is_correlated_in_space_and_new_in_each_frame():
  gray = _luminance(0.0, (6, 4, 96, 128, 1))
  grain = _degrade(gray, grain=3.0)[..., 0]
  strength = grain.std((1, 2, 3))
  assert (strength < 3.05).all() and np.ptp(strength) > 0.5  # Each its share.
  unit = grain / strength[:, None, None, None]
  # The correlation of white noise after a Gaussian, by definition.
  kernel = ndimage.gaussian_filter1d(np.eye(1, 21, 10)[0], 0.6, truncate=8)
  for lag in (1, 2, 4):
    expected = (kernel[lag:] * kernel[:-lag]).sum() / np.square(kernel).sum()
    across = (unit[..., lag:] * unit[..., :-lag]).mean()
    down = (unit[:, :, lag:] * unit[:, :, :-lag]).mean()
    assert (across, down) == pytest.approx((expected, expected), abs=0.02)
  assert abs((unit[:, 1:] * unit[:, :-1]).mean()) < 0.02
  border = unit[:, :, [0, -1]].std(), unit[..., [0, -1]].std()
  assert border == pytest.approx((1, 1), abs=0.05)


def test_grain_fades_towards_black_and_white():
  at = {
    level: _degrade(_luminance(level), grain=3.0) - level
    for level in (-50.0, -25.0, 0.0, 25.0, 50.0)
  }
  for level, share in ((-50.0, 0), (-25.0, 0.75), (25.0, 0.75), (50.0, 0)):
    np.testing.assert_allclose(at[level], share * at[0.0], atol=1e-4)


def test_blur_is_a_gaussian_the_same_all_over_a_clip():
  clean = np.array(_luminance())
  clean[:, 0] = 0
  clean[:, 0, 32, 48] = 50  # A point, to measure the sigma.
  worn = _degrade(clean, blur=2.0)
  sigmas = []
  for before, after in zip(clean[..., 0], worn[..., 0], strict=True):
    ratio = after[0, 32, 48] / after[0, 32, 49]
    sigma = (2 * np.log(ratio)) ** -0.5
    sigmas.append(sigma)
    for t in range(_T):

      def smooth(picture, sigma=sigma):
        return ndimage.gaussian_filter(
          picture.astype(float), sigma, mode='constant', truncate=8
        )

      expected = smooth(before[t]) / smooth(np.ones_like(before[t]))
      np.testing.assert_allclose(after[t], expected, atol=2e-3)
  assert max(sigmas) <= 2 and np.ptp(sigmas) > 0.2


def test_flicker_is_one_gain_for_a_frame():
  clean = 0.8 * np.asarray(_luminance())
  gain = (_degrade(clean, flicker=0.1) + 50) / (clean + 50)
  gains = gain.mean((2, 3, 4))
  assert gain.std((2, 3, 4)).max() < 1e-5
  assert np.abs(gains - 1).max() <= 0.1 and np.ptp(gains, 1).min() > 1e-3
  # Black is unchanged, and white is the maximum.
  np.testing.assert_allclose(_degrade(_luminance(-50.0), flicker=0.1), -50)
  assert _degrade(_luminance(50.0), flicker=0.1).max() == 50
