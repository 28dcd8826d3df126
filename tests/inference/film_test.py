"""Whole films: frames and times, resuming, shots, and devices."""

import contextlib
import functools
import itertools
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from films import (
  COUNT,
  LAST,
  STAMPS,
  contents,
  gray_frame,
  lossless,
  make_plan,
  mean_ab,
  packets,
  read_frames,
  run_film,
)
from painter import SIZE, Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference import film
from vitexco_jax.inference.outputs import Options
from vitexco_jax.inference.plan import Shot
from vitexco_jax.media import mux, video

pytestmark = pytest.mark.usefixtures('small_blocks')


@pytest.mark.parametrize('suffix', ['.mkv', '.mp4', '.mov', '.m4v'])
def test_frames_timestamps_and_other_streams_are_preserved(
  tmp_path, source, red, suffix
):
  output = tmp_path / f'out{suffix}'
  steps, _ = run_film(source, red, output)
  assert [step.number for step in steps] == list(range(COUNT))
  assert [step.done for step in steps] == list(range(1, COUNT + 1))
  assert [x.name for x in tmp_path.iterdir()] == [output.name]
  with video.VideoReader(output) as reader:
    frames = list(reader)
    assert reader.format.pixel_aspect == Fraction(16, 15)
    times = [frame.pts * reader.format.time_base for frame in frames]
    end = times[-1] + frames[-1].duration * reader.format.time_base
  assert times == [Fraction(stamp, 1000) for stamp in STAMPS]
  assert end == Fraction(STAMPS[-1] + LAST, 1000)
  for step, frame in zip(steps, frames, strict=True):
    assert np.abs(mean_ab(frame.rgb) - mean_ab(step.rgb)).max() < 1.5
  actual, original = packets(output, 'audio'), packets(source, 'audio')
  assert [data for _, data in actual] == [data for _, data in original]
  drift = [float(a[0] - b[0]) for a, b in zip(actual, original, strict=True)]
  assert np.abs(drift).max() <= 0.001
  with av.open(str(output)) as container:
    assert container.metadata['title'] == 'A film'
    chapters = [
      chapter['metadata']['title'] for chapter in container.chapters()
    ]
    assert chapters == ['part 0', 'part 1']
    assert container.streams.audio[0].metadata['language'] == 'fra'
    assert container.streams.video[0].metadata['language'] == 'ger'
    kinds = [stream.type for stream in container.streams]
  assert kinds.count('audio') == 2
  if suffix == '.mkv':
    assert {'subtitle', 'attachment'} <= set(kinds)
    assert [data for _, data in packets(output, 'subtitle')] == [
      b'line 0',
      b'line 1',
    ]


def test_a_folder_becomes_a_film_at_the_rate_of_its_plan(tmp_path, red):
  folder = tmp_path / 'in'
  folder.mkdir()
  for i in range(COUNT):
    video.write_image(folder / f'{i}.png', gray_frame(i))
  rate = Fraction(24_000, 1001)
  result = red._replace(frame_rate=rate)
  run_film(folder, result, tmp_path / 'out.mp4')
  with video.VideoReader(tmp_path / 'out.mp4') as reader:
    assert reader.format.frame_rate == rate
    frames = list(reader)
    times = [frame.pts * reader.format.time_base for frame in frames]
    end = times[-1] + frames[-1].duration * reader.format.time_base
  assert times == [i / rate for i in range(COUNT)]
  assert end == COUNT / rate
  run_film(folder, result, tmp_path / 'again.mp4', stop=9)
  with pytest.raises(
    UserError, match='`frame_rate` 24000/1001, which now is 25'
  ):
    run_film(folder, red, tmp_path / 'again.mp4')


def test_audio_is_omitted_on_request_also_after_resuming(tmp_path, source, red):
  output = tmp_path / 'out.mp4'
  run_film(source, red, output, stop=9)
  options = Options(audio='none')
  steps, _ = run_film(source, red, output, options=options)
  assert steps[0].number > 0  # What was colored is still good.
  with av.open(str(output)) as container:
    assert not container.streams.audio


def test_an_avi_has_frames_in_order(tmp_path, red):
  source = tmp_path / 'in.avi'
  with video.VideoWriter(source, video.Format(*SIZE)) as writer:
    for i in range(COUNT):
      writer.write(video.Frame(gray_frame(i)))
  run_film(source, red, tmp_path / 'out.avi')
  assert len(read_frames(tmp_path / 'out.avi')) == COUNT
  with av.open(str(tmp_path / 'out.avi')) as container:
    stamps = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert stamps == list(range(COUNT))
  assert mux.delay(tmp_path / 'out.avi') == 0


