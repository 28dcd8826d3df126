"""export: programs give the results of the library, and do not import it."""

import functools
import hashlib
import json
import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.vitexco import get_config
from vitexco_jax import checkpoint, flow
from vitexco_jax.generator import abstract_params, make_generator
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.models.references import combine
from vitexco_jax.models.vitexco import colorize_clip
from vitexco_jax.tools import export


@pytest.fixture(scope='module')
def exported(tiny_weights, tmp_path_factory):
  path = tmp_path_factory.mktemp('exported') / 'tiny'
  export.export_run(tiny_weights, path)
  return path


@pytest.fixture(scope='module')
def call(exported):
  """Calls a program of the networks as its file stands on the disk."""
  params = dict(np.load(exported / 'stablehlo/params.npz'))

  def call(name, **arguments):
    path = exported / f'stablehlo/{name}.stablehlo'
    program = jax.jit(jax.export.deserialize(path.read_bytes()).call)
    return program(params=params, **arguments)

  return call


def _random(*shape, seed=0):
  return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
  'b, t, size, reference_size, count',
  [(1, 3, (32, 48), (64, 32), 1), (2, 2, (48, 32), (48, 32), 2)],
)
def test_programs_equal_the_networks(
  exported, call, b, t, size, reference_size, count
):
  generator = make_generator(checkpoint.load_config(exported), in_use=True)
  params = checkpoint.load_params(exported)

  def apply(*arguments, method):
    return generator.apply({'params': params}, *arguments, method=method)

  @jax.jit
  def colorize_block(luminance, references, previous, backward_flow):
    seen = jnp.concatenate([previous[:, None, ..., :1], luminance], 1)
    guidance = apply(
      seen, combine(references), backward_flow, method='guide_along'
    )
    return colorize_clip(
      functools.partial(apply, method='colorize_frame'),
      luminance,
      guidance,
      previous,
      backward_flow=backward_flow,
    )

  pictures = [_random(b, *reference_size, 3, seed=i) for i in range(count)]
  luminance = 60 * _random(b, t, *size, 1, seed=8) - 30
  previous = 20 * _random(b, *size, 3 + generator.carried, seed=9)
  backward_flow = 4 * _random(b, t, *size, 2, seed=10) - 2
  encode = jax.jit(functools.partial(apply, method='encode_reference'))
  wanted = [encode(rgb) for rgb in pictures]
  predicted, last = colorize_block(luminance, wanted, previous, backward_flow)
  ab = predicted[..., :2]
  assert np.ptp(ab) > 10

  actual = [call('encode_reference', rgb=rgb) for rgb in pictures]
  for one, other in zip(actual, wanted, strict=True):
    for name in one:
      np.testing.assert_allclose(one[name], getattr(other, name), atol=1e-3)
  answer = call(
    'colorize',
    luminance=luminance,
    keys=np.concatenate([x['keys'] for x in actual], 1),
    ab=np.concatenate([x['ab'] for x in actual], 1),
    previous=previous,
    backward_flow=backward_flow,
  )
  # The softmax of the matching amplifies rounding errors 100 times.
  for actual, wanted in (
    (answer['ab'], ab),
    (answer['last'], last),
  ):
    error = np.abs(actual - wanted)
    assert error.max() < 0.1 and error.mean() < 1e-3


@pytest.mark.parametrize('moves', [True, False])
def test_runner_equals_the_library(exported, tmp_path, moves):
  """Upright frames that are shrunk, padded, and more than a block."""
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (9, 150, 90, 3), np.uint8)
  reference = rng.integers(0, 256, (50, 60, 3), np.uint8)
  colorizer = VideoColorizer.from_checkpoint(
    exported, {'use.flicker_memory': 0.0, 'use.grain_filter': 0.0}
  )
  seen = []
  with pytest.MonkeyPatch.context() as monkeypatch:
    estimate = flow.backward_flow

    def note(gray, previous, alpha):
      seen.append(estimate(gray, previous, alpha))
      return seen[-1]

    monkeypatch.setattr(flow, 'backward_flow', note)
    expected = []
    for rgb in frames:
      if not (moves and expected):
        colorizer.set_reference(reference)
      expected += colorizer.colorize([rgb])

  np.save(tmp_path / 'frames.npy', frames)
  np.save(tmp_path / 'reference.npy', reference)
  np.save(tmp_path / 'flow.npy', np.stack(seen))
  names = ['frames', 'reference', 'colored'] + ['flow'] * moves
  subprocess.run(
    [
      sys.executable,
      exported / 'stablehlo/run.py',
      *(f'{tmp_path}/{name}.npy' for name in names),
    ],
    cwd=tmp_path,  # From where Vitexco is not seen.
    check=True,
  )
  actual = np.load(tmp_path / 'colored.npy')
  assert actual.dtype == np.uint8
  error = np.abs(np.int16(actual) - np.int16(expected))
  # The library's programs and the exported ones are compiled separately, the latter
  # with fewer optimizations, so XLA adds in another order. The softmax of the matching
  # amplifies such rounding errors 100 times (see above). At the border of RGB an
  # error of ab can therefore move a channel by 2 levels.
  assert error.max() <= 2 and (error > 1).mean() < 1e-4 and error.mean() < 0.01


def test_versions_are_stored(exported):
  folder = exported / 'stablehlo'
  about = json.loads((folder / 'programs.json').read_text())
  digest = hashlib.sha256((folder / 'params.npz').read_bytes()).hexdigest()
  assert about['params_sha256'] == digest
  assert about['config'] == json.loads((exported / 'config.json').read_text())
  assert about['format'] == export.FORMAT and about['jax'] == jax.__version__
  for name, described in about['programs'].items():
    encoded = (folder / f'{name}.stablehlo').read_bytes()
    program = jax.export.deserialize(encoded)
    assert about['platforms'] == list(program.platforms) == ['cpu', 'cuda']
    version = program.calling_convention_version
    assert about['calling_convention'] == version
    assert set(described) == {'takes', 'gives'}


@pytest.mark.parametrize(
  'kinds',
  [
    {
      'model.dtype': 'bfloat16',
      'model.colorizer.residual': '',
      'model.vit.variant': 'Ti/8',
    },
    {
      'model.feature_transform.kind': 'bilinear',
      'model.stem': 'efficientnet_lite0',
      'use.temperature': 0.0,
    },
  ],
)
def test_every_kind_of_network_has_programs(kinds):
  config = get_config('tiny')
  config.update_from_flattened_dict(kinds)
  params = flax.traverse_util.flatten_dict(abstract_params(config), sep='/')
  result = export.make_programs(make_generator(config, in_use=True), params)
  assert list(result)[1:3] == ['encode_reference', 'colorize']


def test_failed_programs_leave_no_files(tiny_weights, tmp_path, monkeypatch):
  def fail(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(np, 'savez', fail)
  with pytest.raises(export.UserError, match='made`: No space left'):
    export.export_run(tiny_weights, tmp_path / 'made')
  assert not list(tmp_path.iterdir())
