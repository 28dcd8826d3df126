"""Runs of the preparation: frames, motion, and pairs from pictures."""

import cv2
import numpy as np
import skimage.data
from small_videos import (
  make_config,
  run_prepare,
)

from vitexco_jax.media.video import (
  Format,
  Frame,
  VideoReader,
  VideoWriter,
  write_image,
)


def test_records_contain_the_video(videos, prepared):
  _, result = prepared
  with VideoReader(videos / 'b.mp4') as reader:
    frames = [frame.rgb for frame in reader]
  for run in result.runs[:3]:
    for place in range(run.frames):
      record = result.read(run.first + place)
      index = run.start + place
      assert (record.video, record.index) == ('b.mp4', index)
      assert record.references == []
      # 48x64 to 32x48: scaled to 36x48, two rows cut off above and below.
      expected = cv2.resize(
        frames[index], (48, 36), interpolation=cv2.INTER_AREA
      )[2:34]
      assert cv2.PSNR(record.rgb(), expected) > 40
      flow, visible = record.motion()
      assert flow.shape == (32, 48, 2) and visible.shape == (32, 48, 1)
      if place == run.frames - 1:
        assert not visible.any()
        continue
      inner = flow[4:-4, 6:-6].reshape(-1, 2)
      np.testing.assert_allclose(np.median(inner, 0), [-1.5, 0], atol=0.2)
      assert visible[4:-4, 6:-6].mean() > 0.5
      assert not visible[:, 0].any()  # It leaves the picture.


def test_frame_step_skips_frames(videos, tmp_path):
  listed = tmp_path / 'list.txt'
  listed.write_text(f'{videos / "b.mp4"}\n\n{videos / "absent.mp4"}\n')
  config = make_config(tmp_path / 'out', frame_step=3, run_length=64)
  result = run_prepare(config, listed)
  (run,) = result.runs
  assert (run.video, run.frames) == (str(videos / 'b.mp4'), 7)
  assert 'does not exist' in result.left_out[str(videos / 'absent.mp4')]
  assert result.read(2).index == 6
  flow, _ = result.read(2).motion()
  inner = flow[8:-8, 12:-12].reshape(-1, 2)
  np.testing.assert_allclose(np.median(inner, 0), [-4.5, 0], atol=0.4)


def test_a_run_without_color_is_excluded(tmp_path):
  path = tmp_path / 'in/half.mp4'
  path.parent.mkdir()
  noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
  color = cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC)
  gray = np.repeat(color[..., :1], 3, -1)
  with VideoWriter(path, Format(48, 64)) as writer:
    for index, rgb in enumerate([gray] * 8 + [color] * 8):
      writer.write(Frame(np.roll(rgb, 2 * index, 1)))
  config = make_config(tmp_path / 'out')
  result = run_prepare(config, path.parent)
  assert [(run.start, run.frames) for run in result.runs] == [(8, 8)]
  assert result.left_out == {'half.mp4': 'black-and-white (8 of 16 frames)'}


def test_still_pictures_become_pairs_of_known_motion(tmp_path):
  folder = tmp_path / 'pictures'
  (folder / 'deep').mkdir(parents=True)
  for name in ('chelsea', 'coffee'):
    write_image(folder / f'{name}.png', getattr(skimage.data, name)())
  gray = np.repeat(skimage.data.chelsea()[..., :1], 3, -1)
  write_image(folder / 'deep/gray.png', gray)
  (folder / 'broken.jpg').write_bytes(b'no picture')
  config = make_config(tmp_path / 'out', size=(64, 96))
  result = run_prepare(config, None, images=folder)
  assert result.runs == [('chelsea.png', 0, 0, 2), ('coffee.png', 0, 2, 2)]
  assert sorted(result.left_out) == ['broken.jpg', 'deep/gray.png']
  assert result.left_out['deep/gray.png'] == 'black-and-white'
  for run in result.runs:
    earlier, later = result.read(run.first), result.read(run.first + 1)
    flow, visible = earlier.motion()
    y, x = np.mgrid[:64, :96].astype(np.float32)
    brought = cv2.remap(
      later.rgb(), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR
    )
    usable = visible[..., 0] == 1
    error = np.abs(np.float32(brought) - earlier.rgb())[usable].mean()
    moved = np.abs(np.float32(later.rgb()) - earlier.rgb())[usable].mean()
    assert usable.mean() > 0.5 and error < 6 and error < 0.7 * moved
  # The same pictures make the same pairs, another seed makes others.
  config = make_config(tmp_path / 'again', size=(64, 96))
  assert (
    run_prepare(config, None, images=folder).fingerprint == result.fingerprint
  )
  config = make_config(tmp_path / 'other', size=(64, 96))
  config.seed = 1
  assert (
    run_prepare(config, None, images=folder).fingerprint != result.fingerprint
  )