@pytest.fixture
def recording(tmp_path):
  """An interlaced video, bottom field first."""
  path = tmp_path / 'tape.mkv'
  form = video.Format(*SIZE, field_order='bb')
  with video.VideoWriter(path, form, coding=video.Coding('ffv1')) as writer:
    for i in range(COUNT):
      rgb = gray_frame(0)
      rgb[::2] += np.uint8(40 * (i % 2))
      writer.write(video.Frame(rgb))
  return path


def test_interlaced_video_stays_interlaced(tmp_path, recording, red):
  options = Options(
    compare=tmp_path / 'both.mp4', confidence=tmp_path / 'sure.mp4'
  )
  run_film(recording, red, tmp_path / 'out.mp4', options=options)
  for name, order in ('out.mp4', 'bb'), ('both.mp4', 'bb'), ('sure.mp4', ''):
    with video.VideoReader(tmp_path / name) as reader:
      assert reader.format.field_order == order
      assert len(list(reader)) == COUNT


def test_interlaced_video_becomes_progressive(tmp_path, recording, red):
  output = tmp_path / 'out.mkv'
  options = lossless(deinterlace=True)
  for stop in 6, None:  # What is resumed is deinterlaced as well.
    run_film(recording, red, output, stop, options=options)
  frames = read_frames(output)
  assert len(frames) == COUNT
  for rgb in frames:
    gray = np.float32(rgb[..., 1])
    assert np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean() < 5
  with video.VideoReader(output) as reader:
    assert reader.format.field_order == ''


@pytest.mark.parametrize('name', ['out.mp4', 'out.mkv', 'frames'])
def test_a_stopped_film_resumes_to_the_same_result(tmp_path, source, red, name):
  run_film(source, red, tmp_path / 'whole' / name)
  again = tmp_path / 'again' / name
  seen = []
  for stop in (1, 6, 9, 100):
    steps, _ = run_film(source, red, again, stop)
    seen.append([step.number for step in steps])
    assert again.exists() == (stop == 100)
  # The blocks begin with frames 0, 4, 8 and so on; one that is not whole is lost.
  assert [numbers[0] for numbers in seen] == [0, 0, 4, 12]
  assert seen[-1] == list(range(12, COUNT))
  assert steps[0].done == 13
  assert contents(again) == contents(tmp_path / 'whole' / name)
  assert [x.name for x in again.parent.iterdir()] == [name]


def test_a_full_disk_is_reported_and_the_film_resumes(tmp_path, source, red):
  resource = pytest.importorskip('resource')
  output = tmp_path / 'out.mkv'
  run_film(source, red, output, stop=9)
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
  try:
    with pytest.raises(UserError, match='cannot write .*File too large'):
      run_film(source, red, output)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  steps, _ = run_film(source, red, output)
  assert steps[0].number == 8 and len(read_frames(output)) == COUNT


def test_two_runs_at_once_are_refused(tmp_path, source, red):
  output = tmp_path / 'out.mkv'
  with contextlib.closing(
    film.Film([Painter()], source, red, output).run()
  ) as run:
    next(run)
    with pytest.raises(UserError, match='in use by another run'):
      run_film(source, red, output)
    assert len(list(run)) == COUNT - 1
  assert len(read_frames(output)) == COUNT


def test_a_plan_of_another_video_is_refused(tmp_path, source, red):
  with pytest.raises(UserError, match='plan is of a video of 64x96 pixels'):
    run_film(source, red._replace(width=64, height=96), tmp_path / 'out.mkv')
  longer = red._replace(frames=30, shots=(red.shots[0]._replace(stop=30),))
  with pytest.raises(UserError, match='ends at frame 23, but its plan has 30'):
    run_film(source, longer, tmp_path / 'out.mkv')


# Shots and stretches.


def test_each_shot_starts_without_state_from_its_references(
  tmp_path, source, still
):
  red, green = still('red'), still('green')
  film_plan = make_plan(
    source,
    Shot(0, 7, (red,)),
    Shot(7, 12, (green,)),
    Shot(12, 23, (red, green)),
  )
  painter = Painter()
  steps, _ = run_film(
    source, film_plan, tmp_path / 'out.mkv', painter=painter, options=lossless()
  )
  assert painter.references == [(1, False), (1, False), (2, False)]
  expected = [(20, 5 + i) for i in range(7)]
  expected += [(-20, 5 + i) for i in range(5)]
  expected += [(0, 5 + i) for i in range(11)]
  actual = [mean_ab(rgb) for rgb in read_frames(tmp_path / 'out.mkv')]
  np.testing.assert_allclose(actual, expected, atol=1.0)


