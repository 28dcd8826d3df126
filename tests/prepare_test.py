"""Preparation: what ends up in the records, and that it survives a stop."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import vitexco
from vitexco_jax import prepare, records
from vitexco_jax.errors import UserError
from vitexco_jax.video import Format, Frame, VideoReader, VideoWriter


def _config(folder, **data):
  config = vitexco.get_config('tiny')
  config.data.records = str(folder)
  config.data.update(data)
  return config


def _write_video(path, frames=8, size=(48, 64), grey=False):
  """A colourful picture that moves 2 pixels to the left in every frame."""
  seed = sum(path.name.encode())
  noise = np.random.default_rng(seed).random((8, 24, 3), np.float32)
  width = size[1] + 2 * frames
  scene = cv2.resize(noise, (width, size[0]), interpolation=cv2.INTER_CUBIC)
  scene = np.uint8(255 * np.clip(scene, 0, 1))
  if grey:
    scene = np.repeat(scene[..., :1], 3, -1)
  path.parent.mkdir(parents=True, exist_ok=True)
  with VideoWriter(path, Format(*size)) as writer:
    for index in range(frames):
      writer.write(Frame(scene[:, 2 * index : 2 * index + size[1]]))


def _files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  _write_video(folder / 'b.mp4', frames=20)
  _write_video(folder / 'deep/er/a.mkv', frames=9)
  _write_video(folder / 'c.mp4', frames=4, size=(96, 80))
  _write_video(folder / 'grey.mp4', grey=True)
  _write_video(folder / 'short.mp4', frames=3)
  (folder / 'notes.txt').write_text('no video\n')
  (folder / '.hidden').write_text('not looked at\n')
  whole = (folder / 'b.mp4').read_bytes()
  (folder / 'head.mp4').write_bytes(whole[:100])
  _write_video(folder / 'cut.mkv', frames=60)
  with (folder / 'cut.mkv').open('r+b') as file:
    file.truncate(int(0.7 * file.seek(0, 2)))
  return folder


@pytest.fixture(scope='module')
def prepared(videos, tmp_path_factory):
  folder = tmp_path_factory.mktemp('records') / 'made'
  manifest = prepare.prepare(_config(folder), videos, workers=1)
  return folder, manifest


def test_manifest_lists_what_is_there_and_what_is_not(prepared):
  folder, manifest = prepared
  assert records.Manifest.read(folder) == manifest
  # Runs of at most 8 frames; the last two of a long video share evenly.
  assert [(e.video, e.index, e.start, e.frames) for e in manifest.records] == [
    ('b.mp4', 0, 0, 8),
    ('b.mp4', 1, 8, 6),
    ('b.mp4', 2, 14, 6),
    ('c.mp4', 0, 0, 4),
    ('deep/er/a.mkv', 0, 0, 4),
    ('deep/er/a.mkv', 1, 4, 5),
  ]
  reasons = manifest.left_out
  assert sorted(reasons) == [
    *('cut.mkv', 'grey.mp4', 'head.mp4', 'notes.txt', 'short.mp4')
  ]
  assert reasons['grey.mp4'] == 'black-and-white'
  assert reasons['short.mp4'] == 'too short (3 of at least 4 frames)'
  assert 'frames lost' in reasons['cut.mkv']
  assert 'not a video' in reasons['head.mp4']
  assert 'not a video' in reasons['notes.txt']
  shards = {entry.shard for entry in manifest.records}
  assert {path.name for path in folder.glob('*.array_record*')} == shards


def test_records_hold_the_video(videos, prepared):
  folder, manifest = prepared
  with VideoReader(videos / 'b.mp4') as reader:
    frames = [frame.rgb for frame in reader]
  for entry in manifest.records[:3]:
    record = records.read_record(folder, entry)
    assert (record.frames, record.references) == (entry.frames, 0)
    for index in range(entry.frames):
      # 48x64 to 32x48: scaled to 36x48, two rows cut off above and below.
      expected = cv2.resize(
        frames[entry.start + index], (48, 36), interpolation=cv2.INTER_AREA
      )[2:34]
      assert cv2.PSNR(record.frame(index), expected) > 40
    for index in range(entry.frames - 1):
      flow, visible = record.flow(index)
      assert flow.shape == (32, 48, 2) and visible.shape == (32, 48, 1)
      inner = flow[4:-4, 6:-6].reshape(-1, 2)
      np.testing.assert_allclose(np.median(inner, 0), [-1.5, 0], atol=0.2)
      assert visible[4:-4, 6:-6].mean() > 0.5
      assert not visible[:, 0].any()  # It leaves the picture.


def test_frame_step_leaves_out_frames_between(videos, tmp_path):
  listed = tmp_path / 'list.txt'
  listed.write_text(f'{videos / "b.mp4"}\n\n{videos / "absent.mp4"}\n')
  config = _config(tmp_path / 'out', frame_step=3, run_length=64)
  manifest = prepare.prepare(config, listed, workers=1)
  (entry,) = manifest.records
  assert (entry.video, entry.frames) == (str(videos / 'b.mp4'), 7)
  assert 'does not exist' in manifest.left_out[str(videos / 'absent.mp4')]
  flow, _ = records.read_record(tmp_path / 'out', entry).flow(2)
  inner = flow[8:-8, 12:-12].reshape(-1, 2)
  np.testing.assert_allclose(np.median(inner, 0), [-4.5, 0], atol=0.4)


def test_workers_do_not_change_the_records(videos, prepared, tmp_path):
  prepare.prepare(_config(tmp_path), videos, workers=2)
  assert _files(tmp_path) == _files(prepared[0])


def _count_flows(monkeypatch, stop_at=None):
  """Counts estimates; `stop_at` presses control-C in one of them."""
  estimate_flow = prepare.flow.estimate_flow
  calls = []

  def counted(*args):
    calls.append(args)
    if len(calls) == stop_at:
      raise KeyboardInterrupt
    return estimate_flow(*args)

  monkeypatch.setattr(prepare.flow, 'estimate_flow', counted)
  return calls


def test_goes_on_where_it_was_stopped(videos, tmp_path, monkeypatch):
  listed = tmp_path / 'list.txt'
  names = ('c.mp4', 'b.mp4', 'deep/er/a.mkv')
  listed.write_text('\n'.join(str(videos / name) for name in names))
  flows = [2 * (4 - 1), 2 * (7 + 5 + 5), 2 * (3 + 4)]  # Both ways, in each run.

  calls = _count_flows(monkeypatch)
  expected = prepare.prepare(_config(tmp_path / 'whole'), listed, workers=1)
  assert len(calls) == sum(flows)

  config = _config(tmp_path / 'stopped')
  _count_flows(monkeypatch, stop_at=flows[0] + 20)
  with pytest.raises(KeyboardInterrupt):
    prepare.prepare(config, listed, workers=1)
  stopped = _files(tmp_path / 'stopped')
  assert sorted(Path(name).suffix for name in stopped) == [
    *('.array_record', '.json', '.json')  # The note and the settings.
  ]
  assert 'manifest.json' not in stopped
  with pytest.raises(UserError, match='flow=dis, not deepflow'):
    prepare.prepare(_config(tmp_path / 'stopped', flow='deepflow'), listed)
  # A kill leaves what control-C tidies up: half a shard, a shard without note.
  shard = expected.records[1].shard
  (tmp_path / 'stopped' / shard).write_bytes(b'not noted')
  (tmp_path / 'stopped' / f'{shard}.partial').write_bytes(b'half')

  calls = _count_flows(monkeypatch)
  assert prepare.prepare(config, listed, workers=1) == expected
  assert len(calls) == sum(flows[1:])
  assert _files(tmp_path / 'stopped') == _files(tmp_path / 'whole')

  calls = _count_flows(monkeypatch)
  assert prepare.prepare(config, listed, workers=1) == expected
  assert not calls


def test_workers_end_with_a_killed_parent(videos, tmp_path):
  listed = tmp_path / 'list.txt'
  listed.write_text(''.join(f'{videos}/{i * "./"}b.mp4\n' for i in range(200)))
  script = tmp_path / 'killed.py'
  script.write_text(
    'import sys\n'
    'from pathlib import Path\n'
    'from configs import vitexco\n'
    'from vitexco_jax import prepare\n'
    "if __name__ == '__main__':\n"
    "  config = vitexco.get_config('tiny')\n"
    "  config.data.flow = 'deepflow'\n"
    '  config.data.records = sys.argv[1]\n'
    '  prepare.prepare(config, Path(sys.argv[2]), workers=2)\n'
  )
  out = tmp_path / 'out'
  root = Path(__file__).resolve().parent.parent
  parent = subprocess.Popen(
    [sys.executable, script, out, listed],
    env=os.environ | {'PYTHONPATH': str(root)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  deadline = time.monotonic() + 60
  while not list(out.glob('b-*.json')) and time.monotonic() < deadline:
    time.sleep(0.05)
  parent.kill()
  # Its output ends when the last process that can write to it has ended.
  output, _ = parent.communicate(timeout=30)
  assert list(out.glob('b-*.json')), output.decode()
  assert not (out / 'manifest.json').exists()


def test_a_folder_of_images_is_a_video(videos, tmp_path):
  with (
    VideoReader(videos / 'c.mp4') as reader,
    VideoWriter(tmp_path / 'in/shots/one', reader.format) as writer,
  ):
    for frame in reader:
      writer.write(frame)
  manifest = prepare.prepare(
    _config(tmp_path / 'out'), tmp_path / 'in', workers=1
  )
  (entry,) = manifest.records
  assert (entry.video, entry.frames) == ('shots/one', 4)
  assert not manifest.left_out


def test_a_changed_video_is_prepared_again(tmp_path, monkeypatch):
  _write_video(tmp_path / 'in/a.mp4', frames=4)
  _write_video(tmp_path / 'in/b.mp4', frames=4)
  config = _config(tmp_path / 'out')
  prepare.prepare(config, tmp_path / 'in', workers=1)
  (tmp_path / 'in/a.mp4').unlink()
  _write_video(tmp_path / 'in/a.mp4', frames=6)
  calls = _count_flows(monkeypatch)
  manifest = prepare.prepare(config, tmp_path / 'in', workers=1)
  assert [entry.frames for entry in manifest.records] == [6, 4]
  assert len(calls) == 2 * 5


def test_a_run_without_colour_is_left_out_of_a_video(tmp_path):
  path = tmp_path / 'in/half.mp4'
  path.parent.mkdir()
  noise = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)
  colour = cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC)
  grey = np.repeat(colour[..., :1], 3, -1)
  with VideoWriter(path, Format(48, 64)) as writer:
    for rgb in [grey] * 8 + [colour] * 8:
      writer.write(Frame(rgb))
  config = _config(tmp_path / 'out')
  manifest = prepare.prepare(config, path.parent, workers=1)
  assert [(e.start, e.frames) for e in manifest.records] == [(8, 8)]
  reason = 'black-and-white in part (8 of 16 frames)'
  assert manifest.left_out == {'half.mp4': reason}


def test_refuses_what_cannot_be_prepared(videos, prepared, tmp_path):
  config = _config(tmp_path / 'out')
  with pytest.raises(UserError, match='--videos=.*nowhere does not exist'):
    prepare.prepare(config, tmp_path / 'nowhere')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match='holds no files'):
    prepare.prepare(config, tmp_path / 'empty')
  with pytest.raises(UserError, match='a text file'):
    prepare.prepare(config, videos / 'b.mp4')
  (tmp_path / 'useless').mkdir()
  (tmp_path / 'useless/notes.txt').write_text('no video')
  with pytest.raises(UserError, match='nothing to train on.*useless'):
    prepare.prepare(config, tmp_path / 'useless', workers=1)
  assert not (tmp_path / 'out/manifest.json').exists()

  for name, value in {'flow': 'raft', 'frame_step': 0}.items():
    with pytest.raises(UserError, match=f'config.data.{name}={value} must be'):
      prepare.prepare(_config(tmp_path / 'out', **{name: value}), videos)
  for size in ((40, 48), (32, 50), (16, 48), (32, 0), (-32, 48)):
    with pytest.raises(UserError, match='data.size=.* multiple of 16'):
      prepare.prepare(_config(tmp_path / 'out', size=size), videos)
  with pytest.raises(UserError, match='min_frames=5 .* half of .*run_length=8'):
    prepare.prepare(_config(tmp_path / 'out', min_frames=5), videos)
  folder, _ = prepared
  with pytest.raises(UserError, match='frame_step=1, not 2'):
    prepare.prepare(_config(folder, frame_step=2), videos)
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(UserError, match='cannot write records to .*file'):
    prepare.prepare(_config(tmp_path / 'file'), videos)


def test_a_full_disk_is_one_sentence_and_nothing_lost(
  videos, tmp_path, monkeypatch
):
  config = _config(tmp_path)
  replace = os.replace

  def disk_full(source, target):
    if str(target).endswith('.json') and 'b-' in str(target):
      raise OSError(errno.ENOSPC, 'No space left on device')
    replace(source, target)

  monkeypatch.setattr(os, 'replace', disk_full)
  with pytest.raises(UserError, match='cannot write records .*No space left'):
    prepare.prepare(config, videos, workers=1)
  monkeypatch.undo()
  assert prepare.prepare(config, videos, workers=1).records


def test_records_inside_the_folder_of_videos_are_no_videos(tmp_path):
  _write_video(tmp_path / 'a.mp4', frames=4)
  config = _config(tmp_path / 'records')
  manifest = prepare.prepare(config, tmp_path, workers=1)
  assert prepare.prepare(config, tmp_path, workers=1) == manifest
  assert not manifest.left_out
