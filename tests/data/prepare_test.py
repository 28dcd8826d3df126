"""Preparation: contents of the records, resuming, and refused inputs."""

import errno
import os
from pathlib import Path

import pytest
from small_videos import (
  count_flows,
  make_config,
  read_files,
  run_prepare,
)

from vitexco_jax.data import prepare, records
from vitexco_jax.errors import UserError


def test_runs_and_reasons_for_excluded_videos_are_listed(prepared):
  folder, result = prepared
  assert records.Records(folder).runs == result.runs
  # Runs of at most 8 frames; the last two of a long shot share evenly.
  assert [(run.video, run.start, run.frames) for run in result.runs] == [
    ('b.mp4', 0, 8),
    ('b.mp4', 8, 6),
    ('b.mp4', 14, 6),
    ('c.mp4', 0, 4),
    ('deep/er/a.mkv', 0, 4),
    ('deep/er/a.mkv', 4, 5),
    ('two_shots.mp4', 0, 6),
    ('two_shots.mp4', 6, 5),
  ]
  reasons = result.left_out
  assert sorted(reasons) == [
    'cut.mkv',
    'gray.mp4',
    'head.mp4',
    'notes.txt',
    'short.mp4',
  ]
  assert reasons['gray.mp4'] == 'black-and-white'
  assert reasons['short.mp4'] == 'shots of fewer than 4 frames'
  assert 'frames lost' in reasons['cut.mkv']
  assert 'the index' in reasons['head.mp4'] and 'missing' in reasons['head.mp4']
  assert 'not a video' in reasons['notes.txt']


def test_resumes_after_an_interruption(videos, tmp_path, monkeypatch):
  listed = tmp_path / 'list.txt'
  names = ('c.mp4', 'b.mp4', 'deep/er/a.mkv')
  listed.write_text('\n'.join(str(videos / name) for name in names))
  flows = [2 * (4 - 1), 2 * (7 + 5 + 5), 2 * (3 + 4)]  # Both ways, in each run.

  calls = count_flows(monkeypatch)
  expected = run_prepare(make_config(tmp_path / 'whole'), listed)
  assert len(calls) == sum(flows)

  config = make_config(tmp_path / 'stopped')
  count_flows(monkeypatch, stop_at=flows[0] + 20)
  with pytest.raises(KeyboardInterrupt):
    run_prepare(config, listed)
  stopped = read_files(tmp_path / 'stopped')
  assert sorted(Path(name).suffix for name in stopped) == [
    '.array_record',
    '.json',
    '.json',  # The note and the settings.
  ]
  with pytest.raises(UserError, match='flow=dis, not deepflow'):
    run_prepare(make_config(tmp_path / 'stopped', flow='deepflow'), listed)
  # A kill leaves files that Ctrl-C removes: half a part, a part without note.
  ((done,),) = [[x for x in stopped if x.endswith('.array_record')]]
  (part,) = [
    x
    for x in read_files(tmp_path / 'whole')
    if x.startswith('parts/b-') and x.endswith('.array_record')
  ]
  assert part != done
  (tmp_path / 'stopped' / part).write_bytes(b'not noted')
  (tmp_path / 'stopped' / f'{part}.partial').write_bytes(b'half')

  calls = count_flows(monkeypatch)
  assert run_prepare(config, listed).fingerprint == expected.fingerprint
  assert len(calls) == sum(flows[1:])
  assert read_files(tmp_path / 'stopped') == read_files(tmp_path / 'whole')

  calls = count_flows(monkeypatch)
  assert run_prepare(config, listed).runs == expected.runs
  assert not calls


def test_unusable_inputs_are_refused(videos, prepared, tmp_path):
  config = make_config(tmp_path / 'out')
  with pytest.raises(UserError, match='`videos=.*nowhere` does not exist'):
    prepare.prepare(config, tmp_path / 'nowhere')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match='has no files'):
    prepare.prepare(config, tmp_path / 'empty')
  with pytest.raises(UserError, match='a text file'):
    prepare.prepare(config, videos / 'b.mp4')
  (tmp_path / 'useless').mkdir()
  (tmp_path / 'useless/notes.txt').write_text('no video')
  with pytest.raises(UserError, match='no usable training data.*useless'):
    run_prepare(config, tmp_path / 'useless')
  assert not (tmp_path / 'out/vitexco').exists()

  for name, value in {'flow': 'raft', 'frame_step': 0}.items():
    with pytest.raises(UserError, match=f'config.data.{name}={value} must be'):
      prepare.prepare(make_config(tmp_path / 'out', **{name: value}), videos)
  for size in ((40, 48), (32, 50), (16, 48), (32, 0), (-32, 48)):
    with pytest.raises(UserError, match='data.size=.* multiple of 16'):
      prepare.prepare(make_config(tmp_path / 'out', size=size), videos)
  with pytest.raises(UserError, match='min_frames=5 .* half of .*run_length=8'):
    prepare.prepare(make_config(tmp_path / 'out', min_frames=5), videos)
  folder, _ = prepared
  with pytest.raises(UserError, match='frame_step=1, not 2'):
    prepare.prepare(make_config(folder, frame_step=2), videos)
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(UserError, match='cannot write records to .*file'):
    prepare.prepare(make_config(tmp_path / 'file'), videos)


def test_a_full_disk_is_reported_and_nothing_is_lost(
  videos, tmp_path, monkeypatch
):
  config = make_config(tmp_path)
  replace = os.replace

  def disk_full(source, target):
    if str(target).endswith('.json') and 'b-' in str(target):
      raise OSError(errno.ENOSPC, 'No space left on device')
    replace(source, target)

  monkeypatch.setattr(os, 'replace', disk_full)
  with pytest.raises(UserError, match='cannot write records .*No space left'):
    run_prepare(config, videos)
  monkeypatch.undo()
  assert run_prepare(config, videos).runs
