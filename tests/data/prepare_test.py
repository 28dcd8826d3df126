"""Preparation: what ends up in the records, and that it survives a stop."""

import errno
import importlib.util
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from configs import vitexco
from vitexco_jax.data import prepare, records
from vitexco_jax.errors import UserError
from vitexco_jax.media.video import (
  Format,
  Frame,
  VideoReader,
  VideoWriter,
  write_image,
)


def _config(folder, **data):
  config = vitexco.get_config('tiny')
  config.data.records = str(folder)
  config.data.update(data)
  return config


def _write_video(path, frames=8, size=(48, 64), gray=False, cuts=()):
  """A colorful picture that moves 2 pixels to the left in every frame.

  At each of `cuts` another picture begins.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  seed = sum(path.name.encode())
  starts = [0, *cuts, frames]
  with VideoWriter(path, Format(*size)) as writer:
    for shot, (first, last) in enumerate(itertools.pairwise(starts)):
      noise = np.random.default_rng([seed, shot]).random((8, 24, 3), np.float32)
      width = size[1] + 2 * (last - first)
      scene = cv2.resize(noise, (width, size[0]), interpolation=cv2.INTER_CUBIC)
      scene = np.uint8(255 * np.clip(scene, 0, 1))
      if shot % 2:
        scene = 255 - scene // 3
      if gray:
        scene = np.repeat(scene[..., :1], 3, -1)
      for index in range(last - first):
        writer.write(Frame(scene[:, 2 * index : 2 * index + size[1]]))


def _files(folder):
  """All that preparation made, by name."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def _prepare(config, videos, **options):
  return prepare.prepare(config, videos, **{'workers': 1} | options)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  _write_video(folder / 'b.mp4', frames=20)
  _write_video(folder / 'deep/er/a.mkv', frames=9)
  _write_video(folder / 'c.mp4', frames=4, size=(96, 80))
  _write_video(folder / 'gray.mp4', gray=True)
  _write_video(folder / 'short.mp4', frames=3)
  _write_video(folder / 'two_shots.mp4', frames=11, cuts=[6])
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
  return folder, _prepare(_config(folder), videos)


def test_lists_what_is_there_and_what_is_not(prepared):
  folder, made = prepared
  assert records.Records(folder).runs == made.runs
  # Runs of at most 8 frames; the last two of a long shot share evenly.
  assert [(run.video, run.start, run.frames) for run in made.runs] == [
    ('b.mp4', 0, 8),
    ('b.mp4', 8, 6),
    ('b.mp4', 14, 6),
    ('c.mp4', 0, 4),
    ('deep/er/a.mkv', 0, 4),
    ('deep/er/a.mkv', 4, 5),
    ('two_shots.mp4', 0, 6),
    ('two_shots.mp4', 6, 5),
  ]
  reasons = made.left_out
  assert sorted(reasons) == [
    *('cut.mkv', 'gray.mp4', 'head.mp4', 'notes.txt', 'short.mp4')
  ]
  assert reasons['gray.mp4'] == 'black-and-white'
  assert reasons['short.mp4'] == 'shots of fewer than 4 frames'
  assert 'frames lost' in reasons['cut.mkv']
  assert 'the index' in reasons['head.mp4'] and 'missing' in reasons['head.mp4']
  assert 'not a video' in reasons['notes.txt']


def test_records_hold_the_video(videos, prepared):
  _, made = prepared
  with VideoReader(videos / 'b.mp4') as reader:
    frames = [frame.rgb for frame in reader]
  for run in made.runs[:3]:
    for place in range(run.frames):
      record = made.read(run.first + place)
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


def test_frame_step_leaves_out_frames_between(videos, tmp_path):
  listed = tmp_path / 'list.txt'
  listed.write_text(f'{videos / "b.mp4"}\n\n{videos / "absent.mp4"}\n')
  config = _config(tmp_path / 'out', frame_step=3, run_length=64)
  made = _prepare(config, listed)
  (run,) = made.runs
  assert (run.video, run.frames) == (str(videos / 'b.mp4'), 7)
  assert 'does not exist' in made.left_out[str(videos / 'absent.mp4')]
  assert made.read(2).index == 6
  flow, _ = made.read(2).motion()
  inner = flow[8:-8, 12:-12].reshape(-1, 2)
  np.testing.assert_allclose(np.median(inner, 0), [-4.5, 0], atol=0.4)


