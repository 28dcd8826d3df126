"""Training of the mixture: the loss falls, runs resume, and bad input is named."""

import functools
import json

import flax
import jax
import numpy as np
import pytest
from small_videos import write_video

from configs.vitexco import get_config
from vitexco_jax import checkpoint
from vitexco_jax.errors import UserError
from vitexco_jax.training import (
  candidates,
  loop,
  mix,
  mixture_windows,
  scenes,
)

KIND = list(scenes.KINDS).index
RUN = {'updates': 12, 'learning_rate': 0.03, 'checkpoint_every': 6}


def make_config(weights, **values):
  config = get_config('tiny')
  config.use.size = (32, 48)
  config.data.threads = 0
  config.train.init = str(weights)
  config.mix.update(values)
  return config


def _window(seed, kind='first'):
  """Candidates of which the anchor is right; all others are noise."""
  rng = np.random.default_rng(seed)
  shape = scenes.FRAMES, 16, 24

  def noise(channels, scale):
    return scale * rng.normal(size=(*shape, channels)).astype(np.float32)

  luminance, true_ab = noise(1, 10), noise(2, 15)
  one = np.ones((*shape, 1), np.float32)
  anchor = np.concatenate([luminance, true_ab], -1)
  inputs = np.concatenate(
    [
      luminance,
      noise(2, 20),
      0.4 * one,
      noise(2, 20),
      20 * one,
      0.5 * one,
      anchor,
      0.5 * one,
      noise(2, 0.1),
    ],
    -1,
  )
  half = np.float16
  first = np.concatenate([luminance, true_ab], -1)[0] * (kind == 'first')
  return mixture_windows.Window(
    half(inputs), half(true_ab), half(first), np.int64(KIND(kind))
  )


@pytest.fixture(scope='module')
def windows(tmp_path_factory):
  """Files of windows, two with the first frame and two without."""
  folder = tmp_path_factory.mktemp('windows')
  paths = []
  for seed in range(4):
    kind = 'first' if seed % 2 else 'part'
    paths.append(folder / f'{seed}.npz')
    mixture_windows._write(paths[-1], _window(seed, kind))
  return paths


@pytest.fixture
def prepared(monkeypatch, windows):
  """`mix` with those windows, without videos."""
  monkeypatch.setattr(
    mixture_windows,
    'prepare',
    lambda *_: mixture_windows.Windows(windows, windows[:2]),
  )


