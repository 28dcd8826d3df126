"""Sessions: from a video to its colors, the job queue, and cleanup."""

import threading
import time
from pathlib import Path

import av
import jax
import numpy as np
import pytest
from documents import picture
from page_inputs import COUNT, Stub, embed, encoded, write_film

from vitexco_jax.errors import UserError
from vitexco_jax.media import containers, video
from vitexco_jax.serving import (
  disk_quota,
  session_jobs,
  storyboard,
  uploads,
)
from vitexco_jax.serving.jobs import Job, JobQueue
from vitexco_jax.serving.sessions import Session


@pytest.fixture(scope='module')
def film(tmp_path_factory):
  """Two gray shots."""
  path = tmp_path_factory.mktemp('film') / 'film.mp4'
  write_film(path)
  return path


@pytest.fixture
def session(tmp_path):
  return Session(tmp_path / 'session')


@pytest.fixture
def queue():
  with JobQueue() as queue:
    yield queue


def _give_video(session, source, name='film.mp4'):
  path = session.new_path()
  path.write_bytes(Path(source).read_bytes())
  uploads.check_video(path)
  session.set_video(path, name)


def _give_picture(session, rgb, name):
  path = session.new_path()
  path.write_bytes(encoded(rgb))
  session.add_reference(uploads.redraw(path), name)
  path.unlink()


def _finish(session):
  session.job.future.result(60)
  assert session.job.state == 'done', session.job.message


def _planned(session, film, queue, names=('one.png', 'two.png')):
  _give_video(session, film)
  for seed, name in enumerate(names, 1):
    _give_picture(session, picture(seed), name)
  session_jobs.find_shots(session, queue, embed, Stub())
  _finish(session)


def _await_steps(session):
  while not session.job.done:
    assert not session.job.is_over
    time.sleep(0.01)


def _chosen(session):
  return [
    [(session.number_of(choice), choice.frame) for choice in shot.references]
    for shot in session.plan.shots
  ]


def _files(session):
  return sorted(path.name for path in session.folder.iterdir())


def test_from_video_to_result(session, film, queue):
  assert session.folder.stat().st_mode & 0o777 == 0o700
  _planned(session, film, queue)
  one, two = session.references
  assert _chosen(session) == [[(one, None)], [(two, None)]]
  session.choose(1, [two, one])
  assert _chosen(session) == [[(one, None)], [(one, None), (two, None)]]
  given = _files(session)
  session_jobs.color(session, queue, Stub())
  _finish(session)
  assert session.job.done == session.job.total == 2 * COUNT
  assert session.job.preview.number in (
    COUNT - 1,
    2 * COUNT - 1,
  )  # Two workers.
  assert _files(session) == ['colored.mp4', 'colored.mp4.work', *given]
  assert session.result_name == 'film_color.mp4'
  with video.VideoReader(session.coloring.result) as reader:
    assert len([*reader]) == 2 * COUNT


def test_no_video_is_opened_in_this_process(session, film, queue, monkeypatch):
  opened = []
  open_input = containers.open_input
  monkeypatch.setattr(
    containers, 'open_input', lambda path, *more: opened.append(path)
  )
  _planned(session, film, queue)
  session_jobs.color(session, queue, Stub())
  _finish(session)
  assert opened == []
  monkeypatch.setattr(containers, 'open_input', open_input)
  with video.VideoReader(session.coloring.result) as reader:
    assert len([*reader]) == 2 * COUNT


def test_shots_without_a_picture_are_colorized_by_the_prior(
  session, film, queue
):
  _give_video(session, film)
  plain = Stub()
  plain.has_prior = False
  with pytest.raises(UserError, match='add a video and a reference first'):
    session_jobs.find_shots(session, queue, embed, plain)
  session_jobs.find_shots(session, queue, embed, Stub())
  _finish(session)
  assert all(shot.by_prior for shot in session.plan.shots)
  colorizer = Stub()
  session_jobs.color(session, queue, colorizer)
  _finish(session)
  assert session.warnings == []
  with pytest.raises(UserError, match='shot 1 needs one of the references'):
    session.choose(0, [])
  session.choose(0, [], prior=True)


