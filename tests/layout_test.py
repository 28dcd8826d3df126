"""Rules of the layout: which module may import which, and what it may know."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Layers of `vitexco_jax`, lowest first: root modules and folders. A file imports
# from lower layers and from its own folder. Root modules of a layer may also import
# one another.
LAYERS = (
  'structs errors beam stages files traces terminal color sizes flow schema config weights',
  'models',
  'generator pretrained media',
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
# The engine takes arrays and returns arrays. These are its own modules in
# `inference`, the folders that it may import from, and other packages.
ENGINE = 'vitexco_jax/inference/video_colorizer.py'
ENGINE_MODULES = {ENGINE} | {
  f'vitexco_jax/inference/{name}.py'
  for name in (
    'clip_state',
    'frame_blocks',
    'frame_programs',
    'guide',
    'preparation',
  )
}
ENGINE_FOLDERS = {'models', 'pretrained'}
ENGINE_PACKAGES = {'cv2', 'flax', 'jax', 'ml_collections', 'numpy'}
# Messages name arguments, which the command line converts to flags. Commands may
# have flags: those of this program, which name a mode, of TFDS, and of pip.
FLAG = re.compile(r'--(?!config=|file_format|force-reinstall|no-deps)[a-z]')
# Modules without a test file of their own, since they only define types.
WITHOUT_TESTS = {'structs.py'}
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
  """Returns the path from the root: vitexco_jax/models/vit.py."""
  return path.relative_to(ROOT).as_posix()


def _imports(path):
  """Yields the dotted names that a file imports: `from a import b` gives a.b."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{_name(path)}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _modules_known(path):
  """Yields the files of the package that a file imports."""
  for name in _imports(path):
    parts = name.split('.')
    for length in (len(parts), len(parts) - 1):
      file = ROOT.joinpath(*parts[:length]).with_suffix('.py')
      if parts[0] == 'vitexco_jax' and file.exists():
        yield file
        break


def _place(path):
  """Returns the root module or folder of a file, as in `LAYERS`."""
  return path.relative_to(ROOT / 'vitexco_jax').parts[0].removesuffix('.py')


def _may_import(path, other):
  place, other_place = _place(path), _place(other)
  layer, other_layer = LAYER_OF[place], LAYER_OF[other_place]
  folder = (ROOT / 'vitexco_jax' / place).is_dir()
  return (
    other_layer < layer
    or other_place == place
    or (other_layer == layer and not folder)
  )


@pytest.mark.parametrize('path', PACKAGE, ids=_name)
def test_imports_point_downward(path):
  if path.name == '__init__.py':
    return
  name = _place(path)
  assert name in LAYER_OF, f'put {name} into a folder, or into LAYERS here'
  assert not [
    _name(p) for p in _modules_known(path) if not _may_import(path, p)
  ]


def test_importing_the_package_imports_no_other_module():
  code = """if True:
    import sys
    import vitexco_jax
    print(*(x for x in sys.modules if x.partition('.')[0] in {packages}))
  """
  packages = {'vitexco_jax', *ENGINE_PACKAGES, 'av', 'orbax'}
  done = subprocess.run(
    [sys.executable, '-c', code.format(packages=packages)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == ['vitexco_jax']
  others = [p for p in PACKAGE if p.name == '__init__.py'][1:]
  assert not [_name(p) for p in others if list(_imports(p))]


def test_the_engine_knows_arrays_only():
  known, pending = set(), [ROOT / ENGINE]
  while pending:
    path = pending.pop()
    if path not in known:
      known.add(path)
      pending += _modules_known(path)
  folders = {
    _place(p) for p in known if p.parent.parent == ROOT / 'vitexco_jax'
  } - {'inference'}
  assert folders <= ENGINE_FOLDERS
  own = {_name(p) for p in known if _place(p) == 'inference'}
  assert own == ENGINE_MODULES
  # Orbax, which reads checkpoints, is imported on demand.
  loaded = known - {ROOT / 'vitexco_jax/checkpoint.py'}
  packages = {name.partition('.')[0] for p in loaded for name in _imports(p)}
  packages -= {'vitexco_jax', *sys.stdlib_module_names}
  assert packages <= ENGINE_PACKAGES


def test_no_cycles():
  graph = {path: set(_modules_known(path)) for path in PACKAGE}
  order = list(graphlib.TopologicalSorter(graph).static_order())  # May raise.
  assert len(order) == len(PACKAGE)


@pytest.mark.parametrize('path', SOURCES, ids=_name)
def test_only_the_command_line_knows_flags(path):
  flags = {'absl.flags', 'absl.app', 'ml_collections.config_flags', 'argparse'}
  if not _name(path).startswith(('launch.py', 'vitexco_jax/cli/')):
    assert not flags.intersection(_imports(path))
    assert not [x for x in _messages(path) if FLAG.search(x)]


def _messages(path):
  """Yields the strings of a file, except docstrings and commands."""
  tree = ast.parse(path.read_text())
  documented = ast.Module | ast.ClassDef | ast.FunctionDef
  docstrings = {
    id(node.body[0].value)
    for node in ast.walk(tree)
    if isinstance(node, documented) and ast.get_docstring(node)
  }
  pending = [tree]
  while pending:
    node = pending.pop()
    if isinstance(node, ast.JoinedStr) and '--mode=' in ast.unparse(node):
      continue
    pending += ast.iter_child_nodes(node)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    if is_text and id(node) not in docstrings:
      yield node.value


@pytest.mark.parametrize(
  'path', [p for p in PACKAGE if p.parent.name == 'models'], ids=_name
)
def test_models_know_no_config(path):
  assert not [n for n in _imports(path) if n.startswith('ml_collections')]
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.arg):
      assert node.arg != 'config', f'line {node.lineno}'


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/*.py')), ids=_name)
def test_configs_import_nothing_of_the_package(path):
  assert set(_imports(path)) <= {'ml_collections'}


@pytest.mark.parametrize(
  'path', [p for p in PACKAGE if p.name != '__init__.py'], ids=_name
)
def test_has_its_own_test_file(path):
  module = path.relative_to(ROOT / 'vitexco_jax')
  test = ROOT / 'tests' / module.with_name(f'{path.stem}_test.py')
  assert test.exists() != (module.as_posix() in WITHOUT_TESTS)


def test_names_of_test_files_are_unique():
  """Otherwise pytest collects only the first one of a name."""
  names = [path.name for path in ROOT.glob('tests/**/*_test.py')]
  assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
  'path',
  SOURCES
  + sorted(ROOT.glob('tests/**/*.py'))
  + sorted(ROOT.glob('integrations/**/*.py')),
  ids=_name,
)
def test_has_a_docstring(path):
  assert ast.get_docstring(ast.parse(path.read_text()))


def test_contributing_lists_every_folder():
  def folders(name):
    paths = (ROOT / name).iterdir()
    return {p.name for p in paths if p.is_dir() and not p.name.startswith('_')}

  text = (ROOT / 'CONTRIBUTING.md').read_text()
  tree = text.partition('## Where things are')[2].split('```')[1]
  listed, parent = {}, ''
  for line in tree.strip().splitlines():
    name = line.split()[0].rstrip('/')
    if line.startswith(' '):
      listed[parent].add(name)
    else:
      parent = name
      listed[name] = set()
  assert all((ROOT / name).exists() for name in listed)
  for name in ('vitexco_jax', 'weights', 'integrations'):
    assert folders(name) == listed[name]
  # The tests are in the same folders as the package, and in `integrations`.
  assert folders('tests') <= listed['tests'] | listed['vitexco_jax']
