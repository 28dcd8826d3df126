"""Visits: from a video to its colours, the queue, what is left behind."""

import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from documents import picture
from visitors import COUNT, Stub, embed, encoded, write_film

from vitexco_jax import sizes
from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.serving import room, sessions, uploads
from vitexco_jax.serving.sessions import Desk, Job, Visit


@pytest.fixture(scope='module')
def film(tmp_path_factory):
  """Two grey shots."""
  path = tmp_path_factory.mktemp('film') / 'film.mp4'
  write_film(path)
  return path


@pytest.fixture
def visit(tmp_path):
  return Visit(tmp_path / 'visit')


@pytest.fixture
def desk():
  with Desk() as desk:
    yield desk


def _give_video(visit, source, name='film.mp4'):
  path = visit.new_path()
  path.write_bytes(Path(source).read_bytes())
  uploads.check_video(path)
  visit.set_video(path, name)


def _give_picture(visit, rgb, name):
  path = visit.new_path()
  path.write_bytes(encoded(rgb))
  visit.add_reference(uploads.redraw(path), name)
  path.unlink()


def _finish(visit):
  visit.job.future.result(60)
  assert visit.job.state == 'done', visit.job.message


def _planned(visit, film, desk, names=('one.png', 'two.png')):
  _give_video(visit, film)
  for seed, name in enumerate(names, 1):
    _give_picture(visit, picture(seed), name)
  visit.find_shots(desk, embed)
  _finish(visit)


def _await_steps(visit):
  while not visit.job.done:
    assert not visit.job.is_over
    time.sleep(0.01)


def _chosen(visit):
  return [
    [(visit.number_of(choice), choice.frame) for choice in shot.references]
    for shot in visit.plan.shots
  ]


def _files(visit):
  return sorted(path.name for path in visit.folder.iterdir())


def test_from_a_video_to_its_colours(visit, film, desk):
  assert visit.folder.stat().st_mode & 0o777 == 0o700
  _planned(visit, film, desk)
  one, two = visit.references
  assert _chosen(visit) == [[(one, None)], [(two, None)]]
  visit.choose(1, [two, one])
  assert _chosen(visit) == [[(one, None)], [(one, None), (two, None)]]
  given = _files(visit)
  visit.colour(desk, Stub())
  _finish(visit)
  assert not sizes.join_frames._cache_size()  # Compiled for this size alone.
  assert visit.job.done == visit.job.total == 2 * COUNT
  assert visit.job.preview.number in (
    COUNT - 1,
    2 * COUNT - 1,
  )  # Of two workers.
  assert _files(visit) == ['coloured.mp4', *given]
  assert visit.result_name == 'film_colour.mp4'
  with video.VideoReader(visit.result) as reader:
    assert len([*reader]) == 2 * COUNT


def test_no_video_is_opened_in_this_process(visit, film, desk, monkeypatch):
  opened = []
  open_input = video.open_input
  monkeypatch.setattr(
    video, 'open_input', lambda path, *more: opened.append(path)
  )
  _planned(visit, film, desk)
  visit.colour(desk, Stub())
  _finish(visit)
  assert opened == []
  monkeypatch.setattr(video, 'open_input', open_input)
  with video.VideoReader(visit.result) as reader:
    assert len([*reader]) == 2 * COUNT


def test_shots_without_a_picture_are_colorized_by_the_prior(visit, film, desk):
  _give_video(visit, film)
  with pytest.raises(UserError, match='a video and a reference come first'):
    visit.find_shots(desk, embed)
  visit.find_shots(desk, embed, prior=True)
  _finish(visit)
  assert all(shot.by_prior for shot in visit.plan.shots)
  colorizer = Stub()
  visit.colour(desk, colorizer)
  _finish(visit)
  assert visit.warnings == []
  with pytest.raises(UserError, match='shot 1 needs one of the references'):
    visit.choose(0, [])
  visit.choose(0, [], prior=True)


