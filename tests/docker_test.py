"""The Dockerfile, as far as it can be tested without Docker."""

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / 'Dockerfile').read_text()


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


def test_the_dockerfile_has_no_lint_errors():
  hadolint = Path(sys.executable).parent / 'hadolint'
  done = subprocess.run(
    [hadolint, ROOT / 'Dockerfile'], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout


def test_copied_files_build_the_package(tmp_path):
  _context(tmp_path)
  for name in re.findall(r'requirements[/\w]*\.txt', DOCKERFILE):
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
