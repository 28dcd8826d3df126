"""Detection of cuts: every cut, and no others."""

import itertools

import cv2
import numpy as np
import pytest

from vitexco_jax.media import shots


def _scene(seed, frames, speed=2, size=(72, 128)):
  """A window that pans over a texture of its own."""
  rng = np.random.default_rng(seed)
  width = size[1] + speed * frames
  texture = np.uint8(rng.uniform(0, 255, (size[0] // 24, width // 24, 3)))
  texture = cv2.resize(texture, (width, size[0]), interpolation=cv2.INTER_CUBIC)
  return [texture[:, speed * i :][:, : size[1]] for i in range(frames)]


def _gray(frames):
  return [
    np.repeat(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)
    for frame in frames
  ]


def _cuts(frames):
  marked = list(shots.mark_cuts(iter(frames)))
  assert len(marked) == len(frames)
  for (frame, _), truth in zip(marked, frames, strict=True):
    assert frame is truth  # Each comes back, in order.
  return [number for number, (_, begins) in enumerate(marked) if begins]


@pytest.mark.parametrize('look', [list, _gray])
def test_finds_every_cut_and_no_other(look):
  lengths = (9, 3, 12, 5, 1 + shots._AHEAD)
  scenes = [_scene(seed, frames) for seed, frames in enumerate(lengths)]
  truth = list(itertools.accumulate(lengths))[:-1]
  assert _cuts(look(itertools.chain(*scenes))) == truth


@pytest.mark.parametrize('speed', [0, 1, 8, 24])
def test_motion_is_not_a_cut(speed):
  assert _cuts(_scene(0, 12, speed)) == []


def test_a_cut_in_the_dark():
  dark = [np.uint8(frame * 0.3) for frame in _scene(0, 6) + _scene(1, 6)]
  assert _cuts(dark) == [6]


def test_a_flash_is_a_separate_shot():
  frames = _scene(0, 12)
  frames[5] = np.uint8(np.minimum(frames[5].astype(int) + 120, 255))
  assert _cuts(frames) == [5, 6]


@pytest.mark.parametrize('count', range(5))
def test_videos_of_a_few_frames(count):
  assert _cuts(_scene(0, count)) == []


def test_only_a_few_frames_are_in_memory():
  taken = 0

  def count(frames):
    nonlocal taken
    for frame in frames:
      taken += 1
      yield frame

  marked = shots.mark_cuts(count(_scene(0, 20)))
  for given in range(1, 16):
    next(marked)
    assert taken - given <= 2 * shots._AHEAD


def test_size_does_not_matter():
  frames = _scene(0, 6, size=(360, 640)) + _scene(1, 6, size=(360, 640))
  assert _cuts(frames) == [6]


@pytest.mark.parametrize('size', [1, 2, 7, 40])
def test_cuts_of_parts_are_those_of_the_whole(size):
  lengths = (1, 9, 3, 12, 2)
  scenes = [_scene(seed, frames) for seed, frames in enumerate(lengths)]
  frames = list(itertools.chain(*scenes))
  count, actual = len(frames), []
  for start in range(0, count, size):
    wanted = range(start, min(start + size, count))
    actual += shots.find_cuts(frames.__getitem__, count, wanted)
  assert actual == [cut for _, cut in shots.mark_cuts(frames)]