@pytest.mark.parametrize(
  'codec, kind, dtype, suffix',
  [('pcm_u8', 'u8', 'u1', '.mp4'), ('adpcm_ms', 's16', 'i2', None)],
)
def test_sound_decides_what_the_result_is(
  visit, desk, tmp_path, codec, kind, dtype, suffix
):
  path = tmp_path / 'film.avi'
  with av.open(str(path), 'w') as out:
    stream = out.add_stream('mpeg4', rate=25, width=96, height=64)
    stream.pix_fmt = 'yuv420p'
    sound = out.add_stream(codec, rate=8000, layout='mono')
    for _ in range(COUNT):
      grey = av.VideoFrame.from_ndarray(picture(1)[..., 0], 'gray')
      out.mux(stream.encode(grey))
    out.mux(stream.encode(None))
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 500), dtype), kind, 'mono')
    frame.sample_rate, frame.pts = 8000, 0
    out.mux(sound.encode(frame))
    out.mux(sound.encode(None))
  _planned(visit, path, desk)
  visit.colour(desk, Stub())
  visit.job.future.result(60)
  if suffix is None:
    assert visit.job.message.startswith('the sound of film.mp4 fits into none')
    return
  assert visit.result_name == f'film_colour{suffix}'
  with av.open(str(visit.result)) as container:
    assert container.streams.audio[0].codec_context.name == 'pcm_s16le'


def test_a_picture_named_after_its_frame_is_bound_to_it(visit, film, desk):
  _planned(visit, film, desk, ['one.png', f'ref_{COUNT + 2:05d}.png'])
  one, two = visit.references
  assert _chosen(visit) == [[(one, None)], [(two, COUNT + 2)]]
  visit.choose(0, [two])  # It is no frame of that one.
  assert _chosen(visit)[0] == [(two, None)]


def test_other_references_want_another_plan(visit, film, desk):
  _planned(visit, film, desk)
  visit.colour(desk, Stub())
  _finish(visit)
  visit.remove_reference(next(iter(visit.references)))
  assert visit.plan is visit.result is None
  assert [x for x in _files(visit) if 'coloured' in x] == []
  with pytest.raises(UserError, match='the shots come first'):
    visit.colour(desk, Stub())


def test_a_stop_keeps_nothing_and_the_plan(visit, film, desk):
  _planned(visit, film, desk)
  given = _files(visit)
  may_go = threading.Semaphore(5)
  visit.colour(desk, Stub(may_go))
  with pytest.raises(UserError, match='stop what is going on first'):
    visit.find_shots(desk, embed)
  _await_steps(visit)
  visit.stop()
  may_go.release(100)
  visit.job.future.result(60)
  assert visit.job.state == 'stopped' and visit.result is None
  assert _files(visit) == given
  visit.colour(desk, Stub())
  _finish(visit)


def test_jobs_wait_for_their_turn_and_can_be_stopped_meanwhile(desk):
  may_go = threading.Event()
  jobs = [Job('colours', lambda _: may_go.wait(60)) for _ in range(4)]
  for job in jobs:
    desk.take(job)
  assert [desk.ahead(job) for job in jobs] == [0, 1, 2, 3]
  jobs[1].stop()
  assert jobs[1].state == 'stopped'
  assert [desk.ahead(job) for job in jobs[2:]] == [1, 2]
  may_go.set()
  jobs[3].future.result(60)
  assert [job.state for job in jobs] == ['done', 'stopped', 'done', 'done']


def test_a_rate_is_told_once_it_can_be(monkeypatch):
  job = Job('colours', None)
  assert job.rate is None
  # A block comes at once.
  for now, done, rate in ((9, 1, None), (9.01, 8, None), (19, 41, 4.0)):
    monkeypatch.setattr(time, 'monotonic', lambda now=now: now)
    job.advance(done, 80)
    assert job.rate == rate


def test_what_fails_does_not_end_the_queue(desk, capsys):
  def fail(_):
    raise ZeroDivisionError

  jobs = Job('colours', fail), Job('colours', lambda _: None)
  for job in jobs:
    desk.take(job)
  jobs[1].future.result(60)
  assert [job.state for job in jobs] == ['failed', 'done']
  assert 'the terminal tells' in jobs[0].message
  assert 'ZeroDivisionError' in capsys.readouterr().err


