"""Films on a cluster: the same bytes as on one machine, also after a kill."""

import concurrent.futures
import importlib.util
import os
import pickle
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calls import ROOT, environment
from films import COUNT, make_plan, run_film
from painter import Painter

from vitexco_jax import beam
from vitexco_jax.errors import UserError
from vitexco_jax.inference import cluster, plan
from vitexco_jax.inference.plan import Shot

OUTPUT = 'out.mkv'
# Stretches: 0 to 1, 2 to 6, 7 and 8, and the second shot.
EDGES = 2, 7, 9


@pytest.fixture
def made(source, still):
  return make_plan(
    source,
    Shot(0, EDGES[2], (still('red', frame=2), still('green', frame=7))),
    Shot(EDGES[2], COUNT, (still('green'),)),
  )


@pytest.fixture
def painter():
  painter = Painter()
  painter.config.use.still_agreement = 0.0  # The references are plain colors.
  return painter


@pytest.fixture
def alone(source, made, painter, tmp_path, small_blocks):
  """The film of one machine."""
  run_film(source, made, tmp_path / 'alone' / OUTPUT, painter=painter)
  return (tmp_path / 'alone' / OUTPUT).read_bytes()


@pytest.fixture
def runner(monkeypatch, painter):
  """Replaces Beam: elements are pickled, and processed in this process."""
  free = queue.SimpleQueue()
  free.put(painter)
  monkeypatch.setattr(cluster, '_colorizers', lambda _: free)
  done = []

  def run(name, work, elements, options):
    for element in map(pickle.dumps, elements):
      if options == '--fails' and len(done) == 2:
        raise RuntimeError('a worker was killed')
      work(pickle.loads(element))
      done.append(element)

  monkeypatch.setattr(beam, 'run', run)
  return done


def _workers(options='--runner=X'):
  return cluster.Workers.of(options, 'small', {})


def test_a_cluster_writes_the_film_of_one_machine(
  source, made, painter, alone, runner, tmp_path, caplog
):
  output = tmp_path / OUTPUT
  steps, _ = run_film(source, made, output, painter=painter, workers=_workers())
  assert output.read_bytes() == alone
  assert not steps and len(runner) == 4
  assert '4 of 4 stretches are sent to the workers' in caplog.text
  assert not (tmp_path / f'{OUTPUT}.part').exists()


@pytest.mark.parametrize('on_cluster', [True, False])
def test_the_next_run_colorizes_only_what_is_missing(
  source, made, painter, alone, runner, tmp_path, on_cluster
):
  output = tmp_path / OUTPUT
  with pytest.raises(RuntimeError, match='killed'):
    run_film(source, made, output, painter=painter, workers=_workers('--fails'))
  runner.clear()
  workers = _workers() if on_cluster else None
  steps, _ = run_film(source, made, output, painter=painter, workers=workers)
  assert len(runner) == (2 if on_cluster else 0)
  assert {x.number for x in steps} == (
    set() if on_cluster else {*range(EDGES[1], COUNT)}
  )
  assert output.read_bytes() == alone


def test_a_film_is_not_assembled_without_all_blocks(
  source, made, painter, tmp_path, monkeypatch
):
  monkeypatch.setattr(beam, 'run', lambda *_: None)
  output = tmp_path / OUTPUT
  with pytest.raises(UserError, match='frames 0 to 1 are not in .*share this'):
    run_film(source, made, output, painter=painter, workers=_workers())
  assert not output.exists()


