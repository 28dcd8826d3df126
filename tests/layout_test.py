"""The house rules that a reader relies on: who may know whom."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Layers of `vitexco_jax`, from the ground up: root modules and folders. A file
# imports from its own layer and from lower layers only.
LAYERS = (
  'structs errors files terminal color sizes flow config',
  'models',
  'pretrained media',
  'checkpoint',
  'retrieval',
  'data inference',
  'training evaluation serving',
  'tools',
  'cli',
)
LAYER_OF = {
  name: number for number, names in enumerate(LAYERS) for name in names.split()
}
SOURCES = sorted(
  [
    *ROOT.glob('*.py'),
    *ROOT.glob('configs/*.py'),
    *ROOT.glob('vitexco_jax/**/*.py'),
  ]
)
PACKAGE = [
  path for path in SOURCES if path.is_relative_to(ROOT / 'vitexco_jax')
]


def _name(path):
  """A file's name as a reader would say it: vitexco_jax/models/vit.py."""
  return path.relative_to(ROOT).as_posix()


def _imports(path):
  """Every dotted name that a file may import: `from a import b` gives a.b."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{_name(path)}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _modules_known(path):
  """The files of the package that a file imports."""
  for name in _imports(path):
    parts = name.split('.')
    for length in (len(parts), len(parts) - 1):
      file = ROOT.joinpath(*parts[:length]).with_suffix('.py')
      if parts[0] == 'vitexco_jax' and file.exists():
        yield file
        break


def _layer(path):
  name = path.relative_to(ROOT / 'vitexco_jax').parts[0].removesuffix('.py')
  assert name in LAYER_OF, f'put {name} into a folder, or into LAYERS here'
  return LAYER_OF[name]


@pytest.mark.parametrize('path', PACKAGE, ids=_name)
def test_imports_point_downward(path):
  if path.name == '__init__.py':
    assert not list(_imports(path))  # Nothing is imported in passing.
    return
  layer = _layer(path)
  higher = [_name(p) for p in _modules_known(path) if _layer(p) > layer]
  assert not higher


def test_no_cycles():
  graph = {path: set(_modules_known(path)) for path in PACKAGE}
  order = list(graphlib.TopologicalSorter(graph).static_order())  # May raise.
  assert len(order) == len(PACKAGE)


@pytest.mark.parametrize('path', SOURCES, ids=_name)
def test_only_the_door_knows_flags(path):
  flags = {'absl.flags', 'absl.app', 'ml_collections.config_flags', 'argparse'}
  known = flags.intersection(_imports(path))
  assert not known or _name(path).startswith(('launch.py', 'vitexco_jax/cli/'))


@pytest.mark.parametrize(
  'path', [p for p in PACKAGE if p.parent.name == 'models'], ids=_name
)
def test_models_take_plain_arguments(path):
  assert not [n for n in _imports(path) if n.startswith('ml_collections')]
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.arg):
      assert node.arg != 'config', f'line {node.lineno}'


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/*.py')), ids=_name)
def test_configs_import_nothing_of_ours(path):
  assert set(_imports(path)) <= {'ml_collections'}


@pytest.mark.parametrize('path', SOURCES, ids=_name)
def test_has_a_docstring(path):
  tree = ast.parse(path.read_text())
  assert ast.get_docstring(tree) or not tree.body