def test_workers_do_not_change_the_records(videos, prepared, tmp_path):
  made = _prepare(_config(tmp_path), videos, workers=2)
  assert _files(tmp_path) == _files(prepared[0])
  assert made.fingerprint == prepared[1].fingerprint


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
  expected = _prepare(_config(tmp_path / 'whole'), listed)
  assert len(calls) == sum(flows)

  config = _config(tmp_path / 'stopped')
  _count_flows(monkeypatch, stop_at=flows[0] + 20)
  with pytest.raises(KeyboardInterrupt):
    _prepare(config, listed)
  stopped = _files(tmp_path / 'stopped')
  assert sorted(Path(name).suffix for name in stopped) == [
    *('.array_record', '.json', '.json')  # The note and the settings.
  ]
  with pytest.raises(UserError, match='flow=dis, not deepflow'):
    _prepare(_config(tmp_path / 'stopped', flow='deepflow'), listed)
  # A kill leaves what control-C tidies up: half a part, a part without note.
  ((done,),) = [[x for x in stopped if x.endswith('.array_record')]]
  (part,) = [
    x
    for x in _files(tmp_path / 'whole')
    if x.startswith('parts/b-') and x.endswith('.array_record')
  ]
  assert part != done
  (tmp_path / 'stopped' / part).write_bytes(b'not noted')
  (tmp_path / 'stopped' / f'{part}.partial').write_bytes(b'half')

  calls = _count_flows(monkeypatch)
  assert _prepare(config, listed).fingerprint == expected.fingerprint
  assert len(calls) == sum(flows[1:])
  assert _files(tmp_path / 'stopped') == _files(tmp_path / 'whole')

  calls = _count_flows(monkeypatch)
  assert _prepare(config, listed).runs == expected.runs
  assert not calls


def test_workers_end_with_a_killed_parent(videos, tmp_path):
  listed = tmp_path / 'list.txt'
  listed.write_text(''.join(f'{videos}/{i * "./"}b.mp4\n' for i in range(200)))
  script = tmp_path / 'killed.py'
  script.write_text(
    'import sys\n'
    'from pathlib import Path\n'
    'from configs import vitexco\n'
    'from vitexco_jax.data import prepare\n'
    "if __name__ == '__main__':\n"
    "  config = vitexco.get_config('tiny')\n"
    "  config.data.flow = 'deepflow'\n"
    '  config.data.records = sys.argv[1]\n'
    '  prepare.prepare(config, Path(sys.argv[2]), workers=2)\n'
  )
  out = tmp_path / 'out'
  root = Path(__file__).resolve().parents[2]
  parent = subprocess.Popen(
    [sys.executable, script, out, listed],
    env=os.environ | {'PYTHONPATH': str(root)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  deadline = time.monotonic() + 60
  while not list(out.glob('parts/b-*.json')) and time.monotonic() < deadline:
    time.sleep(0.05)
  parent.kill()
  # Its output ends when the last process that can write to it has ended.
  output, _ = parent.communicate(timeout=30)
  assert list(out.glob('parts/b-*.json')), output.decode()
  assert not (out / 'vitexco').exists()


def test_a_folder_of_images_is_a_video(videos, tmp_path):
  with (
    VideoReader(videos / 'c.mp4') as reader,
    VideoWriter(tmp_path / 'in/shots/one', reader.format) as writer,
  ):
    for frame in reader:
      writer.write(frame)
  made = _prepare(_config(tmp_path / 'out'), tmp_path / 'in')
  (run,) = made.runs
  assert (run.video, run.frames) == ('shots/one', 4)
  assert not made.left_out


def test_a_changed_video_is_prepared_again(tmp_path, monkeypatch):
  _write_video(tmp_path / 'in/a.mp4', frames=4)
  _write_video(tmp_path / 'in/b.mp4', frames=4)
  config = _config(tmp_path / 'out')
  before = _prepare(config, tmp_path / 'in')
  (tmp_path / 'in/a.mp4').unlink()
  _write_video(tmp_path / 'in/a.mp4', frames=6)
  calls = _count_flows(monkeypatch)
  made = _prepare(config, tmp_path / 'in')
  assert [run.frames for run in made.runs] == [6, 4]
  assert len(calls) == 2 * 5
  assert made.fingerprint != before.fingerprint


def test_a_run_without_color_is_left_out_of_a_video(tmp_path):
  path = tmp_path / 'in/half.mp4'
  path.parent.mkdir()
  noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
  color = cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC)
  gray = np.repeat(color[..., :1], 3, -1)
  with VideoWriter(path, Format(48, 64)) as writer:
    for index, rgb in enumerate([gray] * 8 + [color] * 8):
      writer.write(Frame(np.roll(rgb, 2 * index, 1)))
  config = _config(tmp_path / 'out')
  made = _prepare(config, path.parent)
  assert [(run.start, run.frames) for run in made.runs] == [(8, 8)]
  assert made.left_out == {'half.mp4': 'black-and-white (8 of 16 frames)'}


def test_refuses_what_cannot_be_prepared(videos, prepared, tmp_path):
  config = _config(tmp_path / 'out')
  with pytest.raises(UserError, match='--videos=.*nowhere does not exist'):
    prepare.prepare(config, tmp_path / 'nowhere')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match='has no files'):
    prepare.prepare(config, tmp_path / 'empty')
  with pytest.raises(UserError, match='a text file'):
    prepare.prepare(config, videos / 'b.mp4')
  (tmp_path / 'useless').mkdir()
  (tmp_path / 'useless/notes.txt').write_text('no video')
  with pytest.raises(UserError, match='no usable training data.*useless'):
    _prepare(config, tmp_path / 'useless')
  assert not (tmp_path / 'out/vitexco').exists()

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
    _prepare(config, videos)
  monkeypatch.undo()
  assert _prepare(config, videos).runs


