"""The command: videos, folders, and images, in and out."""

import itertools
from fractions import Fraction

import av
import jax
import numpy as np
import pytest
from pictures import SIZE, assert_same, make_frames, make_picture

from vitexco_jax.errors import UserError
from vitexco_jax.inference import (
  colorize,
  film,
  outputs,
  plan,
  schedule,
)
from vitexco_jax.media import video

pytestmark = pytest.mark.usefixtures('blocks_of_three')


def _write(path, frames, stamps=None):
  """A video in RGB without loss, at these time stamps (1/1000 s)."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('ffv1', rate=25)
    stream.width, stream.height = frames[0].shape[1::-1]
    stream.pix_fmt = 'bgr0'
    stream.time_base = Fraction(1, 1000)
    for i, rgb in enumerate(frames):
      picture = av.VideoFrame.from_ndarray(rgb, 'rgb24')
      picture.pts = 40 * i if stamps is None else stamps[i]
      picture.time_base = Fraction(1, 1000)
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return path


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  path = tmp_path_factory.mktemp('reference') / 'reference.png'
  video.write_image(path, make_picture())
  return str(path)


def test_video_to_video_keeps_time_stamps(
  tmp_path, colorizer, reference, colored, caplog
):
  stamps = [0, 40, 120, 160, 280, 320, 400]
  path = _write(tmp_path / 'in.mkv', make_frames(7), stamps)
  colorize.colorize(colorizer, path, [reference], tmp_path / 'out.mkv')
  with video.VideoReader(tmp_path / 'out.mkv') as reader:
    actual = list(reader)
  ticks = [frame.pts * reader.format.time_base for frame in actual]
  assert ticks == [Fraction(x, 1000) for x in stamps]
  for frame, expected in zip(actual, colored, strict=True):
    error = np.abs(np.float32(frame.rgb) - np.float32(expected)).mean()
    assert error < 8  # H.264 with chroma at half size.
  assert 'WARNING' not in caplog.text


def test_a_video_is_colorized_without_a_reference(tmp_path, colorizer, caplog):
  path = _write(tmp_path / 'in.mkv', make_frames(14))
  colorize.colorize(colorizer, path, ['none'], tmp_path / 'out')
  assert 'WARNING' not in caplog.text  # Nothing to match.
  colorizer.set_reference()
  expected = list(colorizer.colorize(make_frames(14)))
  paths = sorted((tmp_path / 'out').iterdir())
  assert_same([video.read_image(path) for path in paths], expected)


def test_folder_to_folder_keeps_names(tmp_path, colorizer, reference, colored):
  (tmp_path / 'in').mkdir()
  for i, rgb in enumerate(make_frames(4)):
    video.write_image(tmp_path / f'in/shot{i}.png', rgb)
  colorize.colorize(colorizer, tmp_path / 'in', [reference], tmp_path / 'out')
  names = [f'shot{i}.png' for i in range(4)]
  assert sorted(x.name for x in (tmp_path / 'out').iterdir()) == names
  actual = [video.read_image(tmp_path / 'out' / name) for name in names]
  assert_same(actual, colored[:4])


def test_single_image(tmp_path, colorizer, reference, colored):
  video.write_image(tmp_path / 'in.png', make_frames(1)[0])
  args = (colorizer, tmp_path / 'in.png', [reference], tmp_path / 'out.png')
  colorize.colorize(*args)
  assert_same([video.read_image(tmp_path / 'out.png')], colored[:1])
  before = (tmp_path / 'out.png').read_bytes()
  with pytest.raises(UserError, match=r'out\.png exists: set `overwrite`'):
    colorize.colorize(*args)
  assert (tmp_path / 'out.png').read_bytes() == before
  colorize.colorize(*args, overwrite=True)


def test_first_frame_of_a_video_is_its_reference(tmp_path, colorizer):
  frames = make_frames(2)
  path = _write(tmp_path / 'in.mkv', frames)
  colorize.colorize(colorizer, path, ['first-frame'], tmp_path / 'out')
  colorizer.set_reference(frames[0], first_frame=True)
  expected = list(colorizer.colorize(frames))
  actual = [video.read_image(x) for x in sorted((tmp_path / 'out').iterdir())]
  assert_same(actual, expected)


def test_the_first_frame_leads_other_references(tmp_path, colorizer, reference):
  frames = make_frames(2)
  path = _write(tmp_path / 'in.mkv', frames)
  colorize.colorize(
    colorizer, path, [reference, 'first-frame'], tmp_path / 'out'
  )
  other = video.read_image(reference)
  colorizer.set_reference(frames[0], other, first_frame=True)
  expected = list(colorizer.colorize(frames))
  actual = [video.read_image(x) for x in sorted((tmp_path / 'out').iterdir())]
  assert_same(actual, expected)
  colorizer.set_reference(frames[0], first_frame=True)
  alone = list(colorizer.colorize(frames))
  assert np.abs(np.float32(alone) - np.float32(expected)).mean() > 0.5


def test_a_gray_reference_causes_an_error_or_a_warning(
  tmp_path, colorizer, reference, caplog
):
  gray = tmp_path / 'gray.png'
  video.write_image(gray, np.repeat(make_picture()[..., :1], 3, -1))
  output = tmp_path / 'out.png'
  with pytest.raises(UserError, match=r'gray\.png has no color'):
    colorize.colorize(colorizer, gray, [str(gray)], output)
  with pytest.raises(UserError, match='first frame of .* has no color'):
    colorize.colorize(colorizer, gray, ['first-frame'], output)
  assert [*tmp_path.iterdir()] == [gray]
  colorize.colorize(colorizer, gray, [str(gray), reference], output)
  assert 'gray.png has no color' in caplog.text
  assert output.exists()


def test_a_broken_stream_is_colored_up_to_its_damage(
  tmp_path, colorizer, reference, caplog
):
  rng = np.random.default_rng(0)  # Noise, as all of the file shall be frames.
  frames = [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(12)]
  path = _write(tmp_path / 'in.mkv', frames)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 2 // 3])
  colorize.colorize(colorizer, path, [reference], tmp_path / 'out')
  result = len(list((tmp_path / 'out').iterdir()))
  assert 6 <= result <= 8
  message = caplog.text
  assert 'in.mkv is broken' in message
  assert f'{12 - result} frames could not be read' in message


def test_a_failed_run_leaves_no_files(tmp_path, colorizer, reference):
  (tmp_path / 'in').mkdir()
  for i, rgb in enumerate(make_frames(3)):
    video.write_image(tmp_path / f'in/{i}.png', rgb)
  (tmp_path / 'in/2.png').write_bytes(b'no picture')
  with pytest.raises(UserError, match=r'2\.png is not an image'):
    colorize.colorize(colorizer, tmp_path / 'in', [reference], tmp_path / 'out')
  with pytest.raises(UserError, match=r'none\.png'):
    missing = str(tmp_path / 'none.png')
    colorize.colorize(
      colorizer, tmp_path / 'in', [reference, missing], tmp_path / 'out'
    )
  assert [x.name for x in tmp_path.iterdir()] == ['in']


def test_a_stopped_film_resumes_to_the_same_file(
  tmp_path, colorizer, reference, monkeypatch
):
  monkeypatch.setattr(schedule, 'BLOCK', 3)
  path = _write(tmp_path / 'in.mkv', make_frames(7))
  film_plan = plan.same_for_all(plan.survey(path), [reference])
  list(film.Film([colorizer], path, film_plan, tmp_path / 'whole.mp4').run())
  again = tmp_path / 'again.mp4'
  for stop in (2, 5, 8):
    run = film.Film([colorizer], path, film_plan, again).run()
    seen = list(itertools.islice(run, stop))
    run.close()
  assert [step.number for step in seen] == [3, 4, 5, 6]
  assert again.read_bytes() == (tmp_path / 'whole.mp4').read_bytes()


def test_a_damaged_block_is_colored_again_from_the_state_before(
  tmp_path, colorizer, reference, monkeypatch
):
  monkeypatch.setattr(schedule, 'BLOCK', 3)
  path = _write(tmp_path / 'in.mkv', make_frames(7))
  film_plan = plan.same_for_all(plan.survey(path), [reference])
  list(film.Film([colorizer], path, film_plan, tmp_path / 'whole.mp4').run())
  again = tmp_path / 'again.mp4'
  run = film.Film([colorizer], path, film_plan, again).run()
  list(itertools.islice(run, 7))  # The last block is not written.
  run.close()
  with open(outputs.part_folder(again) / 'output/0000003.mkv', 'r+b') as file:
    file.truncate(99)
  steps = film.Film([colorizer], path, film_plan, again).run()
  assert [step.number for step in steps] == [3, 4, 5, 6]
  assert again.read_bytes() == (tmp_path / 'whole.mp4').read_bytes()


def test_a_plan_that_ends_before_the_video_is_reported(
  tmp_path, colorizer, reference, caplog
):
  path = _write(tmp_path / 'in.mkv', make_frames(7))
  surveyed = plan.survey(path)
  shot = plan.Shot(0, 4, (plan.Choice(reference),))
  short = surveyed.plan._replace(shots=(shot,), frames=4)
  plan.write(tmp_path / 'plan.json', short)
  colorize.colorize(
    colorizer,
    path,
    (),
    tmp_path / 'out.mkv',
    plan_path=tmp_path / 'plan.json',
  )
  with video.VideoReader(tmp_path / 'out.mkv') as reader:
    assert len(list(reader)) == 4
  assert 'plan.json ends after 4 frames, but' in caplog.text


def test_two_devices_give_the_frames_of_one(tmp_path, colorizer, reference):
  path = _write(tmp_path / 'in.mkv', make_frames(6))
  surveyed = plan.survey(path)
  # Between the stills, each device propagates colors in one direction.
  stills = plan.Choice(reference, frame=0), plan.Choice(reference, frame=5)
  shots = (plan.Shot(0, 6, stills),)
  film_plan = surveyed.plan._replace(shots=shots)
  actual = []
  for count in (1, 2):
    colorizers = [colorizer.on(device) for device in jax.devices()[:count]]
    assert len(colorizers) == count
    output = tmp_path / f'out{count}'
    list(film.Film(colorizers, path, film_plan, output).run())
    actual.append([video.read_image(x) for x in sorted(output.iterdir())])
  np.testing.assert_array_equal(*actual)
