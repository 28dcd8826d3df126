"""Whole films: blocks, going on, bound references, options, what is kept."""

import collections
import contextlib
import errno
import itertools
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from painter import SIZE, Painter
from skimage import color as skcolor

from vitexco_jax.errors import UserError
from vitexco_jax.inference import film, plan, worker
from vitexco_jax.inference.plan import Choice, Plan, Shot
from vitexco_jax.media import mux, video
from vitexco_jax.media.borders import Borders

COUNT = 23


def _tint(a, size=SIZE):
  lab = np.broadcast_to(np.float32([60, a, 0]), (*size, 3))
  return np.uint8(np.round(skcolor.lab2rgb(lab) * 255))


def _ab(rgb):
  return skcolor.rgb2lab(rgb)[..., 1:].mean((0, 1))


def _grey(i):
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  shade = np.uint8(110 + 25 * np.sin((x + 2 * y) / 9 + i / 3))
  return np.repeat(shade[..., None], 3, -1)


@pytest.fixture(scope='module')
def still(tmp_path_factory):
  """Gives references of two tints: `still('red', frame=3)`."""
  folder = tmp_path_factory.mktemp('stills')
  for name, a in (('red', 20), ('green', -20)):
    video.write_image(folder / f'{name}.png', _tint(a))
  return lambda name, **bound: Choice(str(folder / f'{name}.png'), **bound)


