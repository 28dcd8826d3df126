"""kept_work: a finished film recolors only what has changed."""

import numpy as np
import pytest
from films import (
  COUNT,
  contents,
  gray_frame,
  lossless,
  make_plan,
  mean_ab,
  read_frames,
  run_film,
)
from painter import SIZE, Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference import kept_work
from vitexco_jax.inference.outputs import Options, work_folder
from vitexco_jax.inference.plan import Shot
from vitexco_jax.media import video

pytestmark = pytest.mark.usefixtures('small_blocks')


@pytest.fixture
def two(source, still):
  """A plan of two shots; the second has two stretches."""
  bound = still('green', frame=12)
  return make_plan(source, Shot(0, 10, (still('red'),)), Shot(10, 23, (bound,)))


def _with(plan, number, *references):
  shots = [*plan.shots]
  shots[number] = shots[number]._replace(references=references)
  return plan._replace(shots=tuple(shots))


def _colored(steps):
  return sorted({step.number for step in steps if step.rgb is not None})


@pytest.mark.parametrize('name', ['out.mkv', 'out.mp4', 'frames'])
def test_only_changed_stretches_are_colored_again(
  tmp_path, source, still, two, name
):
  red, green = still('red'), still('green', frame=12)
  plans = {
    'a still': (_with(two, 0, still('green')), [*range(10)]),
    'a frame': (_with(two, 1, green, still('red', frame=20)), [*range(12, 23)]),
    'skip': (_with(two, 0), [*range(10)]),
    'divided': (
      two._replace(
        shots=(Shot(0, 5, (red,)), Shot(5, 10, (red,)), two.shots[1])
      ),
      [*range(10)],
    ),
  }
  output = tmp_path / 'again' / name
  for what, (changed, numbers) in plans.items():
    run_film(source, two, output, overwrite=True, keep_work=True)
    steps, job = run_film(
      source, changed, output, overwrite=True, keep_work=True
    )
    assert _colored(steps) == numbers, what
    assert not np.isnan(job.confidences).any()
    scratch = tmp_path / what / name
    run_film(source, changed, scratch)
    assert contents(output) == contents(scratch), what
    names = {path.name for path in work_folder(output).iterdir()}
    assert not {'settings.json', 'preview.jpg'} & names
  assert sorted(x.name for x in output.parent.iterdir()) == [
    name,
    f'{name}.work',
  ]


def test_settings_recolor_what_they_touch(tmp_path, source, two):
  output, sure = tmp_path / 'out.mkv', tmp_path / 'sure.mkv'
  both = {'overwrite': True, 'keep_work': True}
  options = Options(confidence=sure)
  run_film(source, two, output, options=options, **both)
  sizes = {
    'fit_stills': ({'fit_stills': False}, range(10, COUNT)),
    'unsure_frames': ({'unsure_frames': 3}, ()),
    'size': ({'size': (12, 16)}, range(COUNT)),
  }
  for values, numbers in sizes.values():
    run_film(source, two, output, options=options, **both)
    painter = Painter()
    painter.config.use.update(values)
    steps, _ = run_film(
      source, two, output, painter=painter, options=options, **both
    )
    assert _colored(steps) == [*numbers], values
  run_film(source, two, output, **both)
  assert not run_film(source, two, output, **both)[0]
  sure.unlink()
  # An output that the last run did not write needs all frames.
  steps, _ = run_film(source, two, output, options=options, **both)
  assert len(steps) >= COUNT and len(read_frames(sure)) == COUNT


def test_a_stopped_repair_may_be_changed_again(tmp_path, source, still, two):
  output = tmp_path / 'out.mkv'
  both = {'overwrite': True, 'keep_work': True}
  run_film(source, two, output, **both)
  changed = _with(two, 0, still('green'))
  run_film(source, changed, output, stop=6, **both)
  assert not work_folder(output).exists()
  other = Options(saturation=0.5)
  run_film(source, two, output, stop=2, options=other, **both)
  steps, _ = run_film(source, two, output, **both)
  # Its first block now has another still, or was colored with other options.
  assert set(_colored(steps)) <= set(range(8))
  run_film(source, two, tmp_path / 'new.mkv')
  assert contents(output)[0][1] == (tmp_path / 'new.mkv').read_bytes()


