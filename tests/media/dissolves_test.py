"""Detection of dissolves and fades: their frames, and no others."""

import itertools

import cv2
import numpy as np
import pytest

from vitexco_jax.media import dissolves


def _scene(seed, frames, speed=0.25, size=(72, 128)):
  """A window that pans over a texture of its own."""
  rng = np.random.default_rng(seed)
  width = size[1] + int(speed * frames)
  texture = np.uint8(rng.uniform(0, 255, (size[0] // 18, width // 18, 3)))
  texture = cv2.resize(texture, (width, size[0]), interpolation=cv2.INTER_CUBIC)
  return [texture[:, int(speed * i) :][:, : size[1]] for i in range(frames)]


def _blank(level, frames):
  return [np.full((72, 128, 3), level, np.uint8)] * frames


def _dissolve(first, second, count):
  """Joins two scenes, whose last and first frames dissolve."""
  mixed = [
    cv2.addWeighted(a, 1 - i / (count + 1), b, i / (count + 1), 0)
    for i, (a, b) in enumerate(
      zip(first[-count:], second[:count], strict=True), 1
    )
  ]
  return first[:-count] + mixed + second[count:]


def _marks(frames):
  """Returns the starts of shots, and dissolves as pairs."""
  marked = list(dissolves.mark_shots(iter(frames)))
  assert len(marked) == len(frames)
  for (frame, _, _), truth in zip(marked, frames, strict=True):
    assert frame is truth  # Each comes back, in order.
  starts = [i for i, (_, begins, _) in enumerate(marked) if begins]
  found = [dissolve for _, _, dissolve in marked if dissolve is not None]
  return starts, found


@pytest.mark.parametrize('count', [6, 12, 24])
def test_finds_the_frames_of_a_dissolve(count):
  first, second = (_scene(seed, count + 12) for seed in (0, 1))
  ((start,), (found,)) = _marks(_dissolve(first, second, count))
  assert abs(found.start - 12) <= 1 and abs(found.stop - 12 - count) <= 1
  assert start == found.stop
  assert not found.from_blank and not found.to_blank


@pytest.mark.parametrize('level', [0, 16, 255])
def test_fades_go_to_a_blank_shot_and_come_from_it(level):
  out = _dissolve(_scene(0, 24), _blank(level, 27), 12)
  both = _dissolve(out, _scene(1, 24), 12)  # Three of the 27 are only blank.
  _, found = _marks(both)
  assert [(x.from_blank, x.to_blank) for x in found] == [
    (False, True),
    (True, False),
  ]
  np.testing.assert_allclose(
    [x[:2] for x in found], [(12, 24), (27, 39)], atol=1
  )


def test_a_film_begins_and_ends_with_fades():
  frames = _dissolve(_blank(0, 9), _scene(0, 30), 8)
  frames = _dissolve(frames, _blank(0, 9), 8)
  starts, found = _marks(frames)
  assert [(x.from_blank, x.to_blank) for x in found] == [
    (True, False),
    (False, True),
  ]
  assert starts == [x.stop for x in found]


@pytest.mark.parametrize('speed', [0, 0.5, 2])
def test_cuts_and_motion_are_not_dissolves(speed):
  scenes = [_scene(seed, 30, speed) for seed in range(3)]
  starts, found = _marks(list(itertools.chain(*scenes)))
  assert found == [] and starts == [30, 60]


def test_a_change_of_exposure_is_not_a_dissolve():
  gains = np.repeat([1.0, 0.4], 22)
  gains[10:34] = np.linspace(1.0, 0.4, 24)
  scene = _scene(0, len(gains), 0)
  frames = [np.uint8(x * gain) for x, gain in zip(scene, gains, strict=True)]
  assert _marks(frames) == ([], [])


@pytest.mark.parametrize('count', range(4))
def test_videos_of_a_few_frames(count):
  assert _marks(_scene(0, count)) == ([], [])


def test_only_a_few_frames_are_in_memory():
  taken = 0

  def count(frames):
    nonlocal taken
    for frame in frames:
      taken += 1
      yield frame

  marked = dissolves.mark_shots(count(_scene(0, 60)))
  for given in range(1, 40):
    next(marked)
    assert taken - given <= 16
