"""Checkpoints and exports: round trips and refused input."""

import json
import os

import flax
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from configs.vitexco import get_config
from vitexco_jax import checkpoint
from vitexco_jax.errors import UserError
from vitexco_jax.generator import abstract_params
from vitexco_jax.tools import export
from vitexco_jax.training.train import TrainState


@pytest.fixture(scope='module')
def config():
  return get_config('tiny')


@pytest.fixture(scope='module')
def params(config):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32),
    abstract_params(config),
  )


@pytest.fixture(scope='module')
def state(params):
  """A state in the midst of accumulation, as training has it."""
  params = params | {'discriminator': {'gate': np.float32(0.5)}}
  optimizer = optax.MultiSteps(optax.adamw(1e-3), 3)
  rng = np.random.default_rng(1)
  result = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(x.dtype),
    jax.eval_shape(optimizer.init, params),
  )
  result = result._replace(mini_step=np.int32(1))
  return TrainState(
    micro_step=np.int32(4),
    params=params,
    optimizer=result,
    spectral={'u': np.ones((1, 3), np.float32)},
    key=np.array([1, 2], np.uint32),
  )


def _assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for x, y in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def _workdir(path, config, state, *steps):
  checkpoint.write_config(path, config)
  checkpoints = checkpoint.Checkpoints(path)
  for step in steps:
    checkpoints.save(step, state, {'samples': 8 * step})
  checkpoints.close()
  return path


def test_a_restored_state_is_identical(tmp_path, config, state):
  _workdir(tmp_path, config, state, 4)
  checkpoints = checkpoint.Checkpoints(tmp_path)
  assert checkpoints.latest_step() == 4
  abstract = jax.eval_shape(lambda: state)
  actual, feed = checkpoints.restore(4, abstract)
  checkpoints.close()
  assert feed == {'samples': 32}
  assert isinstance(actual, TrainState)
  _assert_equal(actual, state)


def test_only_the_newest_three_remain(tmp_path, config, state):
  _workdir(tmp_path, config, state, 2, 4, 6, 10)
  steps = sorted(int(x.name) for x in (tmp_path / 'checkpoints').iterdir())
  assert steps == [4, 6, 10]


def test_empty_folder_is_not_the_newest_step(tmp_path, config, state):
  _workdir(tmp_path, config, state, 4)
  (tmp_path / 'checkpoints' / '6').mkdir()
  assert checkpoint.load_params(tmp_path)
  checkpoints = checkpoint.Checkpoints(tmp_path)
  assert checkpoints.latest_step() == 4
  checkpoints.save(6, state, {})  # And it does not block saving.
  checkpoints.close()
  assert checkpoint.Checkpoints(tmp_path).latest_step() == 6


@pytest.mark.parametrize('name', ['save', 'wait_until_finished'])
def test_a_state_that_cannot_be_written_is_reported(
  tmp_path, monkeypatch, state, name
):
  def fail(*_, **__):
    raise ValueError('OUT_OF_RANGE')  # Orbax's, where the disk is full.

  monkeypatch.setattr(checkpoint.ocp.CheckpointManager, name, fail)
  checkpoints = checkpoint.Checkpoints(tmp_path)
  with pytest.raises(
    UserError, match='cannot write a checkpoint to .*disk may be full'
  ):
    checkpoints.save(4, state, {})
    checkpoints.close()


def test_state_of_another_architecture_is_refused(tmp_path, config, state):
  _workdir(tmp_path, config, state, 4)
  other = state._replace(
    params=state.params | {'discriminator': {'gate': np.zeros(2, np.float32)}}
  )
  checkpoints = checkpoint.Checkpoints(tmp_path)
  with pytest.raises(
    UserError, match=r'4 has another arch.*discriminator/gate is \(\) instead'
  ):
    checkpoints.restore(4, jax.eval_shape(lambda: other))
  checkpoints.close()


def test_state_of_another_optimizer_is_refused(tmp_path, config, state):
  """As when other groups of parameters are frozen."""
  _workdir(tmp_path, config, state, 4)
  optimizer = optax.MultiSteps(optax.adamw(1e-3), 3)
  learning = {'discriminator': state.params['discriminator']}
  other = state._replace(optimizer=optimizer.init(learning))
  checkpoints = checkpoint.Checkpoints(tmp_path)
  with pytest.raises(UserError, match='4 is damaged or has another config'):
    checkpoints.restore(4, jax.eval_shape(lambda: other))
  checkpoints.close()


