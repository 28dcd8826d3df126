"""Videos, and records prepared from them, that several tests share."""

import pytest
from random_records import write_parts
from small_videos import (
  make_config,
  run_prepare,
  write_video,
)

from vitexco_jax.data import records_writer


@pytest.fixture(scope='session')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  write_video(folder / 'b.mp4', frames=20)
  write_video(folder / 'deep/er/a.mkv', frames=9)
  write_video(folder / 'c.mp4', frames=4, size=(96, 80))
  write_video(folder / 'gray.mp4', gray=True)
  write_video(folder / 'short.mp4', frames=3)
  write_video(folder / 'two_shots.mp4', frames=11, cuts=[6])
  (folder / 'notes.txt').write_text('no video\n')
  (folder / '.hidden').write_text('not looked at\n')
  whole = (folder / 'b.mp4').read_bytes()
  (folder / 'head.mp4').write_bytes(whole[:100])
  write_video(folder / 'cut.mkv', frames=60)
  with (folder / 'cut.mkv').open('r+b') as file:
    file.truncate(int(0.7 * file.seek(0, 2)))
  return folder


@pytest.fixture(scope='session')
def prepared(videos, tmp_path_factory):
  folder = tmp_path_factory.mktemp('records') / 'made'
  return folder, run_prepare(make_config(folder), videos)


@pytest.fixture
def written(tmp_path):
  records_writer.write(tmp_path, write_parts(tmp_path))
  return tmp_path
