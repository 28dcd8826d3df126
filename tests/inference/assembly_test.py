"""Assembly: outputs are complete and appear together."""

import errno
import os
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from films import (
  COUNT,
  contents,
  gray_frame,
  read_frames,
  run_film,
)
from painter import SIZE

from vitexco_jax.errors import UserError
from vitexco_jax.inference.outputs import Options
from vitexco_jax.media import mux, video
from vitexco_jax.media.scans import time_code as read_code

pytestmark = pytest.mark.usefixtures('small_blocks')


def test_a_finished_but_unassembled_film_is_assembled(tmp_path, source, red):
  output = tmp_path / 'out.mp4'
  with pytest.MonkeyPatch.context() as monkeypatch:

    def fail(*args):
      raise UserError('the disk is full')

    monkeypatch.setattr(mux, 'join', fail)
    with pytest.raises(UserError, match='disk is full'):
      run_film(source, red, output)
  steps, job = run_film(source, red, output)
  assert not steps and len(read_frames(output)) == COUNT
  assert (job.confidences > 0.7).all()


def test_outputs_appear_together(tmp_path, source, red):
  output = tmp_path / 'out.mkv'
  options = Options(compare=tmp_path / 'new' / 'compare.mp4')
  join = mux.join

  def fail(segments, form, source, target, sound):
    join(segments, form, source, target, sound)
    if target.suffix == '.mp4':
      raise UserError('the disk is full')

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(mux, 'join', fail)
    with pytest.raises(UserError, match='disk is full'):
      run_film(source, red, output, options=options)
  # Nothing that the same command would take for another's output.
  left = sorted(x.name for x in tmp_path.rglob('*') if x.suffix != '.json')
  assert [x for x in left if 'out' in x or 'compare' in x] == [
    'compare',
    'out.mkv.part',
    'output',
  ]
  run_film(source, red, output, options=options)
  assert len(read_frames(output)) == len(read_frames(options.compare)) == COUNT
  assert sorted(x.name for x in tmp_path.iterdir()) == ['new', 'out.mkv']


@pytest.mark.parametrize('moved', [0, 1, 2, 3])
def test_a_kill_during_the_move_of_outputs_loses_nothing(
  tmp_path, source, red, monkeypatch, moved
):
  names = 'out.mkv', 'both', 'sure.mp4'
  expected, outputs = (
    [tmp_path / folder / name for name in names] for folder in ('one', 'two')
  )
  options = Options(compare=expected[1], confidence=expected[2])
  run_film(source, red, expected[0], options=options)
  options = Options(compare=outputs[1], confidence=outputs[2])
  move = video.move

  def stop(*_):
    raise KeyboardInterrupt

  def kill(partial, target):
    return stop() if target in outputs[moved:] else move(partial, target)

  with monkeypatch.context() as patch:
    patch.setattr(video, 'move', kill)
    patch.setattr(shutil, 'rmtree', stop)
    with pytest.raises(KeyboardInterrupt):
      run_film(source, red, outputs[0], options=options)
  assert [path.exists() for path in outputs] == [i < moved for i in range(3)]
  with pytest.raises(UserError, match=r'\.out\.mkv\.whole was begun with `sat'):
    other = options._replace(saturation=0.5)
    run_film(source, red, outputs[0], options=other)
  steps, _ = run_film(source, red, outputs[0], options=options)
  assert not steps
  assert list(map(contents, outputs)) == list(map(contents, expected))
  assert sorted(x.name for x in (tmp_path / 'two').iterdir()) == sorted(names)


def test_a_deleted_output_is_assembled_again(
  tmp_path, source, red, monkeypatch, caplog
):
  def stop(*_):
    raise KeyboardInterrupt

  output = tmp_path / 'out.mkv'
  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'rmtree', stop)
    with pytest.raises(KeyboardInterrupt):
      run_film(source, red, output)
  output.unlink()
  steps, _ = run_film(source, red, output)
  assert not steps and len(read_frames(output)) == COUNT
  assert 'out.mkv is gone: the outputs are assembled' in caplog.text
  assert [x.name for x in tmp_path.iterdir()] == ['out.mkv']


def test_outputs_on_other_file_systems(tmp_path, source, red, monkeypatch):
  def no_link(*_):
    raise OSError(errno.EXDEV, 'Invalid cross-device link')

  rename = os.rename

  def near(source, target):
    if Path(source).parent != Path(target).parent:
      no_link()
    rename(source, target)

  options = Options(
    compare=tmp_path / 'a' / 'both', confidence=tmp_path / 'b' / 'sure.mkv'
  )
  for name in ('link', 'rename', 'replace'):
    monkeypatch.setattr(os, name, no_link if name == 'link' else near)
  run_film(source, red, tmp_path / 'out', options=options)
  monkeypatch.undo()
  for path in options.outputs(tmp_path / 'out'):
    assert len(read_frames(path)) == COUNT
  assert sorted(x.name for x in tmp_path.iterdir()) == ['a', 'b', 'out']


def test_scans_with_time_codes_become_scans_and_a_part_of_a_video(
  tmp_path, red
):
  scans = tmp_path / 'scans'
  form = video.Format(*SIZE, Fraction(24), time_code='00:59:59:20')
  with video.VideoWriter(scans, form, coding=video.Coding('dpx')) as writer:
    for i in range(COUNT):
      writer.write(video.Frame(gray_frame(i), name=f'scan{i}'))
  plan = red._replace(video=str(scans), frame_rate=Fraction(24))
  options = Options(video.Coding('exr'))
  run_film(scans, plan, tmp_path / 'out', options=options)
  names = [f'scan{i}.exr' for i in range(COUNT)]
  assert sorted(x.name for x in (tmp_path / 'out').iterdir()) == sorted(names)
  codes = [read_code((tmp_path / 'out' / name).read_bytes()) for name in names]
  assert codes[:5] == [f'00:59:59:{i}' for i in range(20, 24)] + ['01:00:00:00']
  assert codes[-1] == '01:00:00:18'
  part = tmp_path / 'part.mov'
  options = Options(video.Coding('prores4444'))
  run_film(scans, plan, part, options=options, frames=range(6, 12))
  with video.VideoReader(part) as reader:
    assert len(list(reader)) == 6
    assert reader.format.time_code == '01:00:00:02'
