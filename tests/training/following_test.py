"""The measure of following, for networks with a known result."""

from typing import NamedTuple

import numpy as np
import pytest
from skimage import color as skcolor

from vitexco_jax.structs import Clips, Guidance
from vitexco_jax.training import following


class _Made(NamedTuple):
  ab: np.ndarray
  guidance: Guidance


def _pale(shape, seed=0):
  """Colors whose complements are also in sRGB."""
  rng = np.random.default_rng(seed)
  lab = np.concatenate(
    [rng.uniform(40, 60, (*shape, 1)), rng.uniform(-15, 15, (*shape, 2))], -1
  )
  return np.uint8(np.round(skcolor.lab2rgb(lab) * 255))


def _clips():
  """Still pictures: reference and frames are equal."""
  rgb = _pale((2, 1, 8, 12)).repeat(3, 1)
  return Clips(
    rgb=rgb,
    reference=np.zeros_like(rgb[:, 0]),
    flow=np.zeros((2, 2, 8, 12, 2), np.float32),
    visible=np.ones((2, 2, 8, 12, 1), np.uint8),
    same_video=np.array([True, False]),
    first_frame=np.array([True, False]),
    backward_flow=np.zeros((2, 2, 0, 0, 2), np.float32),
    anchor_flow=np.zeros((2, 3, 0, 0, 2), np.float32),
  )


def test_recolor_gives_the_complement_of_equal_lightness():
  rgb = _pale((20, 30))
  before, after = (skcolor.rgb2lab(x) for x in (rgb, following.recolor(rgb)))
  np.testing.assert_allclose(after, before * [1, -1, -1], atol=1.0)


@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
def test_follow_is_the_share_of_the_reference(share):
  def preview(params, clips):
    assert params == 'params'
    assert (
      not clips.first_frame.any()
    )  # Otherwise the first frame would get its colors.
    given = skcolor.rgb2lab(clips.reference)[:, None, ..., 1:].repeat(3, 1)
    ab = 5.0 + share * given
    ab[:, 0] = 100.0  # The first frame does not count.
    return _Made(ab, Guidance(0.5 * given, None))

  actual = following.measure(preview, 'params', _clips())
  assert actual['follow/prediction'] == pytest.approx(share, abs=0.02)
  assert actual['follow/warped'] == pytest.approx(0.5, abs=0.02)


def test_following_is_undefined_for_gray_clips():
  clips = _clips()
  clips = clips._replace(rgb=np.full_like(clips.rgb, 90))

  def preview(params, clips):
    given = skcolor.rgb2lab(clips.reference)[:, None, ..., 1:].repeat(3, 1)
    return _Made(given, Guidance(given, None))

  actual = following.measure(preview, None, clips)
  assert all(np.isfinite(x) for x in actual.values())
