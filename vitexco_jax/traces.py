"""Traced functions that are stored between runs.

JAX stores compiled programs, but it finds one only after tracing, which takes seconds
for the networks. Here a trace is found by what it depends on: the code of the package,
the versions and settings of JAX, and the shapes of the arguments. The files are in a
subfolder of JAX's folder of compiled programs, if there is one, and only speed up a
start: any of them may be removed or damaged.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from jax import export

from vitexco_jax import files

_PACKAGE = Path(__file__).resolve().parent
_DIGEST_BYTES = hashlib.sha256().digest_size


class Program:
  """A function like that of `jax.jit`, which other processes need not trace.

  Inside of another traced function it becomes a part of that.

  Attributes:
    programs: of this process, by the values and shapes of the arguments.
  """

  def __init__(
    self, function: Callable[..., Any], *settings: Any, static: int = 0
  ):
    """Traces nothing yet.

    Args:
      function: of `settings`, `static` other values, and trees of arrays, whose
        named tuples `export.register_namedtuple_serialization` knows.
      settings: its first arguments; `repr` shows all that tracing depends on.
      static: number of arguments after them for whose values it is traced.
    """
    self._function = functools.partial(function, *settings)
    self._name = function.__qualname__
    self._settings, self._static = repr(settings), static
    self.programs: dict[Hashable, Callable[..., Any]] = {}
    functools.update_wrapper(self, function)

  def __call__(self, *args: Any) -> Any:
    """Calls the function."""
    fixed, trees = args[: self._static], args[self._static :]
    leaves, structure = jax.tree.flatten(trees)
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
      return self._function(*args)
    shapes = tuple((np.shape(x), getattr(x, 'dtype', type(x))) for x in leaves)
    key = fixed, structure, shapes
    if key not in self.programs:
      stored = recall(
        self._name,
        f'{self._settings} {key} {jax.default_backend()}',
        functools.partial(self._trace, args),
      )
      self.programs[key] = jax.jit(export.deserialize(bytearray(stored)).call)
    return self.programs[key](*trees)

  def _trace(self, args: tuple[Any, ...]) -> bytes:
    traced = jax.jit(self._function, static_argnums=range(self._static))
    return bytes(export.export(traced)(*args).serialize())


def recall(name: str, key: str, make: Callable[[], bytes]) -> bytes:
  """Returns what is stored for a key; otherwise makes it and stores it.

  Args:
    name: begins the name of the file.
    key: shows what the result depends on, besides code, versions, and settings of
      JAX.
    make: returns the result.
  """
  folder = jax.config.values['jax_compilation_cache_dir']
  if not folder or '://' in folder:
    return make()
  key = hashlib.sha256(f'{_environment()} {key}'.encode()).hexdigest()
  path = Path(folder, 'traces', f'{name}-{key}-cache')
  with contextlib.suppress(OSError):
    stored = path.read_bytes()
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() == digest:
      return content
  content = make()
  with contextlib.suppress(OSError):  # The disk is full or read-only.
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, hashlib.sha256(content).digest() + content)
  return content


def _environment() -> str:
  """Describes what all traces depend on."""
  settings = dict(jax.config.values)
  del settings['jax_compilation_cache_dir']
  return f'{_code()} {jax.__version__} {flax.__version__} {settings}'


@functools.cache
def _code() -> str:
  return files.sha256_of_all(sorted(_PACKAGE.rglob('*.py')))
