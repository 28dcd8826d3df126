"""The engine: blocks, sizes, state, references, and bad input."""

import json

import cv2
import jax
import numpy as np
import pytest
from pictures import SIZE, assert_same, make_frames, make_picture
from skimage import color as skcolor

from configs.vitexco import get_config
from vitexco_jax import checkpoint
from vitexco_jax.config import override
from vitexco_jax.errors import UserError
from vitexco_jax.inference import colorize, preparation
from vitexco_jax.inference import frame_programs as programs
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video

pytestmark = pytest.mark.usefixtures('blocks_of_three')


def _chroma(rgb):
  return np.abs(skcolor.rgb2lab(rgb)[..., 1:]).mean()


def test_frame_by_frame_equals_one_call(colorizer, colored):
  colorizer.set_reference(make_picture())
  actual = [next(colorizer.colorize([rgb])) for rgb in make_frames(7)]
  assert_same(actual, colored)


def test_a_repeated_reference_is_encoded_once(colorizer, monkeypatch):
  encode, seen = colorizer._encode, []

  def counted(size, picture):
    seen.append(picture)
    return encode(size, picture)

  monkeypatch.setattr(colorizer, '_encode', counted)
  one, two, three = (make_picture(seed=seed) for seed in (91, 92, 93))
  frame = make_frames(1)
  result = []
  for pictures in ([one], [one, two], [two.copy()], [three], [two]):
    colorizer.set_reference(*pictures)
    result.append(next(colorizer.colorize(frame)))
  assert len(seen) == 4
  np.testing.assert_array_equal(result[2], result[4])
  assert (result[0] != result[2]).any()


@pytest.mark.parametrize('cut', [1, 3, 5])
def test_a_clip_in_two_calls_equals_one_call(colorizer, colored, cut):
  frames = make_frames(7)
  colorizer.set_reference(make_picture())
  actual = [
    *colorizer.colorize(frames[:cut]),
    *colorizer.colorize(frames[cut:]),
  ]
  assert_same(actual, colored)


def test_previous_frames_matter_and_a_reference_resets_the_state(
  colorizer, colored
):
  colorizer.set_reference(make_picture())
  (alone,) = colorizer.colorize(make_frames(7)[3:4])
  assert np.abs(np.int16(alone) - np.int16(colored[3])).max() > 1
  colorizer.set_reference(make_picture())
  (again,) = colorizer.colorize(make_frames(1))
  assert_same([again], colored[:1])


def test_reference_matters(colorizer, colored):
  colorizer.set_reference(make_picture(seed=50))
  (actual,) = colorizer.colorize(make_frames(1))
  assert np.abs(np.int16(actual) - np.int16(colored[0])).max() > 1


@pytest.mark.parametrize(
  'size, reference_size',
  [
    (SIZE, (70, 33)),  # Another size and aspect.
    ((151, 101), SIZE),  # Portrait, odd, above the working size.
    ((32, 32), SIZE),  # The least.
    ((33, 160), SIZE),  # Wide.
  ],
)
def test_size_and_lightness_are_preserved(colorizer, size, reference_size):
  colorizer.set_reference(make_picture(reference_size))
  gray = cv2.cvtColor(make_picture(size, 1), cv2.COLOR_RGB2GRAY)
  gray = np.repeat(gray[..., None], 3, -1)
  (actual,) = colorizer.colorize([gray])
  assert actual.shape == gray.shape and actual.dtype == np.uint8
  assert _chroma(actual) > 1
  inside = ((actual > 0) & (actual < 255)).all(-1)  # Of the gamut.
  assert inside.mean() > 0.8
  lightness = [skcolor.rgb2lab(rgb)[..., 0] for rgb in (gray, actual)]
  # Half a level of each channel; in the dark that is most of L.
  assert np.abs(lightness[0] - lightness[1])[inside].max() < 0.6


def test_colors_of_the_input_are_ignored(colorizer):
  colorizer.set_reference(make_picture())
  lab = skcolor.rgb2lab(make_picture(seed=1))
  tinted = np.uint8(np.round(skcolor.lab2rgb(lab * [1, 0.3, 0.3]) * 255))
  (actual,) = colorizer.colorize([tinted])
  colorizer.set_reference(make_picture())
  (expected,) = colorizer.colorize([make_picture(seed=1)])
  error = np.abs(np.float32(actual) - np.float32(expected))
  assert error.mean() < 2  # The L of the two differs by rounding.


