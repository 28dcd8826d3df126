"""The wheel that pip makes: it holds all that `vitexco` needs, and it works."""

import email
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  folder = tmp_path_factory.mktemp('wheel')
  subprocess.run(
    [sys.executable, '-m', 'hatchling', 'build', '-t', 'wheel', '-d', folder],
    cwd=ROOT,
    check=True,
    capture_output=True,
  )
  (path,) = folder.glob('vitexco-*.whl')
  return path


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
  folder = tmp_path_factory.mktemp('installed')
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder)
  return folder


def _vitexco(installed, cwd, *arguments):
  """Calls the command as pip's script does."""
  return subprocess.run(
    [
      *(sys.executable, '-c'),
      'from vitexco_jax.launch import run; run()',
      *arguments,
    ],
    cwd=cwd,
    env=os.environ | {'PYTHONPATH': str(installed), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )


def test_holds_the_package_and_nothing_else(wheel):
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
  ours = {
    path.relative_to(ROOT).as_posix()
    for pattern in ('**/*.py', 'page/*')
    for path in ROOT.glob(f'vitexco_jax/{pattern}')
  }
  weights = {
    f'vitexco_jax/{path.relative_to(ROOT).as_posix()}'
    for path in ROOT.glob('weights/small/**/*')
    if path.is_file()
  }
  door = {'vitexco_jax/launch.py', 'vitexco_jax/configs/vitexco.py'}
  found = {name for name in names if '.dist-info/' not in name}
  assert found == ours | weights | door


def test_names_the_command_and_what_it_needs(installed):
  (info,) = installed.glob('*.dist-info')
  commands = (info / 'entry_points.txt').read_text().split('\n')
  assert 'vitexco = vitexco_jax.launch:run' in commands
  needed = email.message_from_string((info / 'METADATA').read_text())
  listed = [x for x in needed.get_all('Requires-Dist') if 'extra' not in x]
  lines = (ROOT / 'requirements-cpu.txt').read_text().splitlines()
  assert len(listed) == len([x for x in lines if x[0] != '#'])
  assert needed.get_all('Provides-Extra') == ['cuda']


def test_finds_its_own_config_and_weights(installed, tmp_path):
  done = _vitexco(installed, tmp_path, '--config=:tiny')
  assert done.returncode == 1
  assert done.stderr.startswith('error: no prepared videos at data/records_tin')
  done = _vitexco(
    installed,
    tmp_path,
    '--mode=colorize',
    '--video=nowhere.mp4',
    '--reference=first-frame',
    '--output=out.mp4',
  )
  assert done.returncode == 1  # Once the weights are read.
  assert done.stderr == 'error: nowhere.mp4 does not exist\n'


def test_its_help_lists_the_flags(installed, tmp_path):
  out = _vitexco(installed, tmp_path, '--help').stdout
  assert 'one mode a call' in out and '--checkpoint: ' in out
