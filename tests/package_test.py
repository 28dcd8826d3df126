"""The wheel that pip builds: its content, and the command `vitexco`."""

import email
import site
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import calls
import cv2
import numpy as np
import packaging.metadata
import pytest

import vitexco_jax
from vitexco_jax.media import video

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  """Built from the source distribution, as by `python -m build`."""
  folder = tmp_path_factory.mktemp('wheel')
  _build('sdist', ROOT, folder)
  (source,) = folder.glob('vitexco-*.tar.gz')
  with tarfile.open(source) as archive:
    archive.extractall(folder, filter='data')
  _build('wheel', folder / source.name.removesuffix('.tar.gz'), folder)
  (path,) = folder.glob('vitexco-*.whl')
  assert path.stat().st_size < 100e6  # The limit of PyPI.
  return path


def _build(target, source, folder):
  subprocess.run(
    [sys.executable, '-m', 'hatchling', 'build', '-t', target, '-d', folder],
    cwd=source,
    check=True,
    capture_output=True,
  )


@pytest.fixture(scope='module')
def command(wheel, tmp_path_factory):
  """`vitexco`, installed by pip into an environment of its own.

  What the wheel requires is not installed again: a `.pth` file lends it from
  the environment of the tests.
  """
  folder = tmp_path_factory.mktemp('installed')
  venv.create(folder, with_pip=False)
  variables = {'base': str(folder), 'platbase': str(folder)}
  packages = Path(sysconfig.get_path('purelib', 'venv', variables))
  lent = '\n'.join(site.getsitepackages())
  (packages / 'lent.pth').write_text(f'{lent}\n')
  subprocess.run(
    [
      sys.executable,
      '-m',
      'pip',
      '--python',
      folder / 'bin/python',
      'install',
      '--quiet',
      '--no-index',
      '--no-deps',
      wheel,
    ],
    check=True,
    capture_output=True,
  )
  return folder / 'bin/vitexco'


def _call(command, home, *arguments):
  return subprocess.run(
    [command, *arguments],
    cwd=home,
    env=calls.environment(devices=1),
    capture_output=True,
    text=True,
  )


def test_contains_only_the_package(wheel):
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
  own = {
    path.relative_to(ROOT).as_posix()
    for pattern in ('**/*.py', '**/page/*', 'py.typed')
    for path in ROOT.glob(f'vitexco_jax/{pattern}')
  }
  weights = {
    f'vitexco_jax/{path.relative_to(ROOT).as_posix()}'
    for path in ROOT.glob('weights/small/**/*')
    if path.is_file()
  }
  program = {'vitexco_jax/launch.py', 'vitexco_jax/configs/vitexco.py'}
  actual = {name for name in names if '.dist-info/' not in name}
  assert actual == own | weights | program


def test_declares_what_it_needs(wheel):
  with zipfile.ZipFile(wheel) as archive:
    (metadata,) = [x for x in archive.namelist() if x.endswith('/METADATA')]
    content = archive.read(metadata)
  fields = email.message_from_bytes(content)
  # The rules of PyPI.
  checked = packaging.metadata.Metadata.from_email(content, validate=True)
  assert checked.description_content_type == 'text/markdown'
  listed = [x for x in fields.get_all('Requires-Dist') if 'extra' not in x]
  lines = (ROOT / 'requirements/cpu.txt').read_text().splitlines()
  assert len(listed) == len([x for x in lines if x[0] != '#'])
  assert fields.get_all('Provides-Extra') == ['cuda']
  assert fields['Version'] == vitexco_jax.__version__


def test_prints_version_and_flags(command, tmp_path):
  assert _call(command, tmp_path, '--version').stdout == (
    f'vitexco {vitexco_jax.__version__}\n'
  )
  text = _call(command, tmp_path).stdout
  assert 'Each call runs one mode' in text and '--checkpoint: ' in text


def test_finds_its_own_config(command, tmp_path):
  done = _call(command, tmp_path, '--config=:tiny')
  assert done.returncode == 1
  assert done.stderr.startswith('error: no prepared videos at data/records_tin')


def test_colorizes_a_film_and_an_image(command, tmp_path):
  """In another folder, with the weights that it brings."""
  noise = np.random.default_rng(0).uniform(0, 255, (2, 6, 8, 3))
  scenes = [cv2.resize(np.uint8(x), (96, 64)) for x in noise]
  video.write_image(tmp_path / 'picture.png', scenes[0])
  with video.VideoWriter(tmp_path / 'film.mp4', video.Format(64, 96)) as writer:
    for i in range(8):
      writer.write(video.Frame(np.roll(scenes[i // 4], i, 1)))
  for name in ('film.mp4', 'picture.png'):
    done = _call(
      command,
      tmp_path,
      'colorize',
      f'--video={name}',
      '--reference=picture.png',
      f'--output=color_{name}',
      '--working-size=32x48',
    )
    assert done.returncode == 0, done.stderr
    with video.VideoReader(tmp_path / f'color_{name}') as reader:
      frames = [frame.rgb for frame in reader]
    assert len(frames) == (8 if name == 'film.mp4' else 1)
    assert np.ptp(frames[0], -1).max() > 20  # Not gray.


def test_python_loads_the_included_weights(command, tmp_path):
  code = (
    'import vitexco_jax\n'
    'print(vitexco_jax.__file__)\n'
    'print(vitexco_jax.VideoColorizer.from_checkpoint("small").config.variant)'
  )
  done = subprocess.run(
    [command.with_name('python'), '-c', code],
    cwd=tmp_path,
    env=calls.environment(devices=1),
    capture_output=True,
    text=True,
  )
  path, variant = done.stdout.split()
  assert Path(path).is_relative_to(command.parent.parent)
  assert variant == 'small'