LAST = 500  # Milliseconds that the last frame is shown.
STAMPS = [0, 40, 80, 130, 170, 300, 310, *range(340, 980, 40)]


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A video of 23 frames at a varying rate, with all that goes beside it."""
  path = tmp_path_factory.mktemp('source') / 'film.mkv'
  with av.open(str(path), 'w') as out:
    out.metadata['title'] = 'A film'
    picture = out.add_stream(
      'libx264',
      rate=25,
      width=SIZE[1],
      height=SIZE[0],
      pix_fmt='yuv420p',
      time_base=Fraction(1, 1000),
    )
    picture.codec_context.sample_aspect_ratio = Fraction(16, 15)
    picture.metadata['language'] = 'ger'
    sound = out.add_stream('aac', rate=8000, layout='mono')
    sound.metadata['language'] = 'fra'
    other = out.add_stream('pcm_s16le', rate=8000, layout='mono')
    words = out.add_mux_stream('subrip')
    words.metadata['title'] = 'Words'
    out.add_attachment('font.ttf', 'font/ttf', b'not much of a font')
    out.set_chapters(
      [
        {
          'id': i,
          'start': 400 * i,
          'end': 400 * (i + 1),
          'time_base': Fraction(1, 1000),
          'metadata': {'title': f'part {i}'},
        }
        for i in range(2)
      ]
    )
    packets = []
    for i, stamp in enumerate(STAMPS):
      frame = av.VideoFrame.from_ndarray(_grey(i), 'rgb24')
      frame.pts, frame.time_base = stamp, Fraction(1, 1000)
      packets += picture.encode(frame)
    packets += picture.encode(None)
    for packet in packets:
      if packet.pts == STAMPS[-1]:
        packet.duration = LAST
      out.mux(packet)
    rng = np.random.default_rng(0)
    for i in range(8):
      noise = rng.integers(-9000, 9000, (1, 1024)).astype(np.int16)
      for stream, kind in ((sound, 'fltp'), (other, 's16')):
        data = noise / np.float32(32768) if kind == 'fltp' else noise
        frame = av.AudioFrame.from_ndarray(data, kind, 'mono')
        frame.sample_rate, frame.pts = 8000, 1024 * i
        out.mux(stream.encode(frame))
    for stream in (sound, other):
      out.mux(stream.encode(None))
    for i in range(2):
      packet = av.Packet(f'line {i}'.encode())
      packet.pts = packet.dts = 300 * i
      packet.duration, packet.time_base = 250, Fraction(1, 1000)
      packet.stream = words
      out.mux(packet)
  return path


def _plan(source, *shots):
  return Plan(str(source), SIZE[1], SIZE[0], COUNT, Fraction(25), shots)


def _one_shot(source, *references):
  return _plan(source, Shot(0, COUNT, references))


@pytest.fixture
def red(source, still):
  return _one_shot(source, still('red'))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(film, '_BLOCK', 4)


def _run(source, made, output, stop=None, painter=None, **kwargs):
  """Colours, and stops where told; returns the steps and the film."""
  painters = painter if isinstance(painter, list) else [painter or Painter()]
  job = film.Film(painters, source, made, output, **kwargs)
  steps = []
  with contextlib.closing(job.run()) as run:
    for step in run:
      steps.append(step)
      if stop is not None and len(steps) == stop:
        break
  return steps, job


def _packets(path, kind):
  with av.open(str(path)) as container:
    stream = next(s for s in container.streams if s.type == kind)
    return [
      (packet.pts * packet.time_base, bytes(packet))
      for packet in container.demux(stream)
      if packet.size
    ]


def _lossless(**kwargs):
  return film.Options(video.Coding('ffv1'), **kwargs)


def _found(path):
  with video.VideoReader(path) as reader:
    return [frame.rgb for frame in reader]


def _contents(path):
  paths = sorted(path.iterdir()) if path.is_dir() else [path]
  return [(x.name, x.read_bytes()) for x in paths]


@pytest.mark.parametrize('suffix', ['.mkv', '.mp4', '.mov', '.m4v'])
def test_frames_times_and_all_the_rest_are_kept(tmp_path, source, red, suffix):
  output = tmp_path / f'out{suffix}'
  steps, _ = _run(source, red, output)
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
    assert np.abs(_ab(frame.rgb) - _ab(step.rgb)).max() < 1.5
  ours, theirs = _packets(output, 'audio'), _packets(source, 'audio')
  assert [data for _, data in ours] == [data for _, data in theirs]
  drift = [float(a[0] - b[0]) for a, b in zip(ours, theirs, strict=True)]
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
    assert [data for _, data in _packets(output, 'subtitle')] == [
      b'line 0',
      b'line 1',
    ]


def test_what_a_container_does_not_take(tmp_path, source, red):
  assert mux.left_out(source, tmp_path / 'out.mkv') == []
  assert mux.left_out(source, tmp_path / 'out.mp4') == [
    'subtitle (srt)',
    'attachment (unknown)',
  ]
  assert 'chapters' in mux.left_out(source, tmp_path / 'out.avi')
  path = tmp_path / 'opus.mkv'
  with av.open(str(path), 'w') as out, av.open(str(source)) as container:
    picture = out.add_stream_from_template(container.streams.video[0])
    sound = out.add_stream('libopus', rate=48000, layout='mono')
    for packet in container.demux(video=0):
      if packet.size:
        packet.stream = picture
        out.mux(packet)
    frame = av.AudioFrame.from_ndarray(
      np.zeros((1, 960), np.int16), 's16', 'mono'
    )
    frame.sample_rate, frame.pts = 48000, 0
    out.mux(sound.encode(frame))
    out.mux(sound.encode(None))
  with pytest.raises(UserError, match=r'out\.avi cannot hold the sound .*opus'):
    film.Film([Painter()], path, red, tmp_path / 'out.avi')
  assert not (tmp_path / 'out.avi.part').exists()


def test_a_folder_becomes_a_film_at_the_rate_of_its_plan(tmp_path, red):
  folder = tmp_path / 'in'
  folder.mkdir()
  for i in range(COUNT):
    video.write_image(folder / f'{i}.png', _grey(i))
  rate = Fraction(24_000, 1001)
  made = red._replace(frame_rate=rate)
  _run(folder, made, tmp_path / 'out.mp4')
  with video.VideoReader(tmp_path / 'out.mp4') as reader:
    assert reader.format.frame_rate == rate
    frames = list(reader)
    times = [frame.pts * reader.format.time_base for frame in frames]
    end = times[-1] + frames[-1].duration * reader.format.time_base
  assert times == [i / rate for i in range(COUNT)]
  assert end == COUNT / rate
  _run(folder, made, tmp_path / 'again.mp4', stop=9)
  with pytest.raises(
    UserError, match='--frame-rate 24000/1001, which now is 25'
  ):
    _run(folder, red, tmp_path / 'again.mp4')


def test_sound_is_left_out_on_demand_also_when_gone_on_with(
  tmp_path, source, red
):
  output = tmp_path / 'out.mp4'
  _run(source, red, output, stop=9)
  options = film.Options(audio='none')
  steps, _ = _run(source, red, output, options=options)
  assert steps[0].number > 0  # What was colored is still good.
  with av.open(str(output)) as container:
    assert not container.streams.audio


def test_an_avi_has_frames_in_their_turn(tmp_path, red):
  source = tmp_path / 'in.avi'
  with video.VideoWriter(source, video.Format(*SIZE)) as writer:
    for i in range(COUNT):
      writer.write(video.Frame(_grey(i)))
  _run(source, red, tmp_path / 'out.avi')
  assert len(_found(tmp_path / 'out.avi')) == COUNT
  with av.open(str(tmp_path / 'out.avi')) as container:
    stamps = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert stamps == list(range(COUNT))
  assert mux.delay(tmp_path / 'out.avi') == 0


def _boxed(rgb, box):
  """A frame with noisy dark borders, as it comes from a scan."""
  frame = np.random.default_rng(0).integers(0, 9, rgb.shape, np.uint8)
  box.crop(frame)[:] = box.crop(rgb)
  return frame


@pytest.mark.parametrize('references', ['bound', 'cropped', 'free'])
def test_borders_stay_as_they_are(tmp_path, references):
  box, inner_size = Borders(6, 4, 8, 12), (38, 44)
  source, output = tmp_path / 'in.mkv', tmp_path / 'out.mkv'
  frames = [_boxed(_grey(i), box) for i in range(COUNT)]
  form = video.Format(*SIZE)
  with video.VideoWriter(source, form, coding=video.Coding('ffv1')) as writer:
    for rgb in frames:
      writer.write(video.Frame(rgb))
  red = _tint(20, inner_size if references == 'cropped' else (384, 512))
  if references == 'bound':  # What is outside is not looked at.
    big = box.scaled(8)
    red = _boxed(red, big)
  picture = tmp_path / 'red.png'
  video.write_image(picture, red)
  bound = [Choice(str(picture))]
  if references != 'free':
    bound = [Choice(str(picture), frame=i) for i in (0, 12)]
  made = _plan(source, Shot(0, COUNT, tuple(bound), box))
  painter = Painter(size=(19, 22), frame_size=inner_size)
  options = _lossless(confidence=tmp_path / 'sure')
  for stop in (7 if references == 'free' else 20, None):
    _, job = _run(source, made, output, stop, painter=painter, options=options)
  assert painter.sizes <= {inner_size, (19, 22)}
  for frame, found in zip(frames, _found(output), strict=True):
    kept = np.array(found)
    box.crop(kept)[:] = box.crop(frame)
    np.testing.assert_array_equal(kept, frame)
    assert _ab(box.crop(found))[0] == pytest.approx(20, abs=1)
  sure = _found(tmp_path / 'sure')[0]
  assert box.crop(sure).min() > 0 and sure.sum() == box.crop(sure).sum()


@pytest.fixture
def recording(tmp_path):
  """An interlaced video, bottom field first."""
  path = tmp_path / 'tape.mkv'
  form = video.Format(*SIZE, field_order='bb')
  with video.VideoWriter(path, form, coding=video.Coding('ffv1')) as writer:
    for i in range(COUNT):
      rgb = _grey(0)
      rgb[::2] += np.uint8(40 * (i % 2))
      writer.write(video.Frame(rgb))
  return path


def test_interlaced_video_stays_so(tmp_path, recording, red):
  options = film.Options(
    compare=tmp_path / 'both.mp4', confidence=tmp_path / 'sure.mp4'
  )
  _run(recording, red, tmp_path / 'out.mp4', options=options)
  for name, order in ('out.mp4', 'bb'), ('both.mp4', 'bb'), ('sure.mp4', ''):
    with video.VideoReader(tmp_path / name) as reader:
      assert reader.format.field_order == order
      assert len(list(reader)) == COUNT


def test_interlaced_video_becomes_progressive(tmp_path, recording, red):
  output = tmp_path / 'out.mkv'
  options = _lossless(deinterlace=True)
  for stop in 6, None:  # What is resumed is deinterlaced as well.
    _run(recording, red, output, stop, options=options)
  frames = _found(output)
  assert len(frames) == COUNT
  for rgb in frames:
    gray = np.float32(rgb[..., 1])
    assert np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean() < 5
  with video.VideoReader(output) as reader:
    assert reader.format.field_order == ''


def test_other_borders_are_another_result(tmp_path, source, still):
  shot = Shot(0, COUNT, (still('red'),))
  output = tmp_path / 'out.mkv'
  _run(source, _plan(source, shot), output, stop=6)
  other = _plan(source, shot._replace(borders=Borders(4, 4)))
  with pytest.raises(UserError, match=r'was begun with shot 1 .*within'):
    _run(source, other, output)


@pytest.mark.parametrize('name', ['out.mp4', 'out.mkv', 'frames'])
def test_a_stopped_film_goes_on_to_the_same_result(tmp_path, source, red, name):
  _run(source, red, tmp_path / 'whole' / name)
  again = tmp_path / 'again' / name
  seen = []
  for stop in (1, 6, 9, 100):
    steps, _ = _run(source, red, again, stop)
    seen.append([step.number for step in steps])
    assert again.exists() == (stop == 100)
  # The blocks begin with frames 0, 4, 8 and so on; one that is not whole is lost.
  assert [numbers[0] for numbers in seen] == [0, 0, 4, 12]
  assert seen[-1] == list(range(12, COUNT))
  assert steps[0].done == 13
  assert _contents(again) == _contents(tmp_path / 'whole' / name)
  assert [x.name for x in again.parent.iterdir()] == [name]


def test_a_film_that_is_whole_but_not_put_together(tmp_path, source, red):
  output = tmp_path / 'out.mp4'
  with pytest.MonkeyPatch.context() as monkeypatch:

    def fail(*args):
      raise UserError('the disk is full')

    monkeypatch.setattr(mux, 'join', fail)
    with pytest.raises(UserError, match='disk is full'):
      _run(source, red, output)
  steps, job = _run(source, red, output)
  assert not steps and len(_found(output)) == COUNT
  assert (job.confidences > 0.7).all()


def test_outputs_take_their_places_together(tmp_path, source, red):
  output = tmp_path / 'out.mkv'
  options = film.Options(compare=tmp_path / 'new' / 'compare.mp4')
  join = mux.join

  def fail(segments, form, source, target, sound):
    join(segments, form, source, target, sound)
    if target.suffix == '.mp4':
      raise UserError('the disk is full')

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(mux, 'join', fail)
    with pytest.raises(UserError, match='disk is full'):
      _run(source, red, output, options=options)
  # Nothing that the same command would take for another's output.
  left = sorted(x.name for x in tmp_path.rglob('*') if x.suffix != '.json')
  assert [x for x in left if 'out' in x or 'compare' in x] == [
    'compare',
    'out.mkv.part',
    'output',
  ]
  _run(source, red, output, options=options)
  assert len(_found(output)) == len(_found(options.compare)) == COUNT
  assert sorted(x.name for x in tmp_path.iterdir()) == ['new', 'out.mkv']


@pytest.mark.parametrize('moved', [0, 1, 2, 3])
def test_a_kill_while_outputs_move_loses_nothing(
  tmp_path, source, red, monkeypatch, moved
):
  names = 'out.mkv', 'both', 'sure.mp4'
  expected, outputs = (
    [tmp_path / folder / name for name in names] for folder in ('one', 'two')
  )
  options = film.Options(compare=expected[1], confidence=expected[2])
  _run(source, red, expected[0], options=options)
  options = film.Options(compare=outputs[1], confidence=outputs[2])
  move = video.move

  def stop(*_):
    raise KeyboardInterrupt

  def kill(partial, target):
    return stop() if target in outputs[moved:] else move(partial, target)

  with monkeypatch.context() as patch:
    patch.setattr(video, 'move', kill)
    patch.setattr(film.shutil, 'rmtree', stop)
    with pytest.raises(KeyboardInterrupt):
      _run(source, red, outputs[0], options=options)
  assert [path.exists() for path in outputs] == [i < moved for i in range(3)]
  with pytest.raises(
    UserError, match=r'\.out\.mkv\.whole was begun with --sat'
  ):
    other = options._replace(saturation=0.5)
    _run(source, red, outputs[0], options=other)
  steps, _ = _run(source, red, outputs[0], options=options)
  assert not steps
  assert list(map(_contents, outputs)) == list(map(_contents, expected))
  assert sorted(x.name for x in (tmp_path / 'two').iterdir()) == sorted(names)


def test_an_output_that_is_gone_is_put_together_again(
  tmp_path, source, red, monkeypatch, capsys
):
  def stop(*_):
    raise KeyboardInterrupt

  output = tmp_path / 'out.mkv'
  with monkeypatch.context() as patch:
    patch.setattr(film.shutil, 'rmtree', stop)
    with pytest.raises(KeyboardInterrupt):
      _run(source, red, output)
  output.unlink()
  steps, _ = _run(source, red, output)
  assert not steps and len(_found(output)) == COUNT
  assert 'out.mkv is gone: the outputs are put' in capsys.readouterr().err
  assert [x.name for x in tmp_path.iterdir()] == ['out.mkv']


def test_outputs_on_other_file_systems(tmp_path, source, red, monkeypatch):
  def no_link(*_):
    raise OSError(errno.EXDEV, 'Invalid cross-device link')

  rename = os.rename

  def near(source, target):
    if Path(source).parent != Path(target).parent:
      no_link()
    rename(source, target)

  options = film.Options(
    compare=tmp_path / 'a' / 'both', confidence=tmp_path / 'b' / 'sure.mkv'
  )
  for name in ('link', 'rename', 'replace'):
    monkeypatch.setattr(os, name, no_link if name == 'link' else near)
  _run(source, red, tmp_path / 'out', options=options)
  monkeypatch.undo()
  for path in options.outputs(tmp_path / 'out'):
    assert len(_found(path)) == COUNT
  assert sorted(x.name for x in tmp_path.iterdir()) == ['a', 'b', 'out']


def test_a_full_disk_is_told_and_the_film_goes_on(tmp_path, source, red):
  resource = pytest.importorskip('resource')
  output = tmp_path / 'out.mkv'
  _run(source, red, output, stop=9)
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
  try:
    with pytest.raises(UserError, match='cannot write .*File too large'):
      _run(source, red, output)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  steps, _ = _run(source, red, output)
  assert steps[0].number == 8 and len(_found(output)) == COUNT


@pytest.mark.parametrize(
  'change, sentence',
  [
    ({'options': film.Options(saturation=1.5)}, '--saturation 1.0, which now'),
    ({'options': _lossless()}, '--codec h264, which now is ffv1'),
    ({'painter': Painter(size=(24, 40))}, r'--config.use.size \(24, 32\)'),
    ({'made': 'green'}, r'shot 1 0-22: red.png \w+, which now is .*green.png'),
  ],
)
def test_other_settings_are_refused_with_the_difference(
  tmp_path, source, red, still, change, sentence
):
  output = tmp_path / 'out.mkv'
  _run(source, red, output, stop=9)
  if 'made' in change:
    change = {'made': _one_shot(source, still('green'))}
  with pytest.raises(UserError, match=sentence) as caught:
    _run(**{'source': source, 'made': red, 'output': output} | change)
  assert 'out.mkv.part was begun with' in str(caught.value)
  assert _run(source, red, output)[0][0].number == 8  # Nothing is lost.


def test_two_runs_at_once_are_refused(tmp_path, source, red):
  output = tmp_path / 'out.mkv'
  with contextlib.closing(
    film.Film([Painter()], source, red, output).run()
  ) as run:
    next(run)
    with pytest.raises(UserError, match='at work in another run'):
      _run(source, red, output)
    assert len(list(run)) == COUNT - 1
  assert len(_found(output)) == COUNT


def test_what_is_there_is_kept_unless_it_may_go(tmp_path, source, red):
  output = tmp_path / 'out.mkv'
  output.write_text('years of work')
  with pytest.raises(UserError, match='--overwrite'):
    _run(source, red, output)
  _run(source, red, output, stop=9, overwrite=True)
  assert output.read_text() == 'years of work'
  _run(source, red, output, overwrite=True)
  assert len(_found(output)) == COUNT


def test_a_plan_of_another_video_is_refused(tmp_path, source, red):
  with pytest.raises(UserError, match='plan is of a video of 64x96 pixels'):
    _run(source, red._replace(width=64, height=96), tmp_path / 'out.mkv')
  longer = red._replace(frames=30, shots=(red.shots[0]._replace(stop=30),))
  with pytest.raises(UserError, match='ends at frame 23, but its plan has 30'):
    _run(source, longer, tmp_path / 'out.mkv')


def test_an_image_does_not_take_a_film(tmp_path, source, red):
  options = film.Options(compare=tmp_path / 'compare.png')
  with pytest.raises(UserError, match=r'compare.png is one image .* 23 frames'):
    film.Film([Painter()], source, red, tmp_path / 'out.mkv', options=options)


# Shots and stretches.


def test_shots_start_afresh_with_their_own_references(tmp_path, source, still):
  red, green = still('red'), still('green')
  made = _plan(
    source,
    Shot(0, 7, (red,)),
    Shot(7, 12, (green,)),
    Shot(12, 23, (red, green)),
  )
  painter = Painter()
  steps, _ = _run(
    source, made, tmp_path / 'out.mkv', painter=painter, options=_lossless()
  )
  assert painter.references == [(1, False), (1, False), (2, False)]
  expected = [(20, 5 + i) for i in range(7)]
  expected += [(-20, 5 + i) for i in range(5)]
  expected += [(0, 5 + i) for i in range(11)]
  found = [_ab(rgb) for rgb in _found(tmp_path / 'out.mkv')]
  np.testing.assert_allclose(found, expected, atol=1.0)


def test_colours_spread_both_ways_from_a_bound_reference(
  tmp_path, source, still
):
  made = _one_shot(source, still('red', frame=9))
  output = tmp_path / 'out.mkv'
  painter = Painter()
  steps, _ = _run(source, made, output, painter=painter, options=_lossless())
  assert painter.references == [(1, True), (1, True)]
  assert len(steps) == film.count_steps(made) == COUNT + 10
  backwards = [step.number for step in steps if step.rgb is None]
  assert backwards == list(range(9, -1, -1))
  found = np.array([_ab(rgb) for rgb in _found(output)])
  away = [abs(i - 9) for i in range(COUNT)]  # As many steps from its frame.
  np.testing.assert_allclose(found[:, 0], 20, atol=1.0)
  np.testing.assert_allclose(found[:, 1], away, atol=1.0)


@pytest.mark.parametrize('sure', [0.8, 0.6, 0.9])
def test_between_two_references_their_colours_are_mixed(
  tmp_path, source, still, sure
):
  made = _one_shot(source, still('green', frame=2), still('red', frame=18))
  output = tmp_path / 'out.mkv'
  painter = Painter({-20: sure, 20: 0.8})
  _run(source, made, output, painter=painter, options=_lossless())
  found = np.array([_ab(rgb)[0] for rgb in _found(output)])
  np.testing.assert_allclose(found[:3], -20, atol=1.0)
  np.testing.assert_allclose(found[18:], 20, atol=1.0)
  share = (np.arange(2, 18) - 2) / 16
  weights = share, (1 - share) * np.exp((sure - 0.8) / 0.1)
  expected = 20 * (weights[0] - weights[1]) / (weights[0] + weights[1])
  np.testing.assert_allclose(found[2:18], expected, atol=1.5)


def test_stretches_go_on_to_the_same_result(tmp_path, source, still):
  bound = still('green', frame=5), still('red', frame=18)
  made = _one_shot(source, *bound, still('red'))
  _run(source, made, tmp_path / 'whole.mkv')
  again = tmp_path / 'again.mkv'
  counts = [len(_run(source, made, again, stop)[0]) for stop in (3, 8, 25, 500)]
  assert counts[:3] == [3, 8, 25]
  assert again.read_bytes() == (tmp_path / 'whole.mkv').read_bytes()


def test_what_stretches_share_is_read_once(
  tmp_path, source, still, monkeypatch
):
  first = Choice(plan.FIRST_FRAME)
  bound = [still('red', frame=frame) for frame in (3, 6, 9)]
  made = _plan(
    source,
    Shot(0, 12, (*bound, still('green'))),
    Shot(12, 17, (first,)),
    Shot(17, COUNT, (first,)),
  )
  reads, opened = collections.Counter(), itertools.count()
  read_image, init = video.read_image, video.VideoReader.__init__

  def counted(path, *args):
    reads[Path(path).name] += 1
    return read_image(path, *args)

  def noted(self, path, *args, **kwargs):
    next(opened)
    init(self, path, *args, **kwargs)

  monkeypatch.setattr(video, 'read_image', counted)
  monkeypatch.setattr(video.VideoReader, '__init__', noted)
  _run(source, made, tmp_path / 'out.mkv', options=_lossless())
  assert reads == {'red.png': 3, 'green.png': 1}
  # To look at it, for frames forwards and back, for the first frame.
  assert next(opened) == 4


def test_what_only_came_backwards_is_kept_too(tmp_path, source, still):
  made = _one_shot(source, still('green', frame=5))
  output = tmp_path / 'out.mkv'
  # Frames 5 to 0 backwards, 0 to 4 forwards, then the first of what follows.
  _run(source, made, output, stop=12)
  steps, _ = _run(source, made, output)
  assert [step.number for step in steps] == list(range(5, COUNT))


def test_a_bound_reference_of_another_shape_is_refused(tmp_path, source, still):
  video.write_image(tmp_path / 'tall.png', _tint(20, (64, 48)))
  made = _one_shot(source, Choice(str(tmp_path / 'tall.png'), frame=0))
  with pytest.raises(
    UserError, match=r'tall.png is bound to frame 0 but .*48x64'
  ):
    _run(source, made, tmp_path / 'out.mkv')
  assert not list(tmp_path.glob('out*'))


# Options.


def test_saturation_multiplies_colours(tmp_path, source, red):
  means = []
  for saturation in (0, 1, 1.5):
    output = tmp_path / f'{saturation}.mkv'
    _run(source, red, output, options=_lossless(saturation=saturation))
    means.append(np.mean([_ab(rgb)[0] for rgb in _found(output)]))
  np.testing.assert_allclose(means, [0, 20, 30], atol=1.0)


def test_smoothing_holds_colours_to_edges(tmp_path):
  grey = np.zeros((48, 64, 3), np.uint8)
  grey[:, :31], grey[:, 31:] = 80, 160
  ab = np.zeros((12, 16, 2), np.float32)
  ab[:, :8, 0], ab[:, 8:, 0] = 30, -30  # The edge is a pixel off, and coarse.
  coarse = cv2.resize(ab, (64, 48), interpolation=cv2.INTER_CUBIC)
  smooth = worker._smoothed(grey, ab, 500.0)
  truth = np.where(np.arange(64) < 31, 30, -30)
  errors = [np.abs(x[24, :, 0] - truth).mean() for x in (coarse, smooth)]
  assert errors[1] < 0.75 * errors[0]


def test_pictures_of_more_than_8_bits_stay_so(tmp_path, still):
  source = tmp_path / 'in'
  rng = np.random.default_rng(0)
  ramp = np.linspace(20_000, 30_000, SIZE[0] * SIZE[1]).reshape(SIZE)
  frames = [np.uint16(ramp + rng.integers(0, 99))[..., None] for _ in range(3)]
  with video.VideoWriter(
    source, video.Format(*SIZE), coding=video.Coding(bits=16)
  ) as writer:
    for grey in frames:
      writer.write(video.Frame(np.repeat(grey, 3, -1)))
  made = _plan(source, Shot(0, 3, (still('red'),)))._replace(frames=3)
  options = film.Options(video.Coding(bits=16))
  _run(source, made, tmp_path / 'out', options=options)
  with video.VideoReader(tmp_path / 'out', deep=True) as reader:
    found = [frame.rgb for frame in reader]
  for grey, rgb in zip(frames, found, strict=True):
    lightness = [
      skcolor.rgb2lab(x / 65535)[..., 0] for x in (np.repeat(grey, 3, -1), rgb)
    ]
    assert np.abs(lightness[0] - lightness[1]).max() < 0.02  # 8 bits: 0.2.
    assert np.abs(_ab(rgb / 65535)[0] - 20) < 0.5


def test_side_by_side_and_confidence(tmp_path, source, red):
  names = 'out.mkv', 'compare.mp4', 'sure.mp4'
  output, compare, sure = (tmp_path / name for name in names)
  options = _lossless(compare=compare, confidence=sure)
  _run(source, red, output, stop=9, options=options)
  _run(source, red, output, options=options)
  assert sorted(x.name for x in tmp_path.iterdir()) == sorted(names)
  for i, (a, b, c) in enumerate(
    zip(_found(output), _found(compare), _found(sure), strict=True)
  ):
    assert b.shape == (48, 128, 3)
    assert np.abs(b[:, :64].astype(int) - _grey(i)).mean() < 3
    assert np.abs(_ab(b[:, 64:]) - _ab(a)).max() < 1.5
    assert abs(c.mean() - 0.8 * 255) < 2


def test_places_that_want_a_reference_are_told(tmp_path, source, still):
  red, green = still('red'), still('green')
  made = _plan(source, Shot(0, 10, (red,)), Shot(10, 23, (green,)))
  painter = Painter({-20: 0.3, 20: 0.9})
  _, job = _run(source, made, tmp_path / 'out.mkv', painter=painter)
  assert list(job.unsure()) == [(10, 23)]
  (doubt,) = job.doubts()
  times = [f'0:00:0{STAMPS[i] / 1000:.1f}' for i in (10, 22)]
  assert f'from {times[0]} to {times[1]} (frames 10 to 22)' in doubt


@pytest.mark.parametrize(
  'options, sentence',
  [
    (film.Options(saturation=-1), '--saturation=-1 must be 0 or more'),
    (film.Options(smoothing=float('nan')), '--smoothing=nan must be 0'),
    (film.Options(compare=Path('out.mkv')), 'out.mkv is named for two'),
    (film.Options(compare=Path('x/../out.mkv')), 'named for two outputs'),
    (
      film.Options(compare=Path('both'), confidence=Path('both/sure.mkv')),
      'the output both/sure.mkv is inside the output both: name others',
    ),
    (film.Options(confidence=Path('a.xyz')), r'a\.xyz cannot be written'),
  ],
)
def test_unfit_options_are_refused(source, red, options, sentence):
  with pytest.raises(UserError, match=sentence):
    film.Film([Painter()], source, red, Path('out.mkv'), options=options)


def test_first_frame_is_the_videos_own(tmp_path, source):
  surveyed = plan.survey(source)
  made = plan.same_for_all(surveyed, [plan.FIRST_FRAME])
  painter = Painter()
  steps, _ = _run(source, made, tmp_path / 'out.mkv', painter=painter)
  assert painter.references == [(1, True)]
  assert np.abs(_ab(steps[0].rgb)).max() < 1.0  # Which is grey.


def test_shots_are_spread_over_devices(tmp_path, source, still):
  red, green = still('red'), still('green')
  edges = [0, 5, 9, 15, 19, COUNT]
  made = _plan(
    source,
    *(
      Shot(a, b, ((red, green)[i % 2],))
      for i, (a, b) in enumerate(itertools.pairwise(edges))
    ),
  )
  _run(source, made, tmp_path / 'one.mkv')
  painters = [Painter(), Painter()]
  _run(source, made, tmp_path / 'two.mkv', stop=9, painter=painters)
  steps, job = _run(source, made, tmp_path / 'two.mkv', painter=painters)
  assert all(painter.references for painter in painters)
  assert steps[-1].done == COUNT and not np.isnan(job.confidences).any()
  assert (tmp_path / 'two.mkv').read_bytes() == (
    tmp_path / 'one.mkv'
  ).read_bytes()


@pytest.mark.parametrize('error', [UserError, IndexError])
def test_a_device_that_fails_ends_the_others(tmp_path, source, still, error):
  red = still('red')
  made = _plan(source, *(Shot(i, i + 1, (red,)) for i in range(COUNT)))

  class Failing(Painter):
    def set_reference(self, *rgb, first_frame=False):
      raise error('out of memory')

  with pytest.raises(error, match='out of memory'):
    _run(source, made, tmp_path / 'out.mkv', painter=[Painter(), Failing()])
  steps, _ = _run(source, made, tmp_path / 'out.mkv')
  assert len(_found(tmp_path / 'out.mkv')) == COUNT