def test_in_the_end_no_job_is_waited_for(monkeypatch):
  monkeypatch.setattr(sessions, '_STOP_SECONDS', 0.1)
  may_go = threading.Event()
  with Desk() as desk:
    desk.take(Job('colours', lambda _: may_go.wait(60)))
    desk.take(second := Job('colours', lambda _: None))
  assert desk.is_busy and second.state == 'stopped'
  may_go.set()


def test_a_stop_ends_what_waits_for_a_file(visit, film, desk):
  reading = threading.Event()

  def read(job):
    reading.set()
    job.sandbox.call(time.sleep, 60, about=film)

  desk.take(job := Job('shots', read))
  assert reading.wait(60)
  begun = time.monotonic()
  job.stop()
  job.future.result(60)
  assert job.state == 'stopped' and time.monotonic() - begun < 10


def test_a_job_ends_where_the_disk_is_full(visit, film, desk, monkeypatch):
  _planned(visit, film, desk)
  given = _files(visit)
  monkeypatch.setattr(room, '_RESERVE', 2**60)
  visit.colour(desk, Stub())
  visit.job.future.result(60)
  assert 'no room left on the disk' in visit.job.message
  assert _files(visit) == given


def test_who_leaves_leaves_nothing(visit, film, desk):
  _planned(visit, film, desk)
  may_go = threading.Semaphore(5)
  visit.colour(desk, Stub(may_go))
  _await_steps(visit)
  visit.leave()
  may_go.release(100)
  desk.take(last := Job('colours', lambda _: None))
  last.future.result(60)
  assert not visit.folder.exists()


@pytest.mark.parametrize(
  'name',
  ['../../outside.png', '/etc/passwd', 'a\0b\n.png', '..', '', 'x' * 5000],
)
def test_names_are_text_only(visit, film, desk, name):
  _planned(visit, film, desk, [name])
  _give_video(visit, film, name)
  outside = {path for path in visit.folder.parent.iterdir()}
  assert outside == {visit.folder}
  assert _files(visit) == ['reference-3.png', 'video']
  for kept in (visit.video_name, *(x.name for x in visit.references.values())):
    assert kept.isprintable() and 0 < len(kept) <= 100


def test_errors_name_files_as_their_owner_does(visit, film, desk):
  _planned(visit, film, desk, ['ref_00003.png', 'ref_3.png'])
  with pytest.raises(UserError) as caught:
    visit.colour(desk, Stub())
  assert str(caught.value).startswith('film.mp4, shot 1 has two references')
  (visit.folder / 'reference-3.png').write_bytes(b'')
  visit.survey = None
  visit.find_shots(desk, embed)
  visit.job.future.result(60)
  assert visit.job.message == 'ref_00003.png is empty: 0 bytes'


def test_a_video_that_hides_its_length_ends_at_the_bound(
  visit, film, desk, monkeypatch
):
  _give_video(visit, film)
  _give_picture(visit, picture(1), 'one.png')
  monkeypatch.setattr(uploads, 'MAX_FRAMES', 2 * COUNT - 1)
  visit.find_shots(desk, embed)
  visit.job.future.result(60)
  assert 'film.mp4 has more than 23 frames' in visit.job.message


def test_a_video_of_flicker_ends_at_the_bound(visit, film, desk, monkeypatch):
  _give_video(visit, film)
  _give_picture(visit, picture(1), 'one.png')
  monkeypatch.setattr(sessions, 'MAX_SHOTS', 1)
  visit.find_shots(desk, embed)
  visit.job.future.result(60)
  assert 'film.mp4 has more than 1 shots' in visit.job.message


def test_damage_is_told_of_the_result_as_well(visit, film, desk):
  _planned(visit, film, desk)
  visit.survey = visit.survey._replace(damaged=[3])
  visit.find_shots(desk, embed)
  _finish(visit)
  told = visit.warnings
  assert len(told) == 1 and told[0].startswith(
    'film.mp4 is broken at 0:00:00.1'
  )
  visit.colour(desk, Stub())
  _finish(visit)
  assert visit.warnings == told
