"""Jobs of the preparation: which files, and whether they changed."""

from small_videos import (
  count_flows,
  make_config,
  run_prepare,
  write_video,
)

from vitexco_jax.media.video import (
  VideoReader,
  VideoWriter,
)


def test_a_folder_of_images_is_a_video(videos, tmp_path):
  with (
    VideoReader(videos / 'c.mp4') as reader,
    VideoWriter(tmp_path / 'in/shots/one', reader.format) as writer,
  ):
    for frame in reader:
      writer.write(frame)
  result = run_prepare(make_config(tmp_path / 'out'), tmp_path / 'in')
  (run,) = result.runs
  assert (run.video, run.frames) == ('shots/one', 4)
  assert not result.left_out


def test_a_changed_video_is_prepared_again(tmp_path, monkeypatch):
  write_video(tmp_path / 'in/a.mp4', frames=4)
  write_video(tmp_path / 'in/b.mp4', frames=4)
  config = make_config(tmp_path / 'out')
  before = run_prepare(config, tmp_path / 'in')
  (tmp_path / 'in/a.mp4').unlink()
  write_video(tmp_path / 'in/a.mp4', frames=6)
  calls = count_flows(monkeypatch)
  result = run_prepare(config, tmp_path / 'in')
  assert [run.frames for run in result.runs] == [6, 4]
  assert len(calls) == 2 * 5
  assert result.fingerprint != before.fingerprint


def test_records_inside_the_folder_of_videos_are_ignored(tmp_path):
  write_video(tmp_path / 'a.mp4', frames=4)
  config = make_config(tmp_path / 'records')
  result = run_prepare(config, tmp_path)
  assert run_prepare(config, tmp_path).fingerprint == result.fingerprint
  assert not result.left_out
