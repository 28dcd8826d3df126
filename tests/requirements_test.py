"""The lists of requirements: complete, consistent, and pinned."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def _requirements(*files):
  lines = [x for file in files for x in (ROOT / file).read_text().splitlines()]
  return [line for line in lines if line and not line.startswith('#')]


def _canonical(name):
  return re.sub('[-_.]+', '-', name).lower()


def _names(*files):
  """Canonical names of the distributions that lists of requirements name."""
  return {
    _canonical(re.match('[A-Za-z0-9._-]+', line)[0])
    for line in _requirements(*files)
  }


def _imports(path):
  """Top-level names of what a file imports from outside the project."""
  own = {'vitexco_jax', 'configs', 'launch', 'vsvitexco'} | {
    path.stem for path in (ROOT / 'tests').rglob('*.py')
  }
  modules = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      modules.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
      modules.add(node.module)
  names = {module.split('.')[0] for module in modules}
  return names - own - set(sys.stdlib_module_names)


def test_lists_for_gpu_and_cpu_differ_only_in_jax():
  gpu = _requirements('requirements.txt')
  assert [line for line in gpu if '[' in line] == gpu[:1]
  assert gpu[0].startswith('jax[cuda12]')
  gpu[0] = gpu[0].replace('[cuda12]', '')
  assert gpu == _requirements('requirements/cpu.txt')


@pytest.mark.parametrize(
  'pattern, files',
  [
    ('vitexco_jax/**/*.py', []),
    ('configs/*.py', []),
    ('*.py', []),
    ('tests/**/*.py', ['requirements/dev.txt']),
  ],
)
def test_every_import_is_required(pattern, files):
  """What another requirement happens to bring may go with its next release."""
  lists = 'requirements/cpu.txt', *files
  required = _names(*lists) | {'scenic', 'apache-beam'}  # Skippable.
  distributions = importlib.metadata.packages_distributions()
  missing = {}
  for path in ROOT.glob(pattern):
    for name in _imports(path):
      offered = {_canonical(d) for d in distributions.get(name, [name])}
      if not offered & required:
        missing[str(path.relative_to(ROOT))] = name
  assert not missing


@pytest.mark.parametrize(
  'package, provided',
  [
    ('vsvitexco', set()),
    ('comfyui', {'comfy', 'comfy-api', 'torch'}),  # By ComfyUI itself.
  ],
)
def test_every_import_of_an_integration_is_required(package, provided):
  folder = ROOT / 'integrations' / package
  with open(folder / 'pyproject.toml', 'rb') as file:
    listed = tomllib.load(file)['project']['dependencies']
  required = {_canonical(Requirement(line).name) for line in listed}
  assert 'vitexco' in required
  required |= _names('requirements/cpu.txt') | provided
  distributions = importlib.metadata.packages_distributions()
  for path in folder.rglob('*.py'):
    for name in _imports(path):
      offered = {_canonical(d) for d in distributions.get(name, [name])}
      assert offered & required, f'{path}: {name}'


def test_one_opencv_only():
  """The four packages share a folder: two of them would break each other."""
  names = _names('requirements.txt', 'requirements/dev.txt')
  assert len([name for name in names if name.startswith('opencv')]) == 1


def test_build_requirements_are_installed_for_tests():
  with open(ROOT / 'pyproject.toml', 'rb') as file:
    wanted = tomllib.load(file)['build-system']['requires']
  assert set(wanted) <= set(_requirements('requirements/dev.txt'))


PYTHONS = ('3.11.9', '3.12.9', '3.13.5')
LISTS = ('requirements/cpu.txt', 'requirements/dev.txt')


def _locked(python):
  """What the lock file installs for a Python: versions by canonical name."""
  text = (ROOT / 'requirements/lock.txt').read_text().replace('\\\n', ' ')
  pinned_versions = {}
  for line in text.splitlines():
    if line.startswith('#'):
      continue
    line, *hashes = line.split('--hash=sha256:')
    assert hashes, f'{line} has no hash'
    pinned = Requirement(line)
    if pinned.marker is None or pinned.marker.evaluate(_environment(python)):
      (exact,) = pinned.specifier
      assert exact.operator == '=='
      assert _canonical(pinned.name) not in pinned_versions
      pinned_versions[_canonical(pinned.name)] = exact.version
  return pinned_versions


def _environment(python):
  version = '.'.join(python.split('.')[:2])
  return {'python_full_version': python, 'python_version': version}


@pytest.mark.parametrize('python', PYTHONS)
def test_lock_satisfies_the_lists(python):
  """If not: `make lock`."""
  locked = _locked(python)
  for line in _requirements(*LISTS):
    wanted = Requirement(line.partition('  #')[0])
    if wanted.marker and not wanted.marker.evaluate(_environment(python)):
      continue
    version = locked.get(_canonical(wanted.name))
    assert version and wanted.specifier.contains(version), line


def test_lock_contains_all_dependencies():
  """Of those that are installed here."""
  python = '.'.join(map(str, sys.version_info[:3]))
  locked = _locked(python)
  for name, version in locked.items():
    try:
      installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
      continue
    if installed.version != version:
      continue
    for wanted in map(Requirement, installed.requires or ()):
      if wanted.marker and not wanted.marker.evaluate({'extra': ''}):
        continue
      have = locked.get(_canonical(wanted.name))
      assert have and wanted.specifier.contains(have), f'{name}: {wanted}'


def test_lock_names_no_index():
  """Mirrors differ; pip's own settings say where packages come from."""
  text = (ROOT / 'requirements/lock.txt').read_text()
  assert '://' not in text and '--index' not in text and '--find' not in text