def test_records_inside_the_folder_of_videos_are_no_videos(tmp_path):
  _write_video(tmp_path / 'a.mp4', frames=4)
  config = _config(tmp_path / 'records')
  made = _prepare(config, tmp_path)
  assert _prepare(config, tmp_path).fingerprint == made.fingerprint
  assert not made.left_out


def test_still_pictures_become_pairs_of_known_motion(tmp_path):
  folder = tmp_path / 'pictures'
  (folder / 'deep').mkdir(parents=True)
  for name in ('chelsea', 'coffee'):
    write_image(folder / f'{name}.png', getattr(skimage.data, name)())
  gray = np.repeat(skimage.data.chelsea()[..., :1], 3, -1)
  write_image(folder / 'deep/gray.png', gray)
  (folder / 'broken.jpg').write_bytes(b'no picture')
  config = _config(tmp_path / 'out', size=(64, 96))
  made = _prepare(config, None, images=folder)
  assert made.runs == [('chelsea.png', 0, 0, 2), ('coffee.png', 0, 2, 2)]
  assert sorted(made.left_out) == ['broken.jpg', 'deep/gray.png']
  assert made.left_out['deep/gray.png'] == 'black-and-white'
  for run in made.runs:
    earlier, later = made.read(run.first), made.read(run.first + 1)
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
  config = _config(tmp_path / 'again', size=(64, 96))
  assert _prepare(config, None, images=folder).fingerprint == made.fingerprint
  config = _config(tmp_path / 'other', size=(64, 96))
  config.seed = 1
  assert _prepare(config, None, images=folder).fingerprint != made.fingerprint


@pytest.mark.skipif(
  importlib.util.find_spec('apache_beam') is None,
  reason='Apache Beam is not installed: requirements-beam.txt',
)
@pytest.mark.filterwarnings('default')  # Those of its imports are not ours.
def test_beam_makes_the_same_records(videos, prepared, tmp_path):
  made = _prepare(_config(tmp_path), videos, beam='--runner=DirectRunner')
  assert made.fingerprint == prepared[1].fingerprint
  assert _files(tmp_path) == _files(prepared[0])


def test_without_beam_says_how_to_get_it(videos, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(UserError, match='requirements-beam.txt'):
    _prepare(_config(tmp_path), videos, beam='--runner=DirectRunner')