@pytest.mark.parametrize(
  'codec, kind, dtype, suffix',
  [('pcm_u8', 'u8', 'u1', '.mp4'), ('adpcm_ms', 's16', 'i2', None)],
)
def test_the_audio_determines_the_container(
  session, queue, tmp_path, codec, kind, dtype, suffix
):
  path = tmp_path / 'film.avi'
  with av.open(str(path), 'w') as out:
    stream = out.add_stream('mpeg4', rate=25, width=96, height=64)
    stream.pix_fmt = 'yuv420p'
    sound = out.add_stream(codec, rate=8000, layout='mono')
    for _ in range(COUNT):
      gray = av.VideoFrame.from_ndarray(picture(1)[..., 0], 'gray')
      out.mux(stream.encode(gray))
    out.mux(stream.encode(None))
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 500), dtype), kind, 'mono')
    frame.sample_rate, frame.pts = 8000, 0
    out.mux(sound.encode(frame))
    out.mux(sound.encode(None))
  _planned(session, path, queue)
  session_jobs.color(session, queue, Stub())
  session.job.future.result(60)
  if suffix is None:
    assert 'supports the audio of film.mp4' in session.job.message
    return
  assert session.result_name == f'film_color{suffix}'
  with av.open(str(session.coloring.result)) as container:
    assert container.streams.audio[0].codec_context.name == 'pcm_s16le'


def test_a_picture_named_after_its_frame_is_bound_to_it(session, film, queue):
  _planned(session, film, queue, ['one.png', f'ref_{COUNT + 2:05d}.png'])
  one, two = session.references
  assert _chosen(session) == [[(one, None)], [(two, COUNT + 2)]]
  session.choose(0, [two])  # It is not a frame of that shot.
  assert _chosen(session)[0] == [(two, None)]


def test_references_may_change_after_the_first_result(session, film, queue):
  _planned(session, film, queue)
  one, two = session.references
  session_jobs.color(session, queue, Stub())
  _finish(session)
  _give_picture(session, picture(1), f'ref_{COUNT + 3:06d}.png')
  bound = list(session.references)[2]
  assert _chosen(session) == [[(one, None)], [(bound, COUNT + 3)]]
  session.remove_reference(one)
  assert _chosen(session)[0] in ([(two, None)], [(bound, None)])
  assert session.coloring.result.exists()
  session_jobs.color(session, queue, Stub())
  _finish(session)
  session.remove_reference(two)
  session.remove_reference(bound)
  assert all(shot.by_prior for shot in session.plan.shots)


def test_only_changed_shots_are_colorized_again(session, film, queue):
  _planned(session, film, queue)
  one, two = session.references
  session_jobs.color(session, queue, colorizer := Stub())
  _finish(session)
  assert len(colorizer.references) == 2
  result = session.coloring.result.read_bytes()
  session.choose(0, [two])
  session_jobs.color(session, queue, colorizer := Stub())
  _finish(session)
  assert len(colorizer.references) == 1
  assert session.coloring.result.read_bytes() != result
  session.choose(0, [one])
  session_jobs.color(session, queue, Stub())
  _finish(session)
  assert session.coloring.result.read_bytes() == result


def test_a_skipped_shot_stays_as_it_is(session, film, queue):
  _planned(session, film, queue)
  session.skip(1, True)
  assert [shot.skipped for shot in session.plan.shots] == [False, True]
  session_jobs.color(session, queue, Stub())
  _finish(session)
  with video.VideoReader(session.coloring.result) as reader:
    spread = [np.ptp(np.int16(frame.rgb), -1).mean() for frame in reader]
  assert min(spread[:COUNT]) > 2 > max(spread[COUNT:])


def test_a_stopped_job_continues(session, film, queue, monkeypatch):
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
  _planned(session, film, queue)
  may_go = threading.Semaphore(COUNT + 5)
  session_jobs.color(session, queue, Stub(may_go))
  with pytest.raises(UserError, match='stop the running job first'):
    session_jobs.find_shots(session, queue, embed, Stub())
  while session.job.done < COUNT + 2:
    assert not session.job.is_over
    time.sleep(0.01)
  session.stop()
  may_go.release(100)
  session.job.future.result(60)
  assert session.job.state == 'stopped' and session.coloring.result is None
  assert session.coloring.ranges == [[0, COUNT]]
  assert session.read_colored(COUNT - 1) and not session.read_colored(COUNT)
  session_jobs.color(session, queue, colorizer := Stub())
  _finish(session)
  assert len(colorizer.references) == 1
  with video.VideoReader(session.coloring.result) as reader:
    assert len([*reader]) == 2 * COUNT