def _rows(folder, name='metrics'):
  lines = (folder / f'{name}.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_devices_learn_the_same_from_different_windows(tiny_weights):
  config = make_config(tiny_weights, **RUN)
  params = checkpoint.load_params(tiny_weights)
  optimizer = mix.make_optimizer(config.mix)
  step = mix.make_step(
    mix.make_mixture(config), config.mix, optimizer, loop.AXIS
  )
  step = jax.pmap(step, axis_name=loop.AXIS, donate_argnums=0)
  state = mix._load(params, mix.init_state(optimizer, params))
  state = flax.jax_utils.replicate(state, axis_name=loop.AXIS)
  batch = jax.tree.map(lambda *x: np.stack(x), _window(0), _window(1, 'part'))
  state, _ = step(state, loop._shard(batch, 2))
  for path, x in jax.tree.leaves_with_path(state):
    np.testing.assert_array_equal(*np.asarray(x), err_msg=str(path))
  # The average follows slowly.
  for before, average, learned in zip(
    *map(
      jax.tree.leaves,
      (params['colorizer'], state.params['colorizer'], state.learned),
    ),
    strict=True,
  ):
    moved, followed = learned[0] - before, average[0] - before
    assert np.abs(followed).max() <= 0.04 * np.abs(moved).max()


def test_what_is_carried_goes_on_from_run_to_run(tiny_weights):
  """So `unroll` of two halves gives the colors of the whole."""
  mixture = mix.make_mixture(make_config(tiny_weights))
  params = checkpoint.load_params(tiny_weights)['colorizer']
  unroll = jax.jit(functools.partial(mix.unroll, mixture))
  batch = jax.tree.map(lambda x: np.asarray(x)[None], _window(0))
  inputs = np.float32(batch.inputs).swapaxes(0, 1)
  first = mix._begin(batch)
  assert first.shape == (1, 16, 24, 4) and not first[..., 3].any()
  _, whole = unroll(params, first, inputs)
  middle, _ = unroll(params, first, inputs[:8])
  last, half = unroll(params, middle, inputs[8:])
  np.testing.assert_allclose(half.color, whole.color[8:], atol=1e-3)
  np.testing.assert_array_equal(last[..., 1:], half.color[-1])


def test_the_loss_falls_and_a_run_resumes(tiny_weights, prepared, tmp_path):
  config = make_config(tiny_weights, **RUN)
  mix.mix(config, tmp_path, tmp_path / 'run')
  rows = _rows(tmp_path / 'run')
  assert np.mean([x['loss'] for x in rows[-4:]]) < rows[0]['loss'] - 0.5
  for row in rows:
    weighted = row['raw/color'] + 0.2 * row['raw/candidates']
    assert row['loss'] == pytest.approx(weighted, rel=1e-4)
  curve = _rows(tmp_path / 'run', 'validation')
  assert [x['update'] for x in curve] == [6, 12]
  assert curve[1]['first'] > curve[0]['first']
  assert {'part', 'part/last', 'first/last'} < curve[0].keys()
  # Only the mixture has changed, and the folder is a checkpoint.
  before = checkpoint.load_params(tiny_weights)
  after = checkpoint.load_params(tmp_path / 'run')
  for group in before:
    same = jax.tree.map(np.array_equal, before[group], after[group])
    assert jax.tree.all(same) == (group != 'colorizer')

  stopped = tmp_path / 'stopped'
  with pytest.raises(KeyboardInterrupt):
    _stop_after(6, config, stopped)
  assert len(_rows(stopped, 'validation')) == 1
  mix.mix(config, tmp_path, stopped)
  again = checkpoint.load_params(stopped)
  for actual, expected in zip(
    *map(jax.tree.leaves, (again['colorizer'], after['colorizer'])),
    strict=True,
  ):
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def _stop_after(updates, config, workdir):
  """Raises KeyboardInterrupt when the checkpoint of an update is due."""
  given = mix.make_feed

  def make_feed(*arguments):
    feed = given(*arguments)
    read = type(feed).__next__

    class Stopping(type(feed)):
      def __next__(self):
        if self.get_state()['samples'] >= 2 * updates:
          raise KeyboardInterrupt
        return read(self)

    feed.__class__ = Stopping
    return feed

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(mix, 'make_feed', make_feed)
    mix.mix(config, workdir, workdir)


def test_some_windows_lose_their_anchor(windows):
  drawn = [
    mix._draw(0, np.random.default_rng(seed), windows).sample.inputs
    for seed in range(50)
  ]
  anchored = [candidates.unpack(x)[1].anchored.any() for x in drawn]
  assert 2 < 50 - sum(anchored) < 22


def test_the_rate_rises_and_falls():
  config = make_config('', updates=400, run=8, learning_rate=0.5)
  rate = mix.schedule(config.mix)
  actual = [rate(n) for n in (0, 25, 50, 425, 800)]
  np.testing.assert_allclose(actual, [0, 0.25, 0.5, 0.25, 0], atol=1e-6)


def test_a_whole_run_from_videos(tiny_weights, tmp_path):
  for name in ('a.mp4', 'b.mp4'):
    write_video(tmp_path / 'videos' / name, frames=20)
  config = make_config(tiny_weights, windows=2, **RUN)  # Is compiled above.
  mix.mix(config, tmp_path / 'videos', tmp_path / 'run')
  rows = _rows(tmp_path / 'run')
  assert rows[-1]['loss'] < rows[0]['loss']
  assert not (tmp_path / 'run/validation.jsonl').exists()


@pytest.mark.parametrize(
  'change, message',
  [
    ({'train.init': ''}, 'config.train.init must name weights'),
    ({'train.init': 'nowhere'}, 'nowhere'),
    ({'model.mixture.channels': 0}, 'has no mixture that learns'),
    ({'model.colorizer.kind': 'u_net'}, 'has no mixture that learns'),
    ({'model.mixture.channels': 5}, 'another architecture'),
    ({'mix.batch_size': 3}, 'config.mix.batch_size=3 cannot be divided evenly'),
    ({}, '`videos=.*` has no files'),
    ({'mix.validation': 'nowhere'}, '`config.mix.validation=nowhere` does not'),
  ],
)
def test_bad_input_is_reported_before_windows_are_made(
  tiny_weights, tmp_path, monkeypatch, change, message
):
  monkeypatch.setattr(scenes, 'find_shots', None)
  config = make_config(tiny_weights)
  config.update_from_flattened_dict(change)
  videos = tmp_path / 'videos'
  videos.mkdir()
  if change:
    write_video(videos / 'a.mp4', frames=17)
  with pytest.raises(UserError, match=message):
    mix.mix(config, videos, tmp_path / 'run')