def test_export_rounds_to_float16(tmp_path, config, params):
  checkpoint.export(tmp_path / 'made', params, config)
  actual = checkpoint.load_params(tmp_path / 'made')
  rounded = jax.tree.map(
    lambda x: x.astype(np.float16).astype(np.float32), params
  )
  _assert_equal(actual, rounded)
  assert checkpoint.load_config(tmp_path / 'made').use.size == (64, 96)
  assert [x.name for x in tmp_path.iterdir()] == ['made']


def test_workdir_gives_its_newest_generator(tmp_path, config, params, state):
  _workdir(tmp_path, config, state, 2)
  newer = state._replace(params=jax.tree.map(lambda x: x + 1, state.params))
  checkpoints = checkpoint.Checkpoints(tmp_path)
  checkpoints.save(4, newer, {})
  checkpoints.close()
  expected = jax.tree.map(lambda x: x + 1, params)
  _assert_equal(checkpoint.load_params(tmp_path), expected)


def test_an_export_contains_no_paths(tmp_path, config, params):
  checkpoint.export(tmp_path / 'made', params, config)
  files = [x for x in (tmp_path / 'made').rglob('*') if x.is_file()]
  assert not [x for x in files if str(tmp_path).encode() in x.read_bytes()]
  checkpoint.load_params(tmp_path / 'made')


def test_export_mode_exports_a_run_once(tmp_path, config, state, capsys):
  run = _workdir(tmp_path / 'run', config, state, 2)
  export.export_run(run, tmp_path / 'made')
  assert 'made' in capsys.readouterr().out
  assert checkpoint.load_params(tmp_path / 'made')
  with pytest.raises(UserError, match=r'made exists'):
    export.export_run(run, tmp_path / 'made')


@pytest.mark.parametrize('error', [OSError, ValueError])
def test_a_failed_export_leaves_no_files(
  tmp_path, monkeypatch, config, state, error
):
  run = _workdir(tmp_path / 'run', config, state, 2)

  def fail(*_, **__):
    raise error('no room')

  monkeypatch.setattr(checkpoint.ocp.StandardCheckpointer, 'save', fail)
  with pytest.raises(
    UserError, match=r'cannot write `output=.*made`: (no room|the disk may)'
  ):
    export.export_run(run, tmp_path / 'made')
  assert [x.name for x in tmp_path.iterdir()] == ['run']


def test_missing_and_partial_checkpoints_are_refused(tmp_path, config, params):
  with pytest.raises(UserError, match=r'no checkpoint .*none'):
    checkpoint.load_params(tmp_path / 'none')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(
    UserError, match=r'empty is not a complete .*config\.json'
  ):
    checkpoint.load_params(tmp_path / 'empty')

  checkpoint.write_config(tmp_path / 'begun', config)
  with pytest.raises(UserError, match=r'begun is not an export'):
    checkpoint.load_params(tmp_path / 'begun')
  assert [x.name for x in (tmp_path / 'begun').iterdir()] == ['config.json']

  checkpoint.export(tmp_path / 'cut', params, config)
  (tmp_path / 'cut/params/_METADATA').unlink()
  with pytest.raises(UserError, match=r'cut/params is incomplete or damaged'):
    checkpoint.load_params(tmp_path / 'cut')

  (tmp_path / 'cut/config.json').write_text('{"seed": 0}')
  with pytest.raises(UserError, match=r'config\.json'):
    checkpoint.load_params(tmp_path / 'cut')


def test_another_architecture_lists_what_differs(tmp_path, config, params):
  flat = flax.traverse_util.flatten_dict(params, sep='/')
  flat['colorizer/extra/bias'] = np.zeros(1, np.float32)
  flat['colorizer/output/bias'] = np.zeros(5, np.float32)
  del flat['colorizer/layer0/bias']
  other = flax.traverse_util.unflatten_dict(flat, sep='/')
  checkpoint.export(tmp_path / 'made', other, config)
  with pytest.raises(UserError) as caught:
    checkpoint.load_params(tmp_path / 'made')
  message = str(caught.value)
  assert 'made has another architecture' in message
  assert 'colorizer/layer0/bias is missing' in message
  assert 'colorizer/extra/bias is unexpected' in message
  assert 'colorizer/output/bias is (5,) instead of (9,)' in message


def test_a_long_list_of_differences_is_shortened(config, params):
  with pytest.raises(UserError, match=r'; and \d+ more$'):
    checkpoint.check_params({'vit': params['vit']}, params, 'it')


def test_shapes_are_checked_before_arrays_are_read(
  tmp_path, monkeypatch, config, params
):
  flat = flax.traverse_util.flatten_dict(params, sep='/')
  flat['colorizer/output/bias'] = np.zeros(2**20, np.float32)
  other = flax.traverse_util.unflatten_dict(flat, sep='/')
  checkpoint.export(tmp_path / 'made', other, config)
  monkeypatch.setattr(checkpoint.ocp.Checkpointer, 'restore', None)
  with pytest.raises(
    UserError, match=r'output/bias is \(1048576,\) instead of'
  ):
    checkpoint.load_params(tmp_path / 'made')


