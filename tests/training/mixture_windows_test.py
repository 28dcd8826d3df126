"""Windows: the same for the same seed, continued, and made again if damaged."""

import numpy as np
import pytest
from small_videos import write_video

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.training import candidates, mixture_windows, scenes


@pytest.fixture(scope='module')
def collector(tiny_weights):
  return candidates.CandidateCollector.from_checkpoint(
    tiny_weights, {'use.size': (32, 48)}
  )


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  for name in ('a.mp4', 'b.mp4'):
    write_video(folder / name, frames=20)
  return folder


@pytest.fixture
def config(videos):
  config = get_config('tiny')
  config.use.size = (32, 48)
  config.mix.windows = 3
  config.mix.validation = str(videos)
  return config


def _prepare(config, collector, videos, folder):
  folder.mkdir(exist_ok=True)
  return mixture_windows.prepare(config, collector, videos, folder)


def _content(windows):
  paths = windows.train + windows.validation
  return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope='module')
def whole(collector, videos, tmp_path_factory):
  config = get_config('tiny')
  config.use.size = (32, 48)
  config.mix.windows = 3
  config.mix.validation = str(videos)
  folder = tmp_path_factory.mktemp('whole')
  return _prepare(config, collector, videos, folder)


def test_windows_are_complete_and_differ(whole):
  assert len(whole.train) == 3 and len(whole.validation) == 1
  assert len(set(_content(whole).values())) == 4
  for path in whole.train:
    window = mixture_windows.load(path)
    shape = scenes.FRAMES, 16, 24
    assert window.inputs.shape == (*shape, candidates.CHANNELS)
    assert window.true_ab.shape == (*shape, 2)
    given = list(scenes.KINDS)[window.kind] == 'first'
    assert window.first.any() == given
    arrays = window.inputs, window.true_ab, window.first
    assert all(x.dtype == np.float16 and np.isfinite(x).all() for x in arrays)


def test_a_killed_run_continues_and_replaces_damaged_files(
  config, collector, videos, whole, tmp_path, monkeypatch
):
  make = mixture_windows.make
  made = []

  def stopping(*arguments):
    if len(made) == 2:
      raise KeyboardInterrupt
    made.append(arguments[3:])
    return make(*arguments)

  monkeypatch.setattr(mixture_windows, 'make', stopping)
  folder = tmp_path / 'windows'
  with pytest.raises(KeyboardInterrupt):
    _prepare(config, collector, videos, folder)
  monkeypatch.setattr(scenes, 'find_shots', None)  # They are stored.
  first = folder / 'train-00000.npz'
  first.write_bytes(first.read_bytes()[:-100])
  made.clear()
  monkeypatch.setattr(
    mixture_windows, 'make', lambda *x: made.append(x[3:]) or make(*x)
  )
  windows = _prepare(config, collector, videos, folder)
  assert made == [('train', 0), ('train', 2), ('validation', 0)]
  assert _content(windows) == _content(whole)


@pytest.mark.parametrize('change', ['seed', 'use', 'weights', 'videos'])
def test_windows_of_other_settings_are_refused(
  config, collector, videos, whole, tmp_path, monkeypatch, change
):
  if change == 'seed':
    config.seed = 7
  elif change == 'use':
    config.use.size = (48, 64)
  elif change == 'weights':
    other = type('Other', (), {'fingerprint': 'other'})
    collector = other()
  else:
    videos = tmp_path
    write_video(videos / 'other.mp4', frames=17)
  with pytest.raises(UserError, match=f'has windows of other {change}: name'):
    _prepare(config, collector, videos, whole.train[0].parent)


def test_a_full_disk_is_reported_before_the_first_window(
  config, collector, videos, tmp_path, monkeypatch
):
  usage = type('Usage', (), {'free': 10_000})
  monkeypatch.setattr(mixture_windows.shutil, 'disk_usage', lambda _: usage)
  monkeypatch.setattr(mixture_windows, 'make', None)
  with pytest.raises(UserError, match=r'4 windows take 0.0 GB, but the disk'):
    _prepare(config, collector, videos, tmp_path / 'windows')


@pytest.mark.parametrize('content', [None, b'', b'PK\x03\x04 and more'])
def test_unreadable_windows_are_named(tmp_path, content):
  path = tmp_path / 'train-00000.npz'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match='00000.npz is missing or damaged'):
    mixture_windows.load(path)
