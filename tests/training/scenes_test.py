"""Scenes: shots of videos, cameras, objects, and references."""

import cv2
import numpy as np
import pytest
from small_videos import write_video

from vitexco_jax.errors import UserError
from vitexco_jax.training import scenes

SIZE = (48, 64)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  write_video(folder / 'cut.mp4', frames=60, cuts=(20, 30))
  write_video(folder / 'short.mp4', frames=16)
  write_video(folder / 'whole.mp4', frames=17)
  (folder / 'notes.txt').write_text('no video')
  return {path.name: path for path in sorted(folder.iterdir())}


@pytest.fixture(scope='module')
def shots(videos):
  return scenes.find_shots('videos', videos)


def _draw(shots, seed, size=SIZE, refine=1):
  rng = np.random.default_rng(seed)
  return scenes.draw(rng, shots, seed % len(shots), size, refine)


def test_shots_are_long_enough_and_end_at_cuts(videos, shots, caplog):
  cut, whole = str(videos['cut.mp4']), str(videos['whole.mp4'])
  assert shots == [(cut, 0, 20), (cut, 30, 30), (whole, 0, 17)]
  scenes.find_shots('videos', videos)
  assert 'left out notes.txt' in caplog.text


def test_without_a_long_shot_the_longest_is_named(videos):
  short = {'short.mp4': videos['short.mp4']}
  with pytest.raises(
    UserError, match='`clips` has no shot of at least 17 frames.*has 16'
  ):
    scenes.find_shots('clips', short)


def test_a_scene_depends_only_on_its_seed(shots):
  for seed in range(4):
    one, other = _draw(shots, seed), _draw(shots, seed)
    np.testing.assert_array_equal(one.frames, other.frames)
    np.testing.assert_array_equal(one.reference, other.reference)
    assert len(one.frames) == scenes.FRAMES
    assert one.before.shape == one.reference.shape == (*SIZE, 3)
  assert (_draw(shots, 0).before != _draw(shots, 3).before).any()


def test_references_are_of_their_kinds(shots):
  drawn = {}
  for seed in range(40):
    scene = _draw(shots, seed)
    drawn[scene.kind] = scene
  assert drawn.keys() == scenes.KINDS.keys()
  np.testing.assert_array_equal(drawn['first'].reference, drawn['first'].before)
  # A part can be found in the mirrored frame, a frame of another video cannot.
  found = {
    kind: _similarity(drawn[kind].before[:, ::-1], drawn[kind].reference)
    for kind in ('part', 'foreign')
  }
  assert found['part'] > 0.9 > found['foreign']


def _similarity(picture, part):
  best = -1
  for share in np.arange(0.5, 0.95, 0.05):
    size = [round(share * x) for x in SIZE[::-1]]
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    match = cv2.matchTemplate(
      np.ascontiguousarray(picture), small, cv2.TM_CCOEFF_NORMED
    )
    best = max(best, match.max())
  return best


def test_a_large_video_gives_scenes_of_a_multiple_of_the_size(shots):
  assert _draw(shots, 0, (24, 32), 4).before.shape == (48, 64, 3)
  assert _draw(shots, 0, (24, 32), 1).before.shape == (24, 32, 3)
  assert _draw(shots, 0, (96, 128), 2).before.shape == (96, 128, 3)


def _ramp():
  y, x = np.mgrid[:60, :120]
  return np.stack([2 * x, 4 * y, 0 * x], -1).astype(np.uint8)


@pytest.mark.parametrize('size', [(20, 30), (60, 90), (90, 135)])
def test_a_part_is_cut_to_scale(size):
  """Of a ramp, whose values are places."""
  part = scenes._cut(_ramp(), np.array([0.5, 0.5]), 0.5, size)
  y, x = np.mgrid[: size[0], : size[1]]
  unit = 0.5 * 60 / size[0]
  want_x = 60 - 22.5 + unit * (x + 0.5) - 0.5
  want_y = 30 - 15 + unit * (y + 0.5) - 0.5
  inside = slice(2, -2), slice(2, -2)
  np.testing.assert_allclose(part[..., 0][inside], 2 * want_x[inside], atol=2)
  np.testing.assert_allclose(part[..., 1][inside], 4 * want_y[inside], atol=3)


def test_a_whole_frame_of_the_size_is_unchanged():
  ramp = _ramp()
  whole = scenes._cut(ramp, np.array([0.5, 0.5]), 1.0, ramp.shape[:2])
  np.testing.assert_array_equal(whole, ramp)


def test_cameras_stay_inside_and_show_new_content():
  kinds = set()
  for seed in range(30):
    centers, shares = scenes._move_camera(np.random.default_rng(seed))
    assert len(centers) == len(shares) == scenes.FRAMES + 1
    assert min(shares) > 0.4 and max(shares) <= 1
    if np.ptp(centers, 0).any():
      edge = shares[0] / 2
      assert np.min(centers) >= edge - 1e-9
      assert np.max(centers) <= 1 - edge + 1e-9
      assert np.ptp(centers, 0)[0] > 0.29
      kinds.add('pan')
    else:
      kinds.add('zoom' if np.ptp(shares) else 'plain')
  assert kinds == {'plain', 'pan', 'zoom'}


def test_an_object_moves_over_the_frames():
  frames = [np.zeros((*SIZE, 3), np.uint8)] * 9
  picture = np.full((*SIZE, 3), 200, np.uint8)
  places = []
  for seed in range(8):
    moved = scenes._move_object(np.random.default_rng(seed), frames, picture)
    covered = np.stack(moved)[..., 0] > 100
    assert covered[-1].any() and not covered.all((1, 2)).any()
    places.append((covered[4] != covered[-1]).any())
  assert any(places)
