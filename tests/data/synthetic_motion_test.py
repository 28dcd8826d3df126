"""Pairs from still pictures: the flow is that of their warp."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from vitexco_jax import flow
from vitexco_jax.data import synthetic_motion

_SIZE = _H, _W = 64, 112


def _picture(height=120, width=160, seed=0):
  noise = np.random.default_rng(seed).standard_normal((height, width, 3))
  smooth = ndimage.gaussian_filter(noise, (5, 5, 0))
  return np.uint8(np.clip(128 + 800 * smooth, 0, 255))


def _rng(seed=0):
  return np.random.default_rng(seed)


@pytest.mark.parametrize('shape', [(120, 160), (300, 90), (40, 200), (9, 7)])
def test_pictures_of_any_shape_give_pairs(shape):
  pair = synthetic_motion.make_pair(_picture(*shape), _SIZE, _rng())
  actual = {k: (v.shape, str(v.dtype)) for k, v in pair._asdict().items()}
  assert actual == {
    'rgb': ((2, _H, _W, 3), 'uint8'),
    'flow': ((_H, _W, 2), 'float32'),
    'visible': ((_H, _W, 1), 'uint8'),
  }


def test_the_flow_warps_the_later_frame_to_the_earlier():
  for seed in range(8):
    pair = synthetic_motion.make_pair(_picture(), _SIZE, _rng(seed))
    earlier, later = np.float32(pair.rgb)
    visible = pair.visible[..., 0] == 1

    def error(motion, earlier=earlier, later=later, visible=visible):
      warped = flow.warp(jnp.asarray(later)[None], jnp.asarray(motion)[None])[0]
      return np.abs(warped - earlier)[visible].mean()

    assert visible.mean() > 0.8
    assert error(pair.flow) < 0.8
    if np.abs(pair.flow).mean() > 0.5:  # Not all warps are strong.
      assert error(0 * pair.flow) > 5 * error(pair.flow)
      assert error(-pair.flow) > 5 * error(pair.flow)


def test_the_flow_is_exact_also_at_the_border():
  """On a gradient, the level of a pixel encodes its original position."""
  y, x = np.mgrid[:120, :160]
  slope = np.uint8(np.stack([x, 2 * y, 0 * x], -1))
  for seed in range(5):
    pair = synthetic_motion.make_pair(slope, _SIZE, _rng(seed))
    earlier, later = pair.rgb.astype(float)
    for channel, axis in ((0, 1), (1, 0)):
      rise = np.gradient(later[..., channel], axis=axis).mean()
      moved = (earlier - later)[..., channel] / rise
      error = moved - pair.flow[..., channel]
      # Levels are rounded three times; at the border no more than inside.
      assert rise > 0.8 and np.abs(error).max() < 2 / rise
      assert abs(error.mean()) < 0.06


def test_visible_pixels_stay_in_the_frame():
  lost = 0
  for seed in range(4):
    pair = synthetic_motion.make_pair(_picture(), _SIZE, _rng(seed))
    for y, x in np.ndindex(*_SIZE):
      dx, dy = pair.flow[y, x].astype(float)
      inside = 0 <= x + dx <= _W - 1 and 0 <= y + dy <= _H - 1
      assert pair.visible[y, x, 0] == inside
      lost += not inside
  assert lost > 0


def test_a_unit_of_alpha_is_2_6_pixels_at_devcs_size():
  rng = _rng()
  at_devc, at_half = (
    np.stack([synthetic_motion.draw_flow(size, rng, 1.0) for _ in range(150)])
    for size in ((216, 384), (108, 192))
  )
  assert np.abs(at_devc).mean() == pytest.approx(2.6, rel=0.05)
  assert np.abs(at_half).mean() == pytest.approx(1.3, rel=0.05)
  # White noise smoothed by sigma 50 correlates by exp(-d^2 / (4 sigma^2)).
  for motion, sigma in ((at_devc, 50), (at_half, 25)):
    both = motion[:, :, sigma:] * motion[:, :, :-sigma]
    actual = both.mean() / np.square(motion).mean()
    assert actual == pytest.approx(np.exp(-0.25), abs=0.05)
  border = np.abs(at_devc[:, [0, -1]]).mean()
  assert border == pytest.approx(2.6, rel=0.1)


def _least_area(motion):
  """Areas of the triangles of the moved grid."""
  y, x = np.mgrid[: motion.shape[0], : motion.shape[1]]
  place = np.stack([x, y], -1) + motion.astype(float)
  right = place[:-1, 1:] - place[:-1, :-1]
  below = place[1:, :-1] - place[:-1, :-1]
  return (right[..., 0] * below[..., 1] - right[..., 1] * below[..., 0]).min()


def test_a_warp_does_not_fold():
  halved = set()
  for seed in range(8):
    unit = synthetic_motion.draw_flow(_SIZE, _rng(seed), 1.0)
    strong = synthetic_motion.draw_flow(_SIZE, _rng(seed), 32.0)
    assert _least_area(32 * unit) < 0 < _least_area(strong)
    share = strong[10, 10] / unit[10, 10]
    np.testing.assert_allclose(strong, share * unit, rtol=1e-3, atol=1e-5)
    halved.add(round(float(share[0]), 3))
  assert halved <= {16.0, 8.0, 4.0, 2.0}


def test_pairs_depend_on_the_seed():
  once, again, other = (
    synthetic_motion.make_pair(_picture(), _SIZE, _rng(seed))
    for seed in (1, 1, 2)
  )
  for actual, expected in zip(once, again, strict=True):
    np.testing.assert_array_equal(actual, expected)
  assert (once.rgb != other.rgb).any() and (once.flow != other.flow).any()


@pytest.mark.parametrize(
  'picture',
  [np.zeros((9, 9, 3), np.float32), np.zeros((9, 9), np.uint8)],
)
def test_other_arrays_are_refused(picture):
  with pytest.raises(TypeError, match='expected uint8'):
    synthetic_motion.make_pair(picture, _SIZE, _rng())