def test_a_failed_job_continues(session, film, queue, monkeypatch):
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
  _planned(session, film, queue)
  colorizer = Stub()

  def fail(_):
    if len(colorizer.references) == 2:
      raise MemoryError

  monkeypatch.setattr(colorizer, '_before_frame', fail)
  session_jobs.color(session, queue, colorizer)
  session.job.future.result(60)
  assert session.job.state == 'failed'
  assert session.coloring.kept == COUNT
  session_jobs.color(session, queue, colorizer := Stub())
  _finish(session)
  assert len(colorizer.references) == 1


def test_a_stop_interrupts_reading(session, film, queue):
  reading = threading.Event()

  def read(job):
    reading.set()
    job.sandbox.call(time.sleep, 60, about=film)

  queue.take(job := Job('shots', read))
  assert reading.wait(60)
  begun = time.monotonic()
  job.stop()
  job.future.result(60)
  assert job.state == 'stopped' and time.monotonic() - begun < 10


def test_a_full_disk_ends_a_job(session, film, queue, monkeypatch):
  _planned(session, film, queue)
  given = _files(session)
  monkeypatch.setattr(disk_quota, '_RESERVE', 2**60)
  session_jobs.color(session, queue, Stub())
  session.job.future.result(60)
  assert 'no room left on the disk' in session.job.message
  assert _files(session) == given


def test_leaving_removes_all_files(session, film, queue):
  _planned(session, film, queue)
  may_go = threading.Semaphore(5)
  session_jobs.color(session, queue, Stub(may_go))
  _await_steps(session)
  session.leave()
  may_go.release(100)
  queue.take(last := Job('colors', lambda _: None))
  last.future.result(60)
  assert not session.folder.exists()


@pytest.mark.parametrize(
  'name',
  ['../../outside.png', '/etc/passwd', 'a\0b\n.png', '..', '', 'x' * 5000],
)
def test_names_are_text_only(session, film, queue, name):
  _planned(session, film, queue, [name])
  _give_video(session, film, name)
  outside = {path for path in session.folder.parent.iterdir()}
  assert outside == {session.folder}
  assert _files(session) == ['reference-3.png', 'video']
  for kept in (
    session.video_name,
    *(x.name for x in session.references.values()),
  ):
    assert kept.isprintable() and 0 < len(kept) <= 100


def test_errors_use_the_names_of_the_user(session, film, queue):
  _planned(session, film, queue, ['ref_00003.png', 'ref_3.png'])
  with pytest.raises(UserError) as caught:
    session_jobs.color(session, queue, Stub())
  assert str(caught.value).startswith('film.mp4, shot 1 has two references')
  (session.folder / 'reference-3.png').write_bytes(b'')
  session.survey = None
  session_jobs.find_shots(session, queue, embed, Stub())
  session.job.future.result(60)
  assert session.job.message == 'ref_00003.png is empty: 0 bytes'


def test_the_number_of_frames_is_limited(session, film, queue, monkeypatch):
  _give_video(session, film)
  _give_picture(session, picture(1), 'one.png')
  monkeypatch.setattr(uploads, 'MAX_FRAMES', 2 * COUNT - 1)
  session_jobs.find_shots(session, queue, embed, Stub())
  session.job.future.result(60)
  assert 'film.mp4 has more than 23 frames' in session.job.message


def test_the_number_of_shots_is_limited(session, film, queue, monkeypatch):
  _give_video(session, film)
  _give_picture(session, picture(1), 'one.png')
  monkeypatch.setattr(storyboard, 'MAX_SHOTS', 1)
  session_jobs.find_shots(session, queue, embed, Stub())
  session.job.future.result(60)
  assert 'film.mp4 has more than 1 shots' in session.job.message


def test_damage_is_reported_with_the_result(session, film, queue):
  _planned(session, film, queue)
  session.survey = session.survey._replace(damaged=[3])
  session_jobs.find_shots(session, queue, embed, Stub())
  _finish(session)
  warnings = session.warnings
  assert len(warnings) == 1 and warnings[0].startswith(
    'film.mp4 is broken at 0:00:00.1'
  )
  session_jobs.color(session, queue, Stub())
  _finish(session)
  assert session.warnings == warnings
