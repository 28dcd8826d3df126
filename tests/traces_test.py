"""Stored traces: another process finds them; damage is ignored."""

import functools
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from pictures import make_frames, make_picture

from vitexco_jax import traces
from vitexco_jax.inference.video_colorizer import VideoColorizer

FOLDER = 'jax_compilation_cache_dir'
ROOT = Path(__file__).resolve().parent.parent
# Colorizes without tracing the networks.
CHILD = """if True:
  import sys

  import jax
  import numpy as np

  from vitexco_jax.inference.video_colorizer import VideoColorizer
  from vitexco_jax.models.vitexco import Generator

  def see(*_):
    raise AssertionError('the networks were traced')

  jax.config.update('jax_num_cpu_devices', 2)
  Generator.see = see
  weights, given, results = sys.argv[1:]
  reference, *frames = np.load(given)
  colorizer = VideoColorizer.from_checkpoint(weights)
  colorizer.set_reference(reference, first_frame=True)
  np.save(results, list(colorizer.colorize(frames)))
"""


@pytest.fixture
def use_folder():
  before = jax.config.values[FOLDER]
  yield functools.partial(jax.config.update, FOLDER)
  jax.config.update(FOLDER, before)


@pytest.fixture
def folder(use_folder, tmp_path):
  use_folder(str(tmp_path))
  return tmp_path / 'traces'


def test_a_second_process_does_not_trace_the_networks(tiny_weights, tmp_path):
  reference, frames = make_picture(), make_frames(9)
  colorizer = VideoColorizer.from_checkpoint(tiny_weights)
  colorizer.set_reference(reference, first_frame=True)
  colored = list(colorizer.colorize(frames))
  given, results = tmp_path / 'given.npy', tmp_path / 'results.npy'
  np.save(given, [reference, *frames])
  call = [sys.executable, '-c', CHILD, tiny_weights, given, results]
  subprocess.run(call, cwd=ROOT, check=True)
  np.testing.assert_array_equal(np.load(results), colored)


def test_a_program_is_traced_again_for_other_shapes_and_values(folder):
  traced = []

  def scale(setting, factor, tree):
    traced.append(factor)
    return jax.tree.map(lambda x: setting * factor * x, tree)

  def call(setting, factor, size):
    given = {'x': np.arange(size), 'y': (np.float32(1),)}
    program = traces.Program(scale, setting, static=1)
    result = jax.jit(lambda x: x)(program(factor, given))
    expected = jax.tree.map(lambda x: setting * factor * x, given)
    jax.tree.map(np.testing.assert_array_equal, result, expected)

  for setting, factor, size in ((2, 3, 4), (2, 3, 5), (2, 4, 5), (3, 4, 5)):
    call(setting, factor, size)
    count = len(traced)
    call(setting, factor, size)
    assert len(traced) == count
  assert traced == [3, 3, 4, 4] and len(list(folder.iterdir())) == 4


def test_inside_of_another_program_it_becomes_a_part_of_it(folder):
  double = traces.Program(lambda x: 2 * x)
  assert jax.jit(lambda x: double(x) + 1)(3.0) == 7
  assert not double.programs and not folder.exists()


def test_damaged_results_are_made_again(folder):
  assert traces.recall('a', 'key', lambda: b'first') == b'first'
  assert traces.recall('a', 'key', lambda: b'second') == b'first'
  (path,) = folder.iterdir()
  for damage in (b'', path.read_bytes()[:-1], b'x' * 40):
    path.write_bytes(damage)
    assert traces.recall('a', 'key', lambda: b'third') == b'third'
    assert traces.recall('a', 'key', lambda: b'fourth') == b'third'
  assert traces.recall('a', 'other', lambda: b'fifth') == b'fifth'


def test_settings_of_jax_are_part_of_the_key(folder):
  assert traces.recall('a', 'key', lambda: b'first') == b'first'
  with jax.default_matmul_precision('highest'):
    assert traces.recall('a', 'key', lambda: b'second') == b'second'


@pytest.mark.parametrize('place', ['', 'gs://bucket', '/dev/null/folder'])
def test_without_a_folder_everything_is_made(use_folder, place):
  use_folder(place)
  for _ in range(2):
    assert traces.recall('a', 'key', lambda: b'made') == b'made'
