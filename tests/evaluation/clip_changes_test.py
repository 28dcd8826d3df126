"""Changed clips: aged, entering content, and edited stills."""

import numpy as np
import pytest
from skimage import color as skcolor
from small_clips import write_clip

from vitexco_jax.evaluation import clip_changes, clips


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data') / 'walk'
  write_clip(folder, 5)
  (only,) = clips.find_clips('data', str(folder))
  return only


def test_an_aged_clip_has_the_same_faults_each_time(clip):
  true, aged = list(clip.read()), clip_changes.age(clip)
  first, second = list(aged.read()), list(aged.read())
  np.testing.assert_array_equal(first, second)
  assert len(first) == aged.count == 5
  lightness = [
    skcolor.rgb2lab(b)[..., 0].mean() / skcolor.rgb2lab(a)[..., 0].mean()
    for a, b in zip(true, first, strict=True)
  ]
  assert 0.01 < np.std(lightness) < 0.08
  for a, b in zip(true, first, strict=True):
    assert a.shape == b.shape
    difference = np.abs(skcolor.rgb2lab(a) - skcolor.rgb2lab(b)).mean((0, 1))
    assert difference[0] > 2 and difference[1:].max() < 4


def test_a_window_pans_and_another_widens():
  frames = [np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)]
  frames *= 5
  shapes, kinds = set(), set()
  for name in 'abcdef':
    source = clips.Clip(name, lambda: iter(frames), [], ['0'] * 5)
    first, *_, last = clip_changes.enter(source).read()
    shapes |= {first.shape, last.shape}
    # A pan shows pixels of the frame, from corner to corner.
    corners = [frames[0][:40, :60], frames[0][20:, 30:]]
    corners += [frames[0][20:, :60], frames[0][:40, 30:]]
    kinds.add(any((first == corner).all() for corner in corners))
    if any((first == corner).all() for corner in corners):
      assert any((last == corner).all() for corner in corners)
      assert not (first == last).all()
  assert shapes == {(40, 60, 3)} and kinds == {True, False}


def test_an_edited_still_is_brighter_with_the_same_colors(clip):
  (rgb,) = clip.frames(0)
  before, after = (
    skcolor.rgb2lab(x) for x in (rgb, clip_changes.edit_still(rgb))
  )
  assert (after - before)[..., 0].mean() > 5
  # Some colors do not exist at the new lightness.
  assert np.median(np.abs(after - before)[..., 1:]) < 1
