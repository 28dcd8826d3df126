"""The crops of pretraining: held-out pictures, epochs, windows, broken files."""

import functools
from pathlib import Path

import numpy as np
import pytest
import written_records
from tiny_pretraining import NUM_PICTURES, make_config, make_feed

from vitexco_jax.errors import UserError
from vitexco_jax.training import crops


def _collect(images):
  return crops.collect(str(images), Path('nowhere'))


def test_each_picture_is_held_out_or_used_once_per_epoch(images):
  collection = _collect(images)
  assert len(collection.held_out) == 32
  assert len(collection) == NUM_PICTURES - 32
  every = {
    path.relative_to(images).as_posix() for path in images.rglob('*.png')
  }
  assert {*collection.held_out, *collection.keys} == every

  seen = []
  (height, width) = (32, 48)
  whole = functools.partial(crops.cut, size=(height, width))
  known = {
    key: whole(crops.read(collection.source, key)).astype(int) for key in every
  }
  config = make_config(crop=1.0)
  feed = make_feed(config, collection, 2)
  for _ in range(len(collection) // 2):
    batch = next(feed)
    assert batch.rgb.shape == (2, height, width, 3)
    assert batch.rgb.dtype == np.uint8 and batch.gray.dtype == bool
    for rgb in batch.rgb:
      distance = {
        key: min(np.abs(x - rgb).mean(), np.abs(x[:, ::-1] - rgb).mean())
        for key, x in known.items()
      }
      seen.append(min(distance, key=distance.get))
      assert (
        distance[seen[-1]] < 6
      )  # A window of the same height at another position.
  assert sorted(seen) == sorted(collection.keys)


def test_a_name_determines_whether_a_picture_is_held_out(images, tmp_path):
  before = _collect(images)
  for path in images.rglob(
    '*.png'
  ):  # In another folder, with one more picture.
    copy = tmp_path / path.relative_to(images)
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(path.read_bytes())
  (tmp_path / 'new.png').write_bytes(path.read_bytes())
  after = _collect(tmp_path)
  assert len({*before.held_out} - {*after.held_out}) <= 1


def test_frames_of_records_are_used_except_of_held_out_videos(
  images, tmp_path, monkeypatch
):
  written_records.write(tmp_path, written_records.moving_runs())
  digest = crops._digest
  for video_held_out, expected in (('b', range(10)), ('a', range(10, 19))):
    monkeypatch.setattr(
      crops,
      '_digest',
      lambda name, out=video_held_out: b'' if name == out else digest(name),
    )
    collection = crops.collect(str(images), tmp_path)
    np.testing.assert_array_equal(collection.frames, expected)
    assert len(collection) == NUM_PICTURES - 32 + len(expected)
    last = collection.read(len(collection) - 1)
    truth = collection.records.read(expected[-1]).rgb()
    np.testing.assert_array_equal(last, truth)


def test_the_feed_resumes_and_half_of_it_is_gray(images):
  collection = _collect(images)
  feed = make_feed(make_config(), collection, 4)
  batches = [next(feed) for _ in range(16)]
  again = make_feed(make_config(), collection, 4)
  again.set_state({'samples': 60})
  for first, second in zip(next(again), batches[15], strict=True):
    np.testing.assert_array_equal(first, second)
  assert 20 <= np.sum([batch.gray for batch in batches]) <= 44


def test_a_broken_picture_is_replaced_and_named(images, tmp_path, capsys):
  for path in images.rglob('*.png'):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  broken = _collect(tmp_path).keys[0]
  (tmp_path / broken).write_bytes(b'no picture')
  feed = make_feed(make_config(), _collect(tmp_path), 2)
  for _ in range((NUM_PICTURES - 32) // 2):
    assert next(feed).rgb.shape == (2, 32, 48, 3)
  assert feed.skipped == 1
  assert broken in capsys.readouterr().err


def test_windows_have_the_aspect_ratio_and_are_inside():
  y, x = np.mgrid[:60, :100]
  rgb = np.stack([x, y, x + y], -1).astype(np.uint8)
  middle = crops.cut(rgb, (30, 30))  # 60x60 pixels at half the size.
  np.testing.assert_allclose(middle[..., 0].mean(), 49.5, atol=0.5)
  assert middle[0, 0, 0] == 20 or middle[0, 0, 0] == 21
  corner = crops.cut(rgb, (30, 30), 0.5, (1.0, 1.0))
  np.testing.assert_array_equal(corner, rgb[30:, 70:])


def test_too_few_pictures_are_refused(tmp_path):
  with pytest.raises(
    UserError, match='has 0 pictures; pretraining needs at least 64'
  ):
    _collect(tmp_path)