def test_another_film_uses_nothing_of_the_last_one(tmp_path, source, two):
  other, output = tmp_path / 'other.mkv', tmp_path / 'out.mkv'
  with video.VideoWriter(other, video.Format(*SIZE)) as writer:
    for i in range(COUNT):
      writer.write(video.Frame(255 - gray_frame(i)))
  run_film(source, two, output, keep_work=True)
  steps, _ = run_film(other, two, output, overwrite=True)
  assert _colored(steps) == [*range(COUNT)]
  assert not work_folder(output).exists()


@pytest.mark.parametrize('inside', ['notes.txt', None])
def test_a_folder_of_the_user_is_not_replaced(tmp_path, source, two, inside):
  output = tmp_path / 'out.mkv'
  place = work_folder(output)
  if inside:
    place.mkdir()
  (place / inside if inside else place).write_text('mine')
  with pytest.raises(UserError, match=r'out\.mkv\.work has other content'):
    run_film(source, two, output, keep_work=True)
  assert (place / inside if inside else place).read_text() == 'mine'
  assert not output.exists()


def test_segments_are_kept_if_there_is_room(
  tmp_path, source, two, monkeypatch, caplog
):
  caplog.set_level('INFO')
  output = tmp_path / 'out.mkv'
  for free, kept in ((0, False), (10**9, True)):
    usage = kept_work.shutil.disk_usage(tmp_path)._replace(free=free)
    with monkeypatch.context() as patch:
      patch.setattr(kept_work.shutil, 'disk_usage', lambda _, x=usage: x)
      run_film(source, two, output, overwrite=True, keep_work=None)
    assert work_folder(output).exists() == kept
    assert ('keeps the segments, 0.' in caplog.text) == kept
  assert 'not kept: they take 0.' in caplog.text


def test_a_skipped_shot_stays_as_it_is(tmp_path, source, still):
  red = np.full((*SIZE, 3), (200, 60, 60), np.uint8)
  path = tmp_path / 'colored.mkv'
  coding = video.Coding('ffv1')
  with video.VideoWriter(path, video.Format(*SIZE), coding=coding) as writer:
    for _ in range(COUNT):
      writer.write(video.Frame(red))
  film_plan = make_plan(path, Shot(0, 7, ()), Shot(7, COUNT, (still('green'),)))
  painter = Painter()
  options = lossless(saturation=0.5, confidence=tmp_path / 'sure.mkv')
  _, job = run_film(
    path, film_plan, tmp_path / 'out.mkv', options=options, painter=painter
  )
  frames = read_frames(tmp_path / 'out.mkv')
  for rgb in frames[:7]:
    assert np.abs(np.int16(rgb) - red).max() <= 2
  assert abs(mean_ab(frames[7])[0] + 10) < 1.5
  assert len(painter.references) == 1
  assert (job.confidences[:7] == 1).all() and not [*job.unsure()]


def test_frames_are_found_in_segments(tmp_path, source, two):
  output = tmp_path / 'out.mkv'

  def read(number):
    path, index = kept_work.find_segment(output, number)
    with video.VideoReader(path) as reader:
      reader.skip(index)
      return mean_ab(next(reader).rgb)

  assert kept_work.find_segment(output, 0) is None
  run_film(source, two, output, stop=17, options=lossless())
  assert abs(read(9)[0] - 20) < 1.5
  assert kept_work.find_segment(output, 22) is None  # Not colorized yet.
  run_film(source, two, output, options=lossless(), keep_work=True)
  assert abs(read(9)[0] - 20) < 1.5 and abs(read(22)[0] + 20) < 1.5
  assert kept_work.find_segment(output, COUNT) is None
