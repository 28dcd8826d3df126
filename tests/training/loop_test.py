"""Whole runs of training: their files, interruptions, and resumed runs."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import optax
import pytest
import tiny_weights
from flax import traverse_util
from tiny_training import GROUPS, make_config, random_clips

from configs.vitexco import get_config
from vitexco_jax import checkpoint
from vitexco_jax.errors import UserError
from vitexco_jax.generator import abstract_params
from vitexco_jax.retrieval import embedding
from vitexco_jax.training import train


class _Feed:
  """Random clips; `hook` can change each batch."""

  skipped = 0

  def __init__(self, batch_size, hook=lambda number, clips: clips):
    self._batch_size, self._hook = batch_size, hook
    self._given = 0

  def __next__(self):
    self._given += 1
    return self._hook(self._given, random_clips(self._batch_size, self._given))

  def get_state(self):
    return {'batches': self._given}

  def set_state(self, state):
    self._given = state['batches']


GRID = 5  # Side of the position embeddings in the initial ViT weights.


@pytest.fixture(scope='module', autouse=True)
def vit_file(tmp_path_factory):
  """Weights of a frozen ViT in the current folder."""
  folder = tmp_path_factory.mktemp('vit')
  tiny_weights.write_vit(folder / 'Ti_16.npz', GRID)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    yield folder / 'Ti_16.npz'


def _run_config():
  config = make_config('l1', 'temporal')
  config.train.vit_weights = 'Ti_16.npz'
  config.augment.luminance_noise = 2.0
  config.model.feature_transform.dropout = 0.3
  config.train.learning_rate.vit = 0.0
  config.train.batch_size = 4
  config.train.accumulation = 2
  return config


def _replace_feed(monkeypatch, *hook):
  feed = train.input_pipeline
  monkeypatch.setattr(feed, 'open_records', lambda *_: None)
  monkeypatch.setattr(
    feed, 'make_iterator', lambda *_, batch_size, **__: _Feed(batch_size, *hook)
  )


def _train(monkeypatch, workdir, *hook, init=''):
  _replace_feed(monkeypatch, *hook)
  config = _run_config()
  if init:
    config.train.init, config.train.vit_weights = str(init), ''
  train.train(config, workdir)


def _press_ctrl_c(at):
  """A hook that presses Ctrl-C while batch number `at` is made."""

  def press(number, clips):
    if number == at:
      os.kill(os.getpid(), signal.SIGINT)
    return clips

  return press


def _rows(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [
    {name: x for name, x in row.items() if not name.endswith('_per_second')}
    for row in rows
  ]


@pytest.fixture(scope='module')
def traced():
  """One entry for each compilation of the step of `uninterrupted`."""
  return []


@pytest.fixture(scope='module')
def programs():
  """The steps of `uninterrupted` and of runs like it, by number of devices.

  Otherwise each run would trace the same step, which takes most of its time.
  """
  return {}


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory, traced, programs):
  workdir = tmp_path_factory.mktemp('run')
  make_step = train.make_step

  def make_watched_step(*args):
    step = make_step(*args)

    def watched(state, clips):
      traced.append(watched)
      return step(state, clips)

    return watched

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(train, 'make_step', make_watched_step)
    _share_programs(monkeypatch, programs)
    _train(monkeypatch, workdir)
  return workdir


@pytest.fixture
def same_programs(uninterrupted, programs, monkeypatch):
  _share_programs(monkeypatch, programs)


def _share_programs(monkeypatch, programs):
  pmap = jax.pmap

  def shared(step, **kwargs):
    devices = jax.local_device_count()
    if devices not in programs:
      programs[devices] = pmap(step, **kwargs)
    return programs[devices]

  monkeypatch.setattr(jax, 'pmap', shared)


def test_the_step_is_compiled_once(uninterrupted, traced):
  assert len(traced) == 1


def test_workdir_has_contact_sheets_tensorboard_and_config(uninterrupted):
  strips = sorted(x.name for x in (uninterrupted / 'strips').iterdir())
  assert strips == ['000002.png', '000004.png']
  assert list((uninterrupted / 'tensorboard').glob('events.*'))
  config = checkpoint.load_config(uninterrupted)
  assert config.train.accumulation == 2
  assert config.model.vit.pos_grid == GRID


@pytest.mark.usefixtures('same_programs')
def test_a_run_stopped_by_ctrl_c_resumes_with_equal_results(
  uninterrupted, tmp_path, monkeypatch
):
  with pytest.raises(KeyboardInterrupt):  # During the third update.
    _train(monkeypatch, tmp_path, _press_ctrl_c(5))
  assert [row['update'] for row in _rows(tmp_path)] == [1, 2, 3]
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write(
      '{"update": 4, "loss": 0}\n{"upd'
    )  # From a run that was killed later.
  _train(monkeypatch, tmp_path)
  assert _rows(tmp_path) == _rows(uninterrupted)
  for x, y in zip(
    jax.tree.leaves(checkpoint.load_params(tmp_path)),
    jax.tree.leaves(checkpoint.load_params(uninterrupted)),
    strict=True,
  ):
    np.testing.assert_array_equal(x, y)


@pytest.mark.usefixtures('same_programs')
def test_a_run_resumes_with_fewer_and_with_more_devices(
  uninterrupted, tmp_path, monkeypatch
):
  workdir = tmp_path / 'run'
  shutil.copytree(uninterrupted, workdir)
  shutil.rmtree(workdir / 'checkpoints/8')  # Two of the four updates remain.
  begun = checkpoint.load_params(workdir)
  given = []

  def watch(number, clips):
    given.append(number)
    return _press_ctrl_c(5)(number, clips)

  (one, _) = jax.local_devices()
  with monkeypatch.context() as alone:
    alone.setattr(jax, 'local_devices', lambda: [one])
    alone.setattr(jax, 'local_device_count', lambda: 1)
    with pytest.raises(KeyboardInterrupt):
      _train(alone, workdir, watch)
  _train(monkeypatch, workdir, watch)

  assert given == [5, 6, 7, 8]
  actual, expected = _rows(workdir), _rows(uninterrupted)
  assert actual[:2] == expected[:2]
  assert actual[2] != expected[2]  # Each device draws its own noise.
  rates = [
    [row['learning_rate/colorizer'] for row in rows]
    for rows in (actual, expected)
  ]
  assert rates[0] == rates[1]
  # Noise and dropout change the direction of a step, but hardly its length.
  moved = [
    float(optax.tree.norm(jax.tree.map(np.subtract, params, begun)))
    for params in map(checkpoint.load_params, (workdir, uninterrupted))
  ]
  assert moved[0] == pytest.approx(moved[1], rel=0.2)


@pytest.mark.usefixtures('same_programs')
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
  def spoil(number, clips):
    if number < 6:
      return clips
    return clips._replace(flow=clips.flow * np.nan)

  with pytest.raises(
    UserError, match=r'because temporal is not finite in .* 6:'
  ):
    _train(monkeypatch, tmp_path, spoil)
  assert checkpoint.Checkpoints(tmp_path).latest_step() == 4
  for x in jax.tree.leaves(checkpoint.load_params(tmp_path)):
    assert np.isfinite(x).all()


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  with pytest.raises(
    UserError, match=r'write `workdir=.*run`: Not a directory'
  ):
    _train(monkeypatch, tmp_path / 'file' / 'run')


def test_a_run_cannot_resume_with_another_accumulation(tmp_path, monkeypatch):
  config = _run_config()
  checkpoint.write_config(tmp_path, config)
  (tmp_path / 'checkpoints/4/state').mkdir(parents=True)
  _replace_feed(monkeypatch)
  config.train.accumulation = 1
  with pytest.raises(UserError, match=r'accumulation=1.* was started with 2'):
    train.train(config, tmp_path)
  assert checkpoint.load_config(tmp_path).train.accumulation == 2


def test_log_has_every_term_and_rate(uninterrupted):
  rows = _rows(uninterrupted)
  learning = set(GROUPS) - {'vit'}
  assert [row['update'] for row in rows] == [1, 2, 3, 4]
  for row in rows:
    measured = ('follow/warped', 'follow/prediction')
    assert set(row) == {
      'update',
      'loss',
      'skipped_samples',
      *(measured if row['update'] % 2 == 0 else ()),  # With each strip.
      *(
        f'{kind}/{x}'
        for kind in ('raw', 'weighted', 'share')
        for x in ('l1', 'temporal')
      ),
      *(f'gradient_norm/{group}' for group in learning),
      *(f'learning_rate/{group}' for group in learning),
    }
    assert row['weighted/l1'] == pytest.approx(2 * row['raw/l1'])
    assert row['loss'] == pytest.approx(
      row['weighted/l1'] + row['weighted/temporal']
    )
    assert row['share/l1'] + row['share/temporal'] == pytest.approx(1)
    # The mean of two shares, not the share of two means.
    share = row['weighted/l1'] / row['loss']
    assert row['share/l1'] == pytest.approx(share, rel=0.02)
  # Linear decay over 4 updates; both micro-steps of an update have its rate.
  rates = [row['learning_rate/colorizer'] for row in rows]
  np.testing.assert_allclose(rates, 2e-4 * np.array([1, 0.75, 0.5, 0.25]))


@pytest.mark.usefixtures('same_programs')
def test_retrieval_and_later_runs_use_the_position_grid_of_a_run(
  uninterrupted, vit_file, tmp_path, monkeypatch
):
  config = get_config('tiny')
  config.retrieval.network = 'vit'
  config.train.init = str(uninterrupted)
  actual = embedding.make_embedder(config)
  config.train.update({'init': '', 'vit_weights': str(vit_file)})
  assert actual.settings == embedding.make_embedder(config).settings
  with pytest.raises(KeyboardInterrupt):
    _train(monkeypatch, tmp_path, _press_ctrl_c(2), init=uninterrupted)
  assert checkpoint.load_config(tmp_path).model.vit.pos_grid == GRID


def test_a_frozen_vit_is_unchanged_and_the_rest_learns(
  initial_state, uninterrupted, vit_file
):
  before = initial_state.params | {  # Of the same seed.
    'vit': traverse_util.unflatten_dict(dict(np.load(vit_file)), sep='/')
  }
  after = checkpoint.load_params(uninterrupted)
  for group in GROUPS:
    moved = [
      bool((x != y).any())
      for x, y in zip(
        jax.tree.leaves(before[group]),
        jax.tree.leaves(after[group]),
        strict=True,
      )
    ]
    assert any(moved) == (group != 'vit')


@pytest.mark.usefixtures('same_programs')
def test_starts_from_the_weights_of_an_export(tmp_path, monkeypatch):
  config = _run_config()
  config.model.vit.pos_grid = GRID  # As in the other runs.
  rng = np.random.default_rng(0)
  given = jax.tree.map(
    lambda x: rng.normal(0, 0.1, x.shape).astype(np.float16),
    abstract_params(config),
  )
  checkpoint.export(tmp_path / 'export', given, config)
  with pytest.raises(KeyboardInterrupt):
    _train(
      monkeypatch,
      tmp_path / 'run',
      _press_ctrl_c(2),
      init=tmp_path / 'export',
    )
  actual = checkpoint.load_params(tmp_path / 'run')
  for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(given), strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-3)  # After one update.
