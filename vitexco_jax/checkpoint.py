"""What a run leaves on disk: whole states to resume, and exports to use.

A work directory holds `config.json` and `checkpoints/STEP`, the whole training
state. An *export* is a folder with the parameters alone, `params/` in Orbax's
format, and the config that they belong to, `config.json`. `load_params` reads
either; `load_config` is how every mode learns of which shape the networks are.
"""

import contextlib
import json
import os
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.models import settings
from vitexco_jax.models.vitexco import Generator
from vitexco_jax.pretrained import vit_weights

_CONFIG = 'config.json'
_CONFIG_BYTES = 2**20
# Later versions have more values, for which older configs have defaults.
_NEEDED = ('variant', 'data.size', 'use.size', 'use.temperature')
# Of several hosts the first reads and writes by itself: Orbax would have it wait
# for the others at every turn.
_ALONE = ocp.options.MultiprocessingOptions(
  primary_host=0, active_processes={0}
)


def make_generator(config: ml_collections.ConfigDict) -> Generator:
  """Builds the generator that `config.model` describes.

  Raises:
    UserError: a setting is invalid; names it with its prefix `config.model`.
  """
  model = config.model.to_dict()
  del model['discriminator']
  generator = Generator(**model)
  try:
    settings.check(generator)
  except UserError as error:
    raise UserError(f'config.model.{error}') from error
  return generator


def adopt_position_grid(config: ml_collections.ConfigDict) -> None:
  """Sets `config.model.vit.pos_grid` to that of the weights it starts from.

  Raises:
    UserError: the weights cannot be read.
  """
  settings = config.model.vit
  if config.train.vit_weights:
    settings.pos_grid = vit_weights.position_grid(config.train.vit_weights)
  elif config.train.init:
    begun = load_config(config.train.init)
    settings.pos_grid = begun.model.vit.get('pos_grid', 0)


def abstract_params(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Shapes and dtypes of the generator's parameters."""
  image = jax.ShapeDtypeStruct((1, *config.data.size, 3), np.float32)
  init = make_generator(config).init
  return jax.eval_shape(init, jax.random.key(0), image)['params']


class Checkpoints:
  """The states of one run, the newest three kept; for the first host alone.

  A state is saved whole or not at all: an interrupted save is not seen.
  """

  def __init__(self, workdir: Path):
    self._folder = Path(workdir).absolute() / 'checkpoints'
    # A folder with a number for a name is a step to Orbax, even if empty.
    for folder in self._folder.glob('[0-9]*'):
      if not any(folder.iterdir()):
        folder.rmdir()
    self._folder.mkdir(parents=True, exist_ok=True)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=3, create=False, multiprocessing_options=_ALONE
      ),
    )

  def latest_step(self) -> int | None:
    """The newest step saved, None if there is none."""
    return _newest(self._folder)

  def save(self, step: int, state: Any, feed: Mapping[str, Any]):
    """Starts to save the state (an unreplicated tree) and the data feed's.

    Raises:
      UserError: this or the state before cannot be written.
    """
    with self._writing():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(jax.tree.map(np.asarray, state)),
          feed=ocp.args.JsonSave(feed),
        ),
        force=True,
      )

  def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict]:
    """Returns the state, as numpy arrays, and the feed's state.

    Raises:
      UserError: it is partial, or of another config; names what differs.
    """
    folder = self._folder / str(step)
    try:
      with _make_reader() as checkpointer:
        saved = _saved_shapes(checkpointer, folder / 'state')['params']
      check_params(saved, abstract_state.params, f'the checkpoint {folder}')
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract_state),
          feed=ocp.args.JsonRestore(),
        ),
      )
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
      raise UserError(
        f'the checkpoint {folder} is broken or of another config: take another '
        '--workdir, or the config that it was made with'
      ) from error
    return jax.tree.map(np.asarray, restored.state), restored.feed

  def close(self):
    """Waits for saves under way; raises UserError as `save` does."""
    with self._writing():
      self._manager.wait_until_finished()
    self._manager.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except (OSError, ValueError) as error:  # Orbax's, for a full disk too.
      raise UserError(
        f'cannot write a checkpoint to {self._folder}, perhaps for want of '
        'room: make some and start again; what was saved before is kept'
      ) from error