def test_time_ranges_that_need_a_reference_are_reported(
  tmp_path, source, still
):
  red, green = still('red'), still('green')
  film_plan = make_plan(source, Shot(0, 10, (red,)), Shot(10, 23, (green,)))
  painter = Painter({-20: 0.3, 20: 0.9})
  _, job = run_film(source, film_plan, tmp_path / 'out.mkv', painter=painter)
  assert list(job.unsure()) == [(10, 23)]
  (doubt,) = job.doubts()
  times = [f'0:00:0{STAMPS[i] / 1000:.1f}' for i in (10, 22)]
  assert f'from {times[0]} to {times[1]} (frames 10 to 22)' in doubt
  job.confidences[17] = 0.1
  (doubt,) = job.doubts()
  assert doubt.endswith('best to frame 17')


def test_shots_are_distributed_over_devices(tmp_path, source, still):
  red, green = still('red'), still('green')
  edges = [0, 5, 9, 15, 19, COUNT]
  film_plan = make_plan(
    source,
    *(
      Shot(a, b, ((red, green)[i % 2],))
      for i, (a, b) in enumerate(itertools.pairwise(edges))
    ),
  )
  run_film(source, film_plan, tmp_path / 'one.mkv')
  painters = [Painter(), Painter()]
  run_film(source, film_plan, tmp_path / 'two.mkv', stop=9, painter=painters)
  steps, job = run_film(
    source, film_plan, tmp_path / 'two.mkv', painter=painters
  )
  assert all(painter.references for painter in painters)
  assert steps[-1].done == COUNT and not np.isnan(job.confidences).any()
  assert (tmp_path / 'two.mkv').read_bytes() == (
    tmp_path / 'one.mkv'
  ).read_bytes()


def _bound(source, still, *frames):
  """A plan of one shot with bound stills, and three devices."""
  choices = [
    still(('red', 'green')[i % 2], frame=frame)
    for i, frame in enumerate(frames)
  ]
  painters = [Painter(), Painter(), Painter()]
  for painter in painters:
    painter.config.use.still_agreement = 0.0  # They are plain colors.
  return make_plan(source, Shot(0, COUNT, tuple(choices))), painters


def _meet(painters):
  """Makes the first predictions of painters wait for each other."""
  barrier = threading.Barrier(len(painters), timeout=30)

  def meet(frames, predict, calls):
    if not next(calls):
      barrier.wait()
    return predict(frames)

  for painter in painters:
    painter.predict = functools.partial(
      meet, predict=painter.predict, calls=itertools.count()
    )


@pytest.mark.parametrize('stills', [(0, 9, 18), (0, 18), (3,)])
def test_a_long_shot_is_shared_by_devices(tmp_path, source, still, stills):
  film_plan, (alone, *two) = _bound(source, still, *stills)
  run_film(source, film_plan, tmp_path / 'one.mkv', painter=alone)
  _meet(two)
  steps, job = run_film(source, film_plan, tmp_path / 'two.mkv', painter=two)
  assert (tmp_path / 'two.mkv').read_bytes() == (
    tmp_path / 'one.mkv'
  ).read_bytes()
  assert max(step.done for step in steps) == job.steps


@pytest.mark.parametrize('devices', [1, 3])
def test_stored_directions_are_used_by_the_next_run(
  tmp_path, source, still, devices
):
  film_plan, painters = _bound(source, still, 0, COUNT - 1)
  run_film(source, film_plan, tmp_path / 'one.mkv', painter=painters[0])
  output = tmp_path / 'out.mkv'
  # Both directions are 45 steps, the last frame is one.
  run_film(source, film_plan, output, stop=48, painter=painters)
  assert (tmp_path / 'out.mkv.part/0000000.forwards.json').exists()
  painters = _bound(source, still)[1][:devices]
  steps, job = run_film(source, film_plan, output, painter=painters)
  assert not any(painter.references for painter in painters)
  # The last frame is complete, and comes last.
  assert job.steps - 1 <= max(step.done for step in steps) <= job.steps
  assert output.read_bytes() == (tmp_path / 'one.mkv').read_bytes()


@pytest.mark.parametrize('error', [UserError, IndexError])
def test_a_failure_on_one_device_stops_the_others(
  tmp_path, source, still, error
):
  red = still('red')
  film_plan = make_plan(source, *(Shot(i, i + 1, (red,)) for i in range(COUNT)))

  class Failing(Painter):
    def set_reference(self, *rgb, first_frame=False):
      raise error('out of memory')

  with pytest.raises(error, match='out of memory'):
    run_film(
      source, film_plan, tmp_path / 'out.mkv', painter=[Painter(), Failing()]
    )
  steps, _ = run_film(source, film_plan, tmp_path / 'out.mkv')
  assert len(read_frames(tmp_path / 'out.mkv')) == COUNT