def test_without_a_reference_colors_are_those_of_the_prior(
  colorizer, tiny_weights
):
  frame, *others = make_frames(5)
  colorizer.set_reference()
  whole = list(colorizer.colorize([frame, *others]))
  assert _chroma(whole[0]) > 1
  colorizer.set_reference()
  actual = list(colorizer.colorize([frame]))
  assert_same([*actual, *colorizer.colorize(others)], whole)
  colorizer.set_reference(make_picture())
  (other,) = colorizer.colorize([frame])
  assert np.abs(np.int16(other) - np.int16(actual[0])).max() > 1
  refined = VideoColorizer.from_checkpoint(
    tiny_weights, {'use.size': (32, 48), 'use.refine': 2}
  )
  refined.set_reference()
  (actual,) = refined.colorize([frame])
  assert actual.shape == frame.shape and _chroma(actual) > 1


def test_weights_without_a_prior_need_a_reference(tmp_path, tiny_weights):
  config = checkpoint.load_config(tiny_weights)
  config.model.prior.width = 0.0
  params = checkpoint.load_params(tiny_weights)
  del params['prior']
  checkpoint.export(tmp_path / 'old', params, config)
  # Configs of format 0 do not know of it.
  path = tmp_path / 'old' / 'config.json'
  entries = json.loads(path.read_text())
  del entries['format'], entries['model']['prior']
  path.write_text(json.dumps(entries))
  old = VideoColorizer.from_checkpoint(tmp_path / 'old')
  old.set_reference(make_picture())
  assert len(list(old.colorize(make_frames(2)))) == 2
  with pytest.raises(UserError, match='have no color prior, so they need a'):
    old.set_reference()
  picture = tmp_path / 'in.png'
  video.write_image(picture, make_picture())
  with pytest.raises(UserError, match='have no color prior'):
    colorize.colorize(old, picture, ['none'], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_colors_of_the_first_frame_propagate(colorizer):
  frames = make_frames(1)
  colorizer.set_reference(frames[0], first_frame=True)
  (carried,) = colorizer.colorize(frames)
  colorizer.set_reference(frames[0])
  (plain,) = colorizer.colorize(frames)
  assert np.abs(np.int16(carried) - np.int16(plain)).max() > 1
  colorizer.set_reference(make_picture((100, 64)), first_frame=True)
  with pytest.raises(ValueError, match='not the size of the reference'):
    next(colorizer.colorize(frames))


def _moving(n, size=SIZE):
  """A window that moves over a scene of colored blots, a pixel a frame."""
  height, width = size
  rng = np.random.default_rng(7)
  small = rng.integers(40, 220, (12, 20, 3), np.uint8)
  scene = cv2.resize(small, (width + n, height), interpolation=cv2.INTER_CUBIC)
  return [np.ascontiguousarray(scene[:, t : t + width]) for t in range(n)]


def _by_rules(weights, overrides):
  """An engine whose mixture has no network: random parameters trust anything."""
  params = checkpoint.load_params(weights)
  del params['colorizer']
  overrides = {'model.mixture.channels': 0, **overrides}
  config = override(checkpoint.load_config(weights), overrides)
  return VideoColorizer(params, config)


def test_an_anchor_preserves_the_colors_of_the_first_frame(tiny_weights):
  """The weights mean nothing; only the flow knows what went where."""
  frames = _moving(12)
  errors = []
  for weight in (0.0, 0.7):
    engine = _by_rules(tiny_weights, {'use.anchor': weight})
    engine.set_reference(frames[0], first_frame=True)
    actual = np.stack(list(engine.colorize(frames)))[6:, :, :40]
    truth = np.stack(frames)[6:, :, :40]
    error = skcolor.rgb2lab(actual) - skcolor.rgb2lab(truth)
    errors.append(np.abs(error[..., 1:]).mean())
  assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize('cut', [1, 4])
def test_an_anchor_survives_resuming(colorizer, cut):
  frames = _moving(7)
  colorizer.set_reference(frames[0], first_frame=True)
  whole = list(colorizer.colorize(frames))
  colorizer.set_reference(frames[0], first_frame=True)
  actual = list(colorizer.colorize(frames[:cut]))
  state = colorizer.state
  colorizer.set_reference(frames[0], first_frame=True)
  colorizer.resume(state, SIZE)
  assert_same([*actual, *colorizer.colorize(frames[cut:])], whole)


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('anchor', 1.5, 'use.anchor=1.5 must be at least 0 and at most'),
    ('refine', 0, 'use.refine=0 must be at least 1 and at most 4'),
    ('enlarge', 0, 'use.enlarge=0 must be at least 1 and at most 4'),
    ('components', -1, 'use.components=-1 must be at least 0 and at'),
  ],
)
def test_settings_of_use_are_checked(tiny_weights, name, value, message):
  with pytest.raises(UserError, match=message):
    VideoColorizer.from_checkpoint(tiny_weights, {f'use.{name}': value})