def _newest(folder: Path) -> int | None:
  """The newest step in a folder of checkpoints that holds a state."""
  states = folder.glob('[0-9]*/state')
  steps = (state.parent.name for state in states)
  return max((int(step) for step in steps if step.isdigit()), default=None)


def write_config(folder: Path, config: ml_collections.ConfigDict):
  """Writes the resolved config beside the weights."""
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  files.write(folder / _CONFIG, json.dumps(config.to_dict(), indent=2) + '\n')


def load_config(path: Path) -> ml_collections.ConfigDict:
  """Reads the config of an export or a work directory.

  Raises:
    UserError: there is none, or a value is missing or of another type than in
      the config of this version.
  """
  path = Path(path)
  if not os.path.exists(path):
    raise UserError(f'there is no checkpoint {path}')
  try:
    values = files.read_json(path / _CONFIG, _CONFIG_BYTES)
  except UserError as error:
    raise UserError(
      f'{path} is no whole checkpoint: {error}; name an export or the '
      '--workdir of a run'
    ) from error
  get_config = runpy.run_path(files.shipped('configs/vitexco.py'))['get_config']
  where = f'{path / _CONFIG}:'
  _check_types(where, values, get_config().to_dict())
  try:
    config = ml_collections.ConfigDict(values).lock()
  except Exception as error:  # Of names that it cannot hold, and of deep ones.
    raise UserError(f'{where} is not a config: {_line(error)}') from error
  there = flax.traverse_util.flatten_dict(values, sep='.')
  missing = [name for name in _NEEDED if name not in there]
  if missing:
    raise UserError(f'{where} there is no {missing[0]}')
  return config