def test_chunks_and_types_that_a_shape_does_not_need_are_refused():
  def array(dtype, chunk):
    storage = ocp.metadata.StorageMetadata(chunk, None)
    return ocp.metadata.ArrayMetadata('a', None, (2, 3), None, dtype, storage)

  checkpoint._check_stored(array(np.dtype('float16'), (2, 3)))
  for wrong in (
    array(np.dtype('float16'), (2, 10**9)),
    array(np.dtype('int8'), (2, 3)),
    array(np.dtype('U1000'), (2, 3)),
  ):
    with pytest.raises(ValueError, match='a is '):
      checkpoint._check_stored(wrong)


def test_a_pipe_in_an_export_is_refused(tmp_path, config, params):
  checkpoint.export(tmp_path / 'made', params, config)
  (tmp_path / 'made/params/manifest.ocdbt').unlink()
  os.mkfifo(tmp_path / 'made/params/manifest.ocdbt')
  with pytest.raises(UserError, match='manifest.ocdbt: it is a pipe'):
    checkpoint.load_params(tmp_path / 'made')


@pytest.mark.parametrize(
  'name, value, sentence',
  [
    ('model', [1], 'config.json: there is no config.model.vit.variant'),
    ('use', None, 'config.json: config.use=None must be a group'),
    ('use.size', 'wide', r'config.use.size=wide must be \(height, width\)'),
    ('use.size', [64], r'config.use.size=\[64\] must be \(height, width\)'),
    ('use.size', [64, -96], 'must be .* at least 32 on both sides'),
    ('use.size', [64, '96'], r'config.use.size=.* must be \(height, width\)'),
    ('use.temperature', '0.02', 'config.use.temperature=0.02 must be a number'),
    ('use.refine', 1.5, 'config.use.refine=1.5 must be a whole number'),
    ('use.enlarge', True, 'config.use.enlarge=True must be a whole number'),
    ('model.vit.taps', [1, [1], 2, 2, 2], 'vit.taps=.* must be five blocks'),
    ('model.vit.taps', {}, 'vit.taps={} must be five blocks'),
    ('model.vit.variant', 3, 'vit.variant=3 must be one of Ti/16'),
    (
      'model.vit.variant',
      'x/16',
      r'config.json: config.model.vit.variant=x/16',
    ),
    ('model.prior.width', 1e300, 'is not a config of this version: '),
    ('model.colorizer.more', 1, 'config.model.colorizer.more is unknown'),
    ('more', {'more': 'x' * 100}, 'config.more is unknown'),
    ('format', 99, 'the format is 99, but .*: update the program'),
    ('format', 'x', 'the format is x, but'),
    ('data.size', [10**12, 10**12], 'is not a config of this version: '),
    ('__class__', 1, 'config.__class__ is unknown'),
  ],
)
def test_invalid_configs_are_refused(tmp_path, config, name, value, sentence):
  flat = flax.traverse_util.flatten_dict(config.to_dict(), sep='.')
  flat = {x: y for x, y in flat.items() if not x.startswith(f'{name}.')}
  values = flax.traverse_util.unflatten_dict(flat | {name: value}, sep='.')
  (tmp_path / 'config.json').write_text(json.dumps(values))
  with pytest.raises(UserError, match=sentence) as caught:
    checkpoint.load_params(tmp_path)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['variant', 'data', 'model'])
def test_configs_without_a_required_value_are_refused(tmp_path, config, name):
  flat = flax.traverse_util.flatten_dict(config.to_dict(), sep='.')
  flat = {x: y for x, y in flat.items() if not f'{x}.'.startswith(f'{name}.')}
  values = flax.traverse_util.unflatten_dict(flat, sep='.')
  (tmp_path / 'config.json').write_text(json.dumps(values))
  with pytest.raises(UserError, match=r'config.json.*' + name):
    checkpoint.load_params(tmp_path)


@pytest.mark.parametrize(
  'name, value',
  [
    ('model.vit.taps', (1, 1, 2, 2, 3)),
    ('model.vit.taps', (1, 1, 2, 2)),
    ('model.vit.variant', 'Ti/17'),
  ],
)
def test_settings_that_do_not_fit_are_named(name, value):
  config = get_config('tiny')
  config.update_from_flattened_dict({name: value})
  with pytest.raises(UserError, match=rf'config\.{name}='):
    abstract_params(config)