def test_colors_propagate_at_a_finer_size(tiny_weights):
  """A frame of stripes too fine for the working size keeps their colors."""
  stripes = np.zeros((64, 96, 3), np.uint8) + np.uint8([60, 60, 200])
  stripes[:, ::4] = stripes[:, 1::4] = [150, 30, 60]
  frames = [np.roll(stripes, t, 1) for t in range(3)]
  errors = []
  for refine in (1, 2):
    engine = _by_rules(
      tiny_weights, {'use.size': (32, 48), 'use.refine': refine}
    )
    engine.set_reference(frames[0], first_frame=True)
    actual = np.stack(list(engine.colorize(frames)))
    assert actual.shape == (3, 64, 96, 3)
    error = skcolor.rgb2lab(actual) - skcolor.rgb2lab(np.stack(frames))
    errors.append(np.abs(error[0, ..., 1:]).mean())
  assert errors[1] < 0.5 * errors[0]


def test_an_enlarged_reference_is_matched_too(tiny_weights):
  usual, enlarged = (
    VideoColorizer.from_checkpoint(tiny_weights, {'use.enlarge': enlarge})
    for enlarge in (1, 2)
  )
  usual.set_reference(make_picture())
  enlarged.set_reference(make_picture(), make_picture(seed=1))
  once, more = usual._reference, enlarged._reference
  positions = once.ab.shape[1]
  assert more.filled.sum() == 2 * (1 + 4) * once.filled.sum()
  np.testing.assert_array_equal(more.keys[:, :positions], once.keys)
  # Colors are the same four times, so that their means are.
  np.testing.assert_allclose(
    more.ab[:, positions : 5 * positions].mean(1), once.ab.mean(1), atol=0.5
  )
  assert enlarged.bound == (128, 192)
  actual = list(enlarged.colorize(make_frames(2)))
  assert np.shape(actual) == (2, *SIZE, 3)


def test_all_features_of_small_survive_resuming(tiny_weights):
  """Anchor, enlarged references, components and motion at a finer size."""
  use = get_config('small').use
  engine = VideoColorizer.from_checkpoint(
    tiny_weights,
    {
      'use.size': (32, 48),
      'use.components': 8,
      **{f'use.{name}': use[name] for name in ('anchor', 'enlarge', 'refine')},
    },
  )
  frames = _moving(5)

  def begin():
    engine.set_reference(frames[0], make_picture(seed=9), first_frame=True)

  begin()
  assert engine._reference.basis.shape[-1] == 8
  whole = list(engine.colorize(frames))
  begin()
  actual = list(engine.colorize(frames[:2]))
  state = engine.state
  begin()
  engine.resume(state, SIZE)
  assert_same([*actual, *engine.colorize(frames[2:])], whole)


def test_refinement_stops_at_the_frame_size(tiny_weights):
  frames, actual = make_frames(3), []
  for refine in (1, 3):
    engine = VideoColorizer.from_checkpoint(
      tiny_weights, {'use.refine': refine}
    )
    engine.set_reference(make_picture())
    actual.append(list(engine.colorize(frames)))
  assert_same(*actual)


def test_wrong_use_from_python_is_refused(tiny_weights, colorizer):
  fresh = VideoColorizer.from_checkpoint(tiny_weights)
  with pytest.raises(ValueError, match='set_reference comes before'):
    next(fresh.colorize(make_frames(1)))
  with pytest.raises(ValueError, match='uint8'):
    colorizer.set_reference(np.zeros((32, 32, 3), np.float32))
  colorizer.set_reference(make_picture())
  list(colorizer.colorize(make_frames(1)))
  with pytest.raises(ValueError, match=r'\(32, 32\) after frames of'):
    list(colorizer.colorize([make_picture((32, 32))]))


def test_overrides_change_the_config_of_the_weights(tiny_weights):
  overrides = {'use.size': (32, 48), 'use.temperature': 0.0}
  engine = VideoColorizer.from_checkpoint(tiny_weights, overrides)
  assert tuple(engine.config.use.size) == (32, 48)
  engine.set_reference(make_picture())
  (actual,) = engine.colorize(make_frames(1))
  assert actual.shape == (*SIZE, 3)
  with pytest.raises(UserError, match=r'tiny, as it is set here, has another'):
    VideoColorizer.from_checkpoint(tiny_weights, {'model.mixture.channels': 8})
  for size in ((0, 96), (64, 16), (-64, 96)):
    with pytest.raises(UserError, match=r'config\.use\.size=.* at least 32'):
      VideoColorizer.from_checkpoint(tiny_weights, {'use.size': size})


@pytest.mark.parametrize('temperature', [-0.01, float('nan')])
def test_a_temperature_below_zero_is_refused(tiny_weights, temperature):
  with pytest.raises(
    UserError, match=r'config\.use\.temperature=.* at least 0'
  ):
    VideoColorizer.from_checkpoint(
      tiny_weights, {'use.temperature': temperature}
    )


