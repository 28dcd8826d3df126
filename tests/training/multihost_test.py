"""Training on two hosts: two processes of this machine."""

import json
import signal
import socket
import time

import calls
import numpy as np
import pytest
import written_records

UPDATES = 3
_OFF = ('perceptual', 'contextual', 'temporal', 'smoothness')


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A folder with records, where the hosts run."""
  home = tmp_path_factory.mktemp('home')
  (home / 'records').mkdir()
  written_records.write(home / 'records', written_records.moving_runs())
  return home


def _start(home, devices, *arguments):
  return calls.start(
    home,
    calls.TINY,
    '--config.data.records=records',
    f'--config.train.updates={UPDATES}',
    '--config.train.batch_size=4',
    '--config.train.accumulation=2',
    '--config.train.schedule_power=0',  # Constant, so that it does not depend on the number of updates.
    '--config.train.checkpoint_every=1',
    # Compiles sooner, and still depends on the batches of all hosts.
    *(f'--config.loss.weights.{name}=0' for name in _OFF),
    *arguments,
    devices=devices,
  )


def _start_two(home, *arguments):
  with socket.create_server(('localhost', 0)) as server:
    port = server.getsockname()[1]
  return [
    _start(
      home,
      1,
      *arguments,
      f'--coordinator=localhost:{port}',
      '--hosts=2',
      f'--host={host}',
    )
    for host in range(2)
  ]


def _finish(*processes):
  """Waits; returns the exit codes and outputs."""
  message = [process.communicate(timeout=240)[1] for process in processes]
  return [process.returncode for process in processes], message


def _rows(workdir):
  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  return [
    {k: v for k, v in json.loads(x).items() if not k.endswith('_per_second')}
    for x in lines
  ]


@pytest.fixture(scope='module')
def alone(home):
  """One process with two devices."""
  codes, message = _finish(_start(home, 2, '--workdir=alone'))
  assert codes == [0], message
  return _rows(home / 'alone')


def _stop_after(home, updates, which, processes):
  """Sends SIGTERM to a host after a number of logged updates."""
  deadline = time.monotonic() + 240
  while len(_rows(home / 'both')) < updates and time.monotonic() < deadline:
    time.sleep(0.1)
  processes[which].send_signal(signal.SIGTERM)
  return _finish(*processes)


# Far more updates than the test waits for.
BOTH = ('--workdir=both', '--config.train.updates=10000')


@pytest.fixture(scope='module')
def stopped(home):
  """Two hosts with one device each; the second one was stopped."""
  codes, message = _stop_after(home, UPDATES, 1, _start_two(home, *BOTH))
  assert codes == [130, 130], message
  return _rows(home / 'both')


def test_two_hosts_train_like_two_devices(home, alone, stopped):
  assert [row['update'] for row in alone] == list(range(1, UPDATES + 1))
  assert len(stopped) >= UPDATES
  for actual, expected in zip(stopped, alone, strict=False):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
      if name.startswith('follow/'):
        continue  # Measured on the first host's share of the batch.
      # In the first update, the parameters are equal.
      tolerance = 1e-3 if actual['update'] == 1 else 0.05
      np.testing.assert_allclose(
        actual[name], value, rtol=tolerance, atol=1e-5, err_msg=name
      )
  names = {path.name for path in (home / 'both').iterdir()}
  assert names == {x.name for x in (home / 'alone').iterdir()}


def test_hosts_resume_after_one_was_stopped(home, stopped):
  codes, message = _stop_after(
    home, len(stopped) + 1, 0, _start_two(home, *BOTH)
  )
  assert codes == [130, 130], message
  rows = _rows(home / 'both')
  assert len(rows) > len(stopped)
  assert rows[: len(stopped)] == stopped
  assert [row['update'] for row in rows] == list(range(1, len(rows) + 1))


def test_a_batch_that_two_hosts_cannot_share_is_refused(home):
  codes, message = _finish(
    *_start_two(home, '--workdir=odd', '--config.train.batch_size=2')
  )
  assert codes == [1, 1]
  for text in message:
    last = text.splitlines()[-1]
    assert 'batch_size=2 cannot be divided evenly' in last, text
    assert '2 devices of 2 hosts' in last and 'Traceback' not in text


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    (('--coordinator=somewhere',), 'neither HOST:PORT'),
    (('--coordinator=localhost:1234',), 'needs --hosts'),
    (
      ('--coordinator=localhost:1234', '--hosts=2', '--host=2'),
      '--host=2 must be at least 0 and below --hosts=2',
    ),
    (('--coordinator=auto',), 'not a job of Cloud TPU, SLURM, or Open MPI'),
  ],
)
def test_invalid_host_flags_are_refused(home, arguments, sentence):
  codes, (message,) = _finish(_start(home, 1, *arguments))
  assert codes == [1] and sentence in message and 'Traceback' not in message