def _check_types(
  where: str, values: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
  """Raises UserError where a value differs in type from what is expected.

  Names that only one of the two has are of another version.
  """
  for name in values.keys() & expected.keys():
    value, like = values[name], expected[name]
    inside = f'{where} {name}'
    if isinstance(like, Mapping) and isinstance(value, Mapping):
      _check_types(inside, value, like)
    elif not _is_like(value, like):
      raise UserError(f'{inside} must be like {json.dumps(like)}')


def _is_like(value: Any, like: Any) -> bool:
  """Whether a value of JSON can stand for one of a config."""
  if isinstance(like, tuple):
    typed = isinstance(value, list) and all(_is_like(x, like[0]) for x in value)
    if len(like) == 2:  # A size, (height, width).
      return typed and len(value) == 2 and min(value) > 0
    return typed
  if isinstance(like, float):
    return type(value) in (int, float)
  return type(value) is type(like)


def export(
  path: Path, params: Mapping[str, Any], config: ml_collections.ConfigDict
):
  """Writes parameters, stored as float16, and their config.

  Args:
    path: a folder that does not exist yet.
    params: the generator's.
    config: the run's.

  Raises:
    OSError: it cannot be written whole.
  """
  path = Path(path).absolute()
  write_config(path, config)
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(path / 'params', rounded(params))
  except ValueError as error:  # Orbax's, where the disk is full.
    raise OSError('no room for the parameters, perhaps') from error
  # Orbax notes where it saved: a folder that is of no concern to others.
  (path / 'params' / 'commit_success.txt').unlink(missing_ok=True)


def rounded(params: Mapping[str, Any]) -> dict[str, Any]:
  """Parameters as an export stores them: float16 numpy arrays."""
  return jax.tree.map(lambda x: np.asarray(x, np.float16), dict(params))


def load_params(path: Path) -> dict[str, Any]:
  """Reads the generator's parameters of an export or a work directory.

  Args:
    path: the folder; its own `config.json` says which shapes to expect.

  Returns:
    The tree, float32 numpy arrays.

  Raises:
    UserError: it is missing, partial, or does not fit its config; names what
      differs.
  """
  path = Path(path).absolute()
  config = load_config(path)
  try:
    expected = abstract_params(config)
  except UserError as error:
    raise UserError(f'{path / _CONFIG}: {error}') from error
  except Exception as error:  # Flax and JAX raise anything for odd settings.
    raise UserError(
      f'{path / _CONFIG} is not a config of this version: {_line(error)}'
    ) from error
  folder = path / 'params'
  if not folder.is_dir():
    step = _newest(path / 'checkpoints')
    if step is None:
      raise UserError(
        f'{path} holds neither an export nor a whole checkpoint yet'
      )
    folder = path / 'checkpoints' / str(step) / 'state'
  try:
    params = _restore(folder, expected, str(path))
  except UserError:
    raise
  except Exception as error:  # Orbax raises what its storage layers raise.
    raise UserError(
      f'the checkpoint {folder} is partial or broken: copy it anew'
    ) from error
  return jax.tree.map(lambda x: np.asarray(x, np.float32), params)


def _restore(folder: Path, expected: Any, source: str) -> Any:
  """Reads the generator's parameters once their names and shapes are right."""
  for parent, _, names in os.walk(folder):
    for name in names:
      files.check_regular(Path(parent, name))
  with _make_reader() as checkpointer:
    saved = _saved_shapes(checkpointer, folder)
    inside = saved.get('params')  # Of a run; an export has nothing else.
    found = dict(saved if inside is None else inside)
    found.pop('discriminator', None)
    check_params(found, expected, source)
    for array in jax.tree.leaves(found):
      _check_stored(array)
    wanted = found if inside is None else {'params': found}
    restored = checkpointer.restore(
      folder,
      args=ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
        ),
        partial_restore=True,
      ),
    )
  return restored if inside is None else restored['params']


def _check_stored(array: ocp.metadata.ArrayMetadata) -> None:
  """Raises ValueError if reading an array would take more than its shape."""
  if not jax.numpy.issubdtype(array.dtype, np.floating):
    raise ValueError(f'{array.name} is of {array.dtype}')
  chunk = array.storage.chunk_shape if array.storage else array.shape
  if any(c > max(1, s) for c, s in zip(chunk, array.shape, strict=True)):
    raise ValueError(f'{array.name} is stored in chunks of {chunk}')


def _line(error: Exception) -> str:
  """The first line of what an error says."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


def _make_reader() -> ocp.Checkpointer:
  handler = ocp.PyTreeCheckpointHandler()
  return ocp.Checkpointer(handler, multiprocessing_options=_ALONE)


def _saved_shapes(checkpointer: ocp.Checkpointer, folder: Path) -> Any:
  """What Orbax notes of the arrays in a folder: a tree with `shape`s."""
  return checkpointer.metadata(folder).item_metadata.tree


def check_params(params: Any, expected: Any, source: str):
  """Raises UserError that lists where two parameter trees differ."""
  have = flax.traverse_util.flatten_dict(params, sep='/')
  want = flax.traverse_util.flatten_dict(expected, sep='/')
  differences = (
    [f'{name} is missing' for name in sorted(want.keys() - have.keys())]
    + [f'{name} is unexpected' for name in sorted(have.keys() - want.keys())]
    + [
      f'{name} is {have[name].shape} instead of {want[name].shape}'
      for name in sorted(want.keys() & have.keys())
      if have[name].shape != want[name].shape
    ]
  )
  if differences:
    shown = '; '.join(differences[:8])
    more = len(differences) - 8
    raise UserError(
      f'{source} is of another architecture: {shown}'
      + (f'; and {more} more' if more > 0 else '')
    )