@pytest.mark.parametrize('name', ['model.colorizer.later', 'later.size'])
def test_a_setting_that_the_weights_lack_is_named(tiny_weights, name):
  message = rf'config\.{name} is unknown'
  with pytest.raises(UserError, match=message):
    VideoColorizer.from_checkpoint(tiny_weights, {name: 1})


def test_there_is_no_state_before_the_first_frame(tiny_weights):
  colorizer = VideoColorizer.from_checkpoint(tiny_weights)
  assert colorizer.state is None
  colorizer.set_reference(make_picture())
  assert colorizer.state is None
  next(colorizer.colorize(make_frames(1)))
  assert colorizer.state.previous.shape == (1, *SIZE, 4)
  assert colorizer.state.anchor_flow.shape == (1, *SIZE, 2)
  colorizer.set_reference(make_picture())
  assert colorizer.state is None


def test_a_copy_on_another_device_has_no_clip_state(colorizer):
  frames = make_frames(2)
  colorizer.set_reference(frames[0], first_frame=True)
  next(colorizer.colorize(frames))
  other = colorizer.on(jax.local_devices()[1])
  assert other.state is None and colorizer.state is not None
  with pytest.raises(ValueError, match='set_reference comes before'):
    next(other.colorize(frames))
  other.set_reference(make_picture((32, 80)))  # Of no frame.
  assert next(other.colorize([make_picture((32, 32))])).shape == (32, 32, 3)
  assert colorizer.state.previous.shape == (1, *SIZE, 4)


def _count(program):
  """Returns the number of compiled programs."""
  return sum(x._cache_size() for x in program.programs.values())


def test_all_blocks_share_a_program(tiny_weights):
  colorizer = VideoColorizer.from_checkpoint(tiny_weights)
  colorizer.set_reference(make_picture())
  list(colorizer.colorize(make_frames(7)))  # The last block is shorter.
  assert _count(colorizer._colorize_block) == 1
  state = colorizer.state
  saved = state._replace(previous=np.asarray(state.previous))
  colorizer.resume(saved, make_frames(1)[0].shape[:2])
  list(colorizer.colorize(make_frames(1)))
  assert _count(colorizer._colorize_block) == 1


def test_references_of_many_shapes_share_programs(tiny_weights):
  cells_of = {'use.size': (64, 96), 'use.matched_cells': 2}
  colorizer = VideoColorizer.from_checkpoint(tiny_weights, cells_of)
  for shape in ((64, 80), (80, 64), (64, 64), (64, 96)):
    colorizer.set_reference(make_picture(shape), make_picture((64, 64), 7))
    list(colorizer.colorize(make_frames(1)))
  assert _count(colorizer._colorize_block) <= 2
  assert _count(colorizer._encode_reference) == 2  # Wide and tall.


def test_the_host_prepares_a_block_during_the_networks_of_the_previous_one(
  colorizer, monkeypatch
):
  order = []

  def note(name, function):
    def noting(*args):
      order.append(name)
      return function(*args)

    return noting

  for owner, name in (
    (programs, 'fit_luminance'),
    (preparation, 'prepare'),
    (colorizer, '_colorize_block'),
  ):
    monkeypatch.setattr(owner, name, note(name, getattr(owner, name)))
  colorizer.set_reference(make_picture())
  list(colorizer.predict(make_frames(7)))  # One frame, three, and three.
  shrink, prepare, color = 'fit_luminance', 'prepare', '_colorize_block'
  first = [shrink, prepare, color]
  second, third = 3 * [shrink], 3 * [shrink]
  # All that a device gets while the host prepares the third block is the second.
  assert order == first + second + [prepare] + third + [color, prepare, color]


def _moving_texture(count):
  """Frames of a texture that moves 2 pixels per frame."""
  wide = cv2.resize(make_picture((12, 24)), (96, SIZE[0]))
  return [
    np.ascontiguousarray(wide[:, 2 * t : 2 * t + SIZE[1]]) for t in range(count)
  ]


def test_flow_of_the_device_gives_about_the_colors_of_opencv(tiny_weights):
  frames, results = _moving_texture(7), {}
  for method in ('auto', 'dis', 'jax'):
    engine = VideoColorizer.from_checkpoint(tiny_weights, {'use.flow': method})
    engine.set_reference(frames[0], first_frame=True)
    # Two calls: flow continues from the state.
    results[method] = np.int16(
      list(engine.colorize(frames[:4])) + list(engine.colorize(frames[4:]))
    )
    computed = isinstance(engine.state.anchor_flow, jax.Array)
    assert computed == (method == 'jax')
    moved = np.median(engine.state.anchor_flow[0, 8:-8, :40, 0])
    np.testing.assert_allclose(moved, 12, atol=0.2)
  np.testing.assert_array_equal(results['auto'], results['dis'])
  difference = np.abs(results['jax'] - results['dis'])
  assert 0 < difference.mean() < 1