def test_wrong_workers_are_reported(
  source, made, painter, runner, tmp_path, monkeypatch
):
  output, work = tmp_path / OUTPUT, cluster.color_task
  part = tmp_path / f'{OUTPUT}.part'

  def check(order):
    gone = order.job._replace(path=tmp_path / 'gone.mkv')
    for other, message in (
      ({'settings': ''}, f'does not see {part}: name an `output` in a folder'),
      ({'job': gone}, 'does not see .*gone.mkv: put it into a folder'),
      ({'version': '0.1'}, 'not 0.1: install the same program'),
      ({'fingerprint': ''}, 'has other weights in small than the machine'),
    ):
      with pytest.raises(UserError, match=message):
        work(order._replace(**other))
    runner.append(order)

  monkeypatch.setattr(cluster, 'color_task', check)
  monkeypatch.setattr(pickle, 'dumps', lambda order: order)
  monkeypatch.setattr(pickle, 'loads', lambda order: order)
  with pytest.raises(UserError, match='are not in'):
    run_film(source, made, output, painter=painter, workers=_workers())
  assert runner


def test_two_workers_do_not_write_the_same_stretch(
  source, made, painter, alone, runner, tmp_path, monkeypatch
):
  output, work = tmp_path / OUTPUT, cluster.color_task

  def twice(order):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      list(pool.map(work, [order, order]))

  painted = []
  predict = painter.predict

  def count(frames):
    for prediction in predict(frames):
      painted.append(1)
      yield prediction

  monkeypatch.setattr(painter, 'predict', count)
  monkeypatch.setattr(cluster, 'color_task', twice)
  monkeypatch.setattr(pickle, 'dumps', lambda order: order)
  monkeypatch.setattr(pickle, 'loads', lambda order: order)
  run_film(source, made, output, painter=painter, workers=_workers())
  assert output.read_bytes() == alone
  forwards, backwards = COUNT - EDGES[0], EDGES[0] + 1 + EDGES[1] - EDGES[0] + 1
  assert len(painted) == forwards + backwards


@pytest.fixture
def home(tmp_path, made, source, tiny_weights):
  plan.write(tmp_path / 'plan.json', made)
  return tmp_path


def _sdk_workers(root):
  """Returns the ids of the worker processes of a program."""
  parents, workers = {}, []
  for folder in Path('/proc').glob('[0-9]*'):
    try:
      command = (folder / 'cmdline').read_bytes().split(b'\0')
      above = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
    except OSError:  # It has ended.
      continue
    parents[int(folder.name)] = above
    # Each has a shell above it.
    if b'apache_beam.runners.worker.sdk_worker_main' in command:
      workers.append(int(folder.name))
  return [x for x in workers if parents.get(parents[x]) == root]


@pytest.mark.skipif(
  importlib.util.find_spec('apache_beam') is None,
  reason='Apache Beam is not installed: requirements/beam.txt',
)
def test_a_killed_worker_process_loses_nothing(home, source, tiny_weights):
  call = [
    *(sys.executable, str(ROOT / 'launch.py'), '--mode=colorize'),
    *(f'--video={source}', '--plan=plan.json', f'--checkpoint={tiny_weights}'),
  ]
  options = {
    'cwd': home,
    'env': environment() | {'PYTHONPATH': str(ROOT)},
    'stderr': subprocess.STDOUT,
    'stdout': subprocess.PIPE,
    'text': True,
  }
  subprocess.run([*call, '--output=alone/out.mkv'], **options, check=True)
  call += [
    f'--output={OUTPUT}',
    '--beam=--runner=DirectRunner --direct_running_mode=multi_processing '
    '--direct_num_workers=2',
  ]
  program = subprocess.Popen(call, **options)
  deadline = time.monotonic() + 120
  part = home / f'{OUTPUT}.part'
  while not [*part.glob('[0-9]*.json')] and time.monotonic() < deadline:
    time.sleep(0.02)
  first, _ = _sdk_workers(program.pid)
  os.kill(first, signal.SIGKILL)
  said, _ = program.communicate(timeout=120)
  assert program.returncode == 1
  assert 'was killed, perhaps because' in said.splitlines()[-1], said
  done = subprocess.run(call, **options, timeout=120, check=False)
  assert done.returncode == 0, done.stdout
  expected = (home / 'alone' / OUTPUT).read_bytes()
  assert (home / OUTPUT).read_bytes() == expected
