"""The Dockerfiles, as far as they can be tested without Docker."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import calls
import pytest

ROOT = Path(__file__).resolve().parent.parent
SPACE = ROOT / 'integrations/space'
DOCKERFILES = [ROOT / 'Dockerfile', SPACE / 'Dockerfile']


def _context(folder):
  """Copies what Docker would be given; by the rules that .dockerignore uses."""
  rules = (ROOT / '.dockerignore').read_text().splitlines()
  assert [x for x in rules if x[0] not in '#!'] == ['*', '**/__pycache__']
  for path in ROOT.iterdir():
    kept = [x[1:] for x in rules if x[0] == '!']
    if path.name == 'weights':
      shutil.copytree(path / 'small', folder / 'weights/small')
    elif any(fnmatch.fnmatch(path.name, rule) for rule in kept):
      copy = shutil.copytree if path.is_dir() else shutil.copyfile
      copy(path, folder / path.name)


@pytest.mark.parametrize('dockerfile', DOCKERFILES, ids=str)
def test_the_dockerfile_has_no_lint_errors(dockerfile):
  hadolint = Path(sys.executable).parent / 'hadolint'
  done = subprocess.run([hadolint, dockerfile], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


def test_copied_files_build_the_package(tmp_path):
  _context(tmp_path)
  for dockerfile in DOCKERFILES:
    text = dockerfile.read_text()
    for name in re.findall(r'requirements[/\w]*\.txt', text):
      assert (tmp_path / name).exists(), name
  assert not (tmp_path / 'tests').exists()
  subprocess.run(
    [sys.executable, '-m', 'hatchling', 'build', '-t', 'wheel', '-d', 'dist'],
    cwd=tmp_path,
    check=True,
    capture_output=True,
  )
  (wheel,) = tmp_path.glob('dist/*.whl')
  with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
  assert 'vitexco_jax/launch.py' in names
  assert 'vitexco_jax/weights/small/config.json' in names


def test_the_space_serves_the_page_on_its_port(tmp_path):
  text = (SPACE / 'Dockerfile').read_text()
  (command,) = re.findall(r'^CMD (.*)$', text, re.MULTILINE)
  program, *given = json.loads(command)
  assert program == 'vitexco'
  front = (SPACE / 'README.md').read_text().split('---')[1]
  (port,) = re.findall(r'^app_port: (\d+)$', front, re.MULTILINE)
  assert f'EXPOSE {port}\n' in text and 'sdk: docker\n' in front
  address = given.index(f'--address=0.0.0.0:{port}')
  given[address] = '--address=127.0.0.1:0'
  with calls.start(tmp_path, *given) as process:
    try:
      (url,) = re.findall(r'http://[\d.:]+', _line(process.stdout, 'http'))
      with urllib.request.urlopen(url, timeout=60) as answer:
        assert b'<title>' in answer.read()
    finally:
      process.terminate()
      process.communicate()


def _line(stream, text):
  """Returns the first line with a text."""
  return next(line for line in stream if text in line)
