"""launch.py as a process: help, version, errors, and exit status."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vitexco_jax

ROOT = Path(__file__).resolve().parent.parent


def _call(*arguments):
  return subprocess.run(
    [sys.executable, ROOT / 'launch.py', *arguments],
    capture_output=True,
    text=True,
  )


def test_an_error_ends_with_status_1_and_no_traceback():
  done = _call('--config.train.batchsize=3')
  assert done.returncode == 1 and not done.stdout
  assert done.stderr == (
    "error: the config has no 'train.batchsize'; did you mean"
    ' train.batch_size?\n'
  )


@pytest.mark.parametrize(
  'arguments', [(), ('-h',), ('--help',), ('--helpshort',)]
)
def test_help_names_modes_and_flags(arguments):
  done = _call(*arguments)
  assert done.returncode == 0 and not done.stderr
  assert '--mode=prepare --videos=DIR' in done.stdout
  assert '--reference' in done.stdout


def test_the_help_of_a_mode_is_printed():
  done = _call('--mode=colorize', '--help')
  assert done.returncode == 0 and not done.stderr
  assert '--saturation' in done.stdout and '--workdir' not in done.stdout
  assert 'the network expects.\n' in done.stdout  # Without a note of absl.


def test_version():
  done = _call('--version')
  assert (done.returncode, done.stdout) == (
    0,
    f'vitexco {vitexco_jax.__version__}\n',
  )


def test_names_that_the_system_refuses_are_reported():
  done = _call('--mode=export', '--workdir=.', '--output=' + 'x' * 300)
  assert done.returncode == 1
  assert re.fullmatch('error: .*\n', done.stderr), done.stderr


def test_failure_without_stderr_keeps_its_status():
  done = subprocess.run(
    [
      'bash',
      '-c',
      '"$0" "$1" --mode=foo 2>&-',
      sys.executable,
      ROOT / 'launch.py',
    ]
  )
  assert done.returncode == 1


def test_errors_are_detected_before_heavy_imports():
  code = 'import sys, launch; print("jax" in sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert done.stdout == 'False\n'
