"""Colouring: blocks, sizes, what is kept of a frame, and bad input."""

import itertools
import json
from fractions import Fraction

import av
import cv2
import jax
import numpy as np
import pytest
from skimage import color as skcolor

from configs.vitexco import get_config
from vitexco_jax import checkpoint
from vitexco_jax.errors import UserError
from vitexco_jax.inference import colorize, film, plan
from vitexco_jax.media import video

pytestmark = pytest.mark.usefixtures('quick_compiler')

SIZE = (48, 64)  # Of most frames here, as few sizes compile sooner.


@pytest.fixture(scope='module')
def colorizer(tiny_weights):
  return colorize.VideoColorizer.from_checkpoint(tiny_weights)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(colorize, '_BLOCK', 3)


def _picture(size=SIZE, seed=0):
  rng = np.random.default_rng(seed)
  small = rng.integers(60, 200, (4, 5, 3), np.uint8)
  return cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)


def _frames(n, size=SIZE):
  return [_picture(size, seed) for seed in range(1, n + 1)]


def _chroma(rgb):
  return np.abs(skcolor.rgb2lab(rgb)[..., 1:]).mean()


@pytest.fixture(scope='module')
def coloured(colorizer):
  """Seven frames, coloured in one go."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(colorize, '_BLOCK', 3)
    colorizer.set_reference(_picture())
    return list(colorizer.colorize(_frames(7)))


def _assert_same(found, expected):
  assert len(found) == len(expected)
  error = np.abs(np.int16(found) - np.int16(expected))
  assert error.max() <= 1  # Rounding of programs for 1 and for 3 frames.


def test_frame_by_frame_equals_the_whole(colorizer, coloured):
  colorizer.set_reference(_picture())
  found = [next(colorizer.colorize([rgb])) for rgb in _frames(7)]
  _assert_same(found, coloured)


def test_a_reference_that_comes_again_is_not_encoded_again(
  colorizer, monkeypatch
):
  encode, seen = colorizer._encode, []

  def counted(size, picture):
    seen.append(picture)
    return encode(size, picture)

  monkeypatch.setattr(colorizer, '_encode', counted)
  one, two, three = (_picture(seed=seed) for seed in (91, 92, 93))
  frame = _frames(1)
  made = []
  for pictures in ([one], [one, two], [two.copy()], [three], [two]):
    colorizer.set_reference(*pictures)
    made.append(next(colorizer.colorize(frame)))
  assert len(seen) == 4
  np.testing.assert_array_equal(made[2], made[4])
  assert (made[0] != made[2]).any()


@pytest.mark.parametrize('cut', [1, 3, 5])
def test_a_clip_cut_in_two_equals_the_whole(colorizer, coloured, cut):
  frames = _frames(7)
  colorizer.set_reference(_picture())
  found = [*colorizer.colorize(frames[:cut]), *colorizer.colorize(frames[cut:])]
  _assert_same(found, coloured)


def test_frames_before_matter_and_a_reference_starts_afresh(
  colorizer, coloured
):
  colorizer.set_reference(_picture())
  (alone,) = colorizer.colorize(_frames(7)[3:4])
  assert np.abs(np.int16(alone) - np.int16(coloured[3])).max() > 1
  colorizer.set_reference(_picture())
  (again,) = colorizer.colorize(_frames(1))
  _assert_same([again], coloured[:1])


def test_reference_matters(colorizer, coloured):
  colorizer.set_reference(_picture(seed=50))
  (found,) = colorizer.colorize(_frames(1))
  assert np.abs(np.int16(found) - np.int16(coloured[0])).max() > 1


@pytest.mark.parametrize(
  'size, reference_size',
  [
    (SIZE, (70, 33)),  # Another size and aspect.
    ((151, 101), SIZE),  # Portrait, odd, above the working size.
    ((32, 32), SIZE),  # The least.
    ((33, 160), SIZE),  # Wide.
  ],
)
def test_size_and_lightness_are_kept(colorizer, size, reference_size):
  colorizer.set_reference(_picture(reference_size))
  grey = cv2.cvtColor(_picture(size, 1), cv2.COLOR_RGB2GRAY)
  grey = np.repeat(grey[..., None], 3, -1)
  (found,) = colorizer.colorize([grey])
  assert found.shape == grey.shape and found.dtype == np.uint8
  assert _chroma(found) > 1
  inside = ((found > 0) & (found < 255)).all(-1)  # Of the gamut.
  assert inside.mean() > 0.8
  lightness = [skcolor.rgb2lab(rgb)[..., 0] for rgb in (grey, found)]
  # Half a level of each channel; in the dark that is most of L.
  assert np.abs(lightness[0] - lightness[1])[inside].max() < 0.6


def test_colours_of_the_input_are_not_looked_at(colorizer):
  colorizer.set_reference(_picture())
  lab = skcolor.rgb2lab(_picture(seed=1))
  tinted = np.uint8(np.round(skcolor.lab2rgb(lab * [1, 0.3, 0.3]) * 255))
  (found,) = colorizer.colorize([tinted])
  colorizer.set_reference(_picture())
  (expected,) = colorizer.colorize([_picture(seed=1)])
  error = np.abs(np.float32(found) - np.float32(expected))
  assert error.mean() < 2  # The L of the two differs by rounding.


def test_without_a_reference_the_prior_colors(colorizer, tiny_weights):
  frame, *others = _frames(5)
  colorizer.set_reference()
  whole = list(colorizer.colorize([frame, *others]))
  assert _chroma(whole[0]) > 1
  colorizer.set_reference()
  found = list(colorizer.colorize([frame]))
  _assert_same([*found, *colorizer.colorize(others)], whole)
  colorizer.set_reference(_picture())
  (other,) = colorizer.colorize([frame])
  assert np.abs(np.int16(other) - np.int16(found[0])).max() > 1
  refined = colorize.VideoColorizer.from_checkpoint(
    tiny_weights, {'use.size': (32, 48), 'use.refine': 2}
  )
  refined.set_reference()
  (found,) = refined.colorize([frame])
  assert found.shape == frame.shape and _chroma(found) > 1


def test_weights_without_a_prior_need_a_reference(tmp_path, tiny_weights):
  config = checkpoint.load_config(tiny_weights)
  config.model.prior.width = 0.0
  params = checkpoint.load_params(tiny_weights)
  del params['prior']
  checkpoint.export(tmp_path / 'old', params, config)
  # Earlier configs do not know of it.
  path = tmp_path / 'old' / 'config.json'
  entries = json.loads(path.read_text())
  del entries['model']['prior']
  path.write_text(json.dumps(entries))
  old = colorize.VideoColorizer.from_checkpoint(tmp_path / 'old')
  old.set_reference(_picture())
  assert len(list(old.colorize(_frames(2)))) == 2
  with pytest.raises(UserError, match='have no color prior, so they need a'):
    old.set_reference()
  path = _write(tmp_path / 'in.mkv', _frames(2))
  with pytest.raises(UserError, match='have no color prior'):
    colorize.colorize(old, path, ['none'], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_first_frame_carries_its_colours_on(colorizer):
  frames = _frames(1)
  colorizer.set_reference(frames[0], first_frame=True)
  (carried,) = colorizer.colorize(frames)
  colorizer.set_reference(frames[0])
  (plain,) = colorizer.colorize(frames)
  assert np.abs(np.int16(carried) - np.int16(plain)).max() > 1
  colorizer.set_reference(_picture((100, 64)), first_frame=True)
  with pytest.raises(ValueError, match='not the size of the reference'):
    next(colorizer.colorize(frames))


def _moving(n, size=SIZE):
  """A window that moves over a scene of coloured blots, a pixel a frame."""
  height, width = size
  rng = np.random.default_rng(7)
  small = rng.integers(40, 220, (12, 20, 3), np.uint8)
  scene = cv2.resize(small, (width + n, height), interpolation=cv2.INTER_CUBIC)
  return [np.ascontiguousarray(scene[:, t : t + width]) for t in range(n)]


def test_an_anchor_keeps_the_first_frames_colours(tiny_weights):
  """The weights mean nothing; only the flow knows what went where."""
  frames = _moving(12)
  errors = []
  for weight in (0.0, 0.4):
    made = colorize.VideoColorizer.from_checkpoint(
      tiny_weights, {'use.anchor': weight}
    )
    made.set_reference(frames[0], first_frame=True)
    found = np.stack(list(made.colorize(frames)))[6:, :, :40]
    truth = np.stack(frames)[6:, :, :40]
    error = skcolor.rgb2lab(found) - skcolor.rgb2lab(truth)
    errors.append(np.abs(error[..., 1:]).mean())
  assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize('cut', [1, 4])
def test_an_anchor_is_held_when_a_clip_is_gone_on_with(colorizer, cut):
  frames = _moving(7)
  colorizer.set_reference(frames[0], first_frame=True)
  whole = list(colorizer.colorize(frames))
  colorizer.set_reference(frames[0], first_frame=True)
  found = list(colorizer.colorize(frames[:cut]))
  state = colorizer.state
  colorizer.set_reference(frames[0], first_frame=True)
  colorizer.resume(state, SIZE)
  _assert_same([*found, *colorizer.colorize(frames[cut:])], whole)


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('anchor', 1.5, 'use.anchor=1.5 must be within 0 and 1'),
    ('refine', 0, 'use.refine=0 must be a whole number, 1 at least'),
    ('enlarge', 0, 'use.enlarge=0 must be a whole number, 1 at least'),
    ('components', -1, 'use.components=-1 must be a whole number, 0 at least'),
  ],
)
def test_settings_of_use_are_checked(tiny_weights, name, value, message):
  with pytest.raises(UserError, match=message):
    colorize.VideoColorizer.from_checkpoint(
      tiny_weights, {f'use.{name}': value}
    )


def test_colours_move_at_a_finer_size(tiny_weights):
  """A frame of stripes too fine for the working size keeps their colours."""
  stripes = np.zeros((64, 96, 3), np.uint8) + np.uint8([60, 60, 200])
  stripes[:, ::4] = stripes[:, 1::4] = [150, 30, 60]
  frames = [np.roll(stripes, t, 1) for t in range(3)]
  errors = []
  for refine in (1, 2):
    made = colorize.VideoColorizer.from_checkpoint(
      tiny_weights, {'use.size': (32, 48), 'use.refine': refine}
    )
    made.set_reference(frames[0], first_frame=True)
    found = np.stack(list(made.colorize(frames)))
    assert found.shape == (3, 64, 96, 3)
    error = skcolor.rgb2lab(found) - skcolor.rgb2lab(np.stack(frames))
    errors.append(np.abs(error[0, ..., 1:]).mean())
  assert errors[1] < 0.5 * errors[0]


def test_a_reference_is_looked_at_enlarged_too(tiny_weights):
  usual, enlarged = (
    colorize.VideoColorizer.from_checkpoint(
      tiny_weights, {'use.enlarge': enlarge}
    )
    for enlarge in (1, 2)
  )
  usual.set_reference(_picture())
  enlarged.set_reference(_picture(), _picture(seed=1))
  once, more = usual._reference, enlarged._reference
  positions = once.ab.shape[1]
  assert more.ab.shape[1] == 2 * (1 + 4) * positions
  np.testing.assert_array_equal(more.keys[:, :positions], once.keys)
  # Colours are the same four times, so that their means are.
  np.testing.assert_allclose(
    more.ab[:, positions : 5 * positions].mean(1), once.ab.mean(1), atol=0.5
  )
  assert enlarged.bound == (128, 192)
  found = list(enlarged.colorize(_frames(2)))
  assert np.shape(found) == (2, *SIZE, 3)


def test_all_that_small_uses_survives_a_cut(tiny_weights):
  """Anchor, enlarged references, components and motion at a finer size."""
  use = get_config('small').use
  made = colorize.VideoColorizer.from_checkpoint(
    tiny_weights,
    {
      'use.size': (32, 48),
      'use.components': 8,
      **{f'use.{name}': use[name] for name in ('anchor', 'enlarge', 'refine')},
    },
  )
  frames = _moving(5)

  def begin():
    made.set_reference(frames[0], _picture(seed=9), first_frame=True)

  begin()
  assert made._reference.basis.shape[-1] == 8
  whole = list(made.colorize(frames))
  begin()
  found = list(made.colorize(frames[:2]))
  state = made.state
  begin()
  made.resume(state, SIZE)
  _assert_same([*found, *made.colorize(frames[2:])], whole)


def test_refining_stops_at_the_frames_size(tiny_weights):
  frames, found = _frames(3), []
  for refine in (1, 3):
    made = colorize.VideoColorizer.from_checkpoint(
      tiny_weights, {'use.refine': refine}
    )
    made.set_reference(_picture())
    found.append(list(made.colorize(frames)))
  _assert_same(*found)


def test_wrong_use_from_python_is_refused(tiny_weights, colorizer):
  fresh = colorize.VideoColorizer.from_checkpoint(tiny_weights)
  with pytest.raises(ValueError, match='set_reference comes before'):
    next(fresh.colorize(_frames(1)))
  with pytest.raises(ValueError, match='uint8'):
    colorizer.set_reference(np.zeros((32, 32, 3), np.float32))
  colorizer.set_reference(_picture())
  list(colorizer.colorize(_frames(1)))
  with pytest.raises(ValueError, match=r'\(32, 32\) after frames of'):
    list(colorizer.colorize([_picture((32, 32))]))


def test_overrides_change_the_config_of_the_weights(tiny_weights):
  overrides = {'use.size': (32, 48), 'use.temperature': 0.0}
  made = colorize.VideoColorizer.from_checkpoint(tiny_weights, overrides)
  assert tuple(made.config.use.size) == (32, 48)
  made.set_reference(_picture())
  (found,) = made.colorize(_frames(1))
  assert found.shape == (*SIZE, 3)
  with pytest.raises(UserError, match=r'tiny, as it is set here, has another'):
    colorize.VideoColorizer.from_checkpoint(
      tiny_weights, {'model.colorizer.width': 0.5}
    )
  for size in ((0, 96), (64, 16), (-64, 96)):
    with pytest.raises(UserError, match=r'config\.use\.size=.* at least 32'):
      colorize.VideoColorizer.from_checkpoint(tiny_weights, {'use.size': size})


@pytest.mark.parametrize('temperature', [-0.01, float('nan')])
def test_a_temperature_below_zero_is_refused(tiny_weights, temperature):
  with pytest.raises(
    UserError, match=r'config\.use\.temperature=.* at least 0'
  ):
    colorize.VideoColorizer.from_checkpoint(
      tiny_weights, {'use.temperature': temperature}
    )


@pytest.mark.parametrize('name', ['model.colorizer.later', 'later.size'])
def test_a_setting_that_the_weights_lack_is_named(tiny_weights, name):
  message = rf'tiny have no such setting: leave out --config\.{name}'
  with pytest.raises(UserError, match=message):
    colorize.VideoColorizer.from_checkpoint(tiny_weights, {name: 1})


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
  video.write_image(path, _picture())
  return str(path)


def test_video_to_video_keeps_time_stamps(
  tmp_path, colorizer, reference, coloured, capsys
):
  stamps = [0, 40, 120, 160, 280, 320, 400]
  path = _write(tmp_path / 'in.mkv', _frames(7), stamps)
  colorize.colorize(colorizer, path, [reference], tmp_path / 'out.mkv')
  with video.VideoReader(tmp_path / 'out.mkv') as reader:
    found = list(reader)
  ticks = [frame.pts * reader.format.time_base for frame in found]
  assert ticks == [Fraction(x, 1000) for x in stamps]
  for frame, expected in zip(found, coloured, strict=True):
    error = np.abs(np.float32(frame.rgb) - np.float32(expected)).mean()
    assert error < 8  # H.264 with chroma at half size.
  assert 'warning' not in capsys.readouterr().err


def test_a_video_is_colorized_without_a_reference(tmp_path, colorizer, capsys):
  path = _write(tmp_path / 'in.mkv', _frames(14))
  colorize.colorize(colorizer, path, ['none'], tmp_path / 'out')
  assert 'warning' not in capsys.readouterr().err  # Nothing to match.
  colorizer.set_reference()
  expected = list(colorizer.colorize(_frames(14)))
  paths = sorted((tmp_path / 'out').iterdir())
  _assert_same([video.read_image(path) for path in paths], expected)


def test_folder_to_folder_keeps_names(tmp_path, colorizer, reference, coloured):
  (tmp_path / 'in').mkdir()
  for i, rgb in enumerate(_frames(4)):
    video.write_image(tmp_path / f'in/shot{i}.png', rgb)
  colorize.colorize(colorizer, tmp_path / 'in', [reference], tmp_path / 'out')
  names = [f'shot{i}.png' for i in range(4)]
  assert sorted(x.name for x in (tmp_path / 'out').iterdir()) == names
  found = [video.read_image(tmp_path / 'out' / name) for name in names]
  _assert_same(found, coloured[:4])


def test_single_image(tmp_path, colorizer, reference, coloured):
  video.write_image(tmp_path / 'in.png', _frames(1)[0])
  args = (colorizer, tmp_path / 'in.png', [reference], tmp_path / 'out.png')
  colorize.colorize(*args)
  _assert_same([video.read_image(tmp_path / 'out.png')], coloured[:1])
  before = (tmp_path / 'out.png').read_bytes()
  with pytest.raises(UserError, match=r'out\.png exists: pass --overwrite'):
    colorize.colorize(*args)
  assert (tmp_path / 'out.png').read_bytes() == before
  colorize.colorize(*args, overwrite=True)


def test_first_frame_of_a_video_is_its_reference(tmp_path, colorizer):
  frames = _frames(2)
  path = _write(tmp_path / 'in.mkv', frames)
  colorize.colorize(colorizer, path, ['first-frame'], tmp_path / 'out')
  colorizer.set_reference(frames[0], first_frame=True)
  expected = list(colorizer.colorize(frames))
  found = [video.read_image(x) for x in sorted((tmp_path / 'out').iterdir())]
  _assert_same(found, expected)


def test_the_first_frame_leads_other_references(tmp_path, colorizer, reference):
  frames = _frames(2)
  path = _write(tmp_path / 'in.mkv', frames)
  colorize.colorize(
    colorizer, path, [reference, 'first-frame'], tmp_path / 'out'
  )
  other = video.read_image(reference)
  colorizer.set_reference(frames[0], other, first_frame=True)
  expected = list(colorizer.colorize(frames))
  found = [video.read_image(x) for x in sorted((tmp_path / 'out').iterdir())]
  _assert_same(found, expected)
  colorizer.set_reference(frames[0], first_frame=True)
  alone = list(colorizer.colorize(frames))
  assert np.abs(np.float32(alone) - np.float32(expected)).mean() > 0.5


def test_a_grey_reference_is_refused_or_warned_of(
  tmp_path, colorizer, reference, capsys
):
  grey = tmp_path / 'grey.png'
  video.write_image(grey, np.repeat(_picture()[..., :1], 3, -1))
  output = tmp_path / 'out.png'
  with pytest.raises(UserError, match=r'grey\.png has no color'):
    colorize.colorize(colorizer, grey, [str(grey)], output)
  with pytest.raises(UserError, match='first frame of .* has no color'):
    colorize.colorize(colorizer, grey, ['first-frame'], output)
  assert [*tmp_path.iterdir()] == [grey]
  colorize.colorize(colorizer, grey, [str(grey), reference], output)
  assert 'grey.png has no color' in capsys.readouterr().err
  assert output.exists()


def test_broken_stream_is_coloured_as_far_as_it_goes(
  tmp_path, colorizer, reference, capsys
):
  rng = np.random.default_rng(0)  # Noise, as all of the file shall be frames.
  frames = [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(12)]
  path = _write(tmp_path / 'in.mkv', frames)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 2 // 3])
  colorize.colorize(colorizer, path, [reference], tmp_path / 'out')
  made = len(list((tmp_path / 'out').iterdir()))
  assert 6 <= made <= 8
  message = capsys.readouterr().err
  assert 'in.mkv is broken' in message
  assert f'{12 - made} frames could not be read' in message


def test_nothing_is_left_where_colouring_fails(tmp_path, colorizer, reference):
  (tmp_path / 'in').mkdir()
  for i, rgb in enumerate(_frames(3)):
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


def test_clips_over_two_devices_equal_one(tiny_weights):
  lengths = 4, 2, 3
  clips = [
    colorize.Clip(
      [_picture(seed=10 * i + j) for j in range(length)], [_picture(seed=i)]
    )
    for i, length in enumerate(lengths)
  ]
  devices = jax.local_devices()
  assert len(devices) == 2
  colorizer = colorize.VideoColorizer.from_checkpoint(tiny_weights)
  on_each = [colorizer.on(device) for device in devices]
  on_one = list(colorize.colorize_clips(on_each[:1], clips))
  on_two = list(colorize.colorize_clips(on_each, clips))
  assert [x.shape for x in on_two] == [(n, *SIZE, 3) for n in lengths]
  for one, two, clip in zip(on_one, on_two, clips, strict=True):
    np.testing.assert_array_equal(one, two)
    on_each[0].set_reference(*clip.references)
    alone = np.stack(list(on_each[0].colorize(clip.frames)))
    np.testing.assert_array_equal(one, alone)
  for device, colorizer in zip(devices, on_each, strict=True):
    assert colorizer._previous_lab.devices() == {device}


def test_a_bad_clip_is_said_where_its_frames_would_have_come(colorizer):
  good = colorize.Clip([_picture()], [_picture()])
  clips = [good, good._replace(references=[_picture() / 255.0]), good]
  coloured = colorize.colorize_clips([colorizer], clips)
  assert next(coloured).shape == (1, *SIZE, 3)
  with pytest.raises(ValueError, match='expected .* uint8'):
    next(coloured)


@pytest.mark.parametrize(
  'text, memory, expected',
  [
    ('112x192', 0, (112, 192)),
    (None, 10**12, (224, 384)),
    (None, 2 * 8 * 1600 * 224 * 384 // 4, (112, 192)),
    (None, 0, (32, 32)),
  ],
)
def test_the_working_size_is_as_told_or_fits(
  monkeypatch, text, memory, expected
):
  monkeypatch.setattr(colorize, '_BLOCK', 8)
  monkeypatch.setattr(colorize, '_memory', lambda: memory)
  assert colorize.working_size(text, (224, 384)) == expected


def test_a_working_size_that_is_none_is_refused():
  for text in ('112', '112,192', '-1x5', 'x'):
    with pytest.raises(UserError, match='--working-size=.* write HEIGHTxWIDTH'):
      colorize.working_size(text, (224, 384))
  assert colorize._memory() > 1e6


def test_a_stopped_film_goes_on_to_the_same_file(
  tmp_path, colorizer, reference, monkeypatch
):
  monkeypatch.setattr(film, '_BLOCK', 3)
  path = _write(tmp_path / 'in.mkv', _frames(7))
  made = plan.same_for_all(plan.survey(path), [reference])
  list(film.Film([colorizer], path, made, tmp_path / 'whole.mp4').run())
  again = tmp_path / 'again.mp4'
  for stop in (2, 5, 8):
    run = film.Film([colorizer], path, made, again).run()
    seen = list(itertools.islice(run, stop))
    run.close()
  assert [step.number for step in seen] == [3, 4, 5, 6]
  assert again.read_bytes() == (tmp_path / 'whole.mp4').read_bytes()


def test_a_damaged_block_is_colored_again_from_the_state_before(
  tmp_path, colorizer, reference, monkeypatch
):
  monkeypatch.setattr(film, '_BLOCK', 3)
  path = _write(tmp_path / 'in.mkv', _frames(7))
  made = plan.same_for_all(plan.survey(path), [reference])
  list(film.Film([colorizer], path, made, tmp_path / 'whole.mp4').run())
  again = tmp_path / 'again.mp4'
  run = film.Film([colorizer], path, made, again).run()
  list(itertools.islice(run, 7))  # The last block is not written.
  run.close()
  with open(film.part_folder(again) / 'output/0000003.mkv', 'r+b') as file:
    file.truncate(99)
  steps = film.Film([colorizer], path, made, again).run()
  assert [step.number for step in steps] == [3, 4, 5, 6]
  assert again.read_bytes() == (tmp_path / 'whole.mp4').read_bytes()


def test_a_plan_that_ends_before_the_video_is_told(
  tmp_path, colorizer, reference, capsys
):
  path = _write(tmp_path / 'in.mkv', _frames(7))
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
  assert 'plan.json ends behind 4 frames, but' in capsys.readouterr().err


def test_two_devices_give_the_frames_of_one(tmp_path, colorizer, reference):
  path = _write(tmp_path / 'in.mkv', _frames(6))
  surveyed = plan.survey(path)
  half = plan.Shot(0, 3, (plan.Choice(reference),))
  made = surveyed.plan._replace(shots=(half, half._replace(start=3, stop=6)))
  found = []
  for count in (1, 2):
    colorizers = [colorizer.on(device) for device in jax.devices()[:count]]
    assert len(colorizers) == count
    output = tmp_path / f'out{count}'
    list(film.Film(colorizers, path, made, output).run())
    found.append([video.read_image(x) for x in sorted(output.iterdir())])
  np.testing.assert_array_equal(*found)
