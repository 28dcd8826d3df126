"""Checkpoints of training states, and exports of parameters.

A work directory has `config.json` and `checkpoints/STEP`, each with a training
state. An export is a folder with the parameters, `params/` in the format of
Orbax, and their config, `config.json`. `load_params` and `load_config` read both.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from vitexco_jax import files, weights
from vitexco_jax.config import from_json, override, to_json
from vitexco_jax.errors import UserError
from vitexco_jax.generator import abstract_params
from vitexco_jax.pretrained import vit_weights

_CONFIG = 'config.json'
_CONFIG_BYTES = 2**20
# In multi-host training only the first process reads and writes. Without this,
# Orbax waits for the others at every step.
_FIRST_PROCESS = ocp.options.MultiprocessingOptions(
  primary_host=0, active_processes={0}
)


def with_position_grid(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns the config with `model.vit.pos_grid` of the initial weights.

  Raises:
    UserError: the weights cannot be read.
  """
  grid = position_grid(config.train.vit_weights, config.train.init)
  if grid is None:
    return config
  return override(config, {'model.vit.pos_grid': grid})


def position_grid(vit_file: str, export: str) -> int | None:
  """Returns the side of the grid of position embeddings; 0: the usual one.

  Args:
    vit_file: the file of a ViT, or ''.
    export: weights; used if there is no file.

  Returns:
    The side, or None without weights.

  Raises:
    UserError: the weights cannot be read.
  """
  if vit_file:
    return vit_weights.position_grid(vit_file)
  return load_config(export).model.vit.pos_grid if export else None


class Checkpoints:
  """The newest three states of a run; used only by the first process.

  Saving is atomic: an interrupted save is ignored.
  """

  def __init__(self, workdir: Path):
    self._folder = Path(workdir).absolute() / 'checkpoints'
    # To Orbax, every folder whose name is a number is a step, even if empty.
    for folder in self._folder.glob('[0-9]*'):
      if not any(folder.iterdir()):
        folder.rmdir()
    self._folder.mkdir(parents=True, exist_ok=True)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=3, create=False, multiprocessing_options=_FIRST_PROCESS
      ),
    )

  def latest_step(self) -> int | None:
    """Returns the newest step, or None if there is none."""
    return _newest(self._folder)

  def save(self, step: int, state: Any, feed: Mapping[str, Any]) -> None:
    """Starts to save a training state.

    Args:
      step: number of the step.
      state: the state, an unreplicated tree.
      feed: the state of the data pipeline.

    Raises:
      UserError: this state or the previous one cannot be written.
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
    """Reads a training state.

    Args:
      step: number of the step.
      abstract_state: a tree with the shapes and dtypes of the state.

    Returns:
      The state as numpy arrays, and the state of the data pipeline.

    Raises:
      UserError: the state is incomplete, or does not fit the config; the message
        lists the differences.
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
        f'the checkpoint {folder} is damaged or has another config: use another '
        '`workdir`, or the config of the checkpoint'
      ) from error
    return jax.tree.map(np.asarray, restored.state), restored.feed

  def close(self) -> None:
    """Waits until all states are saved; raises UserError as `save`."""
    with self._writing():
      self._manager.wait_until_finished()
    self._manager.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except (OSError, ValueError) as error:  # Orbax raises both for a full disk.
      raise UserError(
        f'cannot write a checkpoint to {self._folder}; the disk may be full: '
        'free some space and start again; earlier checkpoints are unchanged'
      ) from error


def _newest(folder: Path) -> int | None:
  """Returns the newest step with a state in a folder of checkpoints, or None."""
  states = folder.glob('[0-9]*/state')
  steps = (state.parent.name for state in states)
  return max((int(step) for step in steps if step.isdigit()), default=None)


def write_config(folder: Path, config: ml_collections.ConfigDict) -> None:
  """Writes the resolved config to a folder of weights."""
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  files.write(folder / _CONFIG, json.dumps(to_json(config), indent=2) + '\n')


def load_config(path: str | Path) -> ml_collections.ConfigDict:
  """Reads the config of an export or a work directory.

  Returns:
    A locked config with all keys of this version; see `config.from_json`.

  Raises:
    UserError: there is no config, or a value is missing or wrong.
  """
  path = weights.find(path)
  try:
    values = files.read_json(path / _CONFIG, _CONFIG_BYTES)
  except UserError as error:
    raise UserError(
      f'{path} is not a complete checkpoint: {error}; name an export or the '
      '`workdir` of a run'
    ) from error
  return from_json(values, f'{path / _CONFIG}: ')


def export(
  path: Path, params: Mapping[str, Any], config: ml_collections.ConfigDict
) -> None:
  """Writes parameters, as float16, and their config.

  Args:
    path: a folder that does not exist yet.
    params: parameters of the generator.
    config: of the run.

  Raises:
    OSError: the export cannot be written.
  """
  path = Path(path).absolute()
  write_config(path, config)
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(path / 'params', rounded(params))
  except ValueError as error:  # Orbax raises it if the disk is full.
    raise OSError('the disk may be full') from error
  # This file of Orbax contains the path of the export on this machine.
  (path / 'params' / 'commit_success.txt').unlink(missing_ok=True)


def rounded(params: Mapping[str, Any]) -> dict[str, Any]:
  """Rounds parameters to float16 numpy arrays, as in an export."""
  return jax.tree.map(lambda x: np.asarray(x, np.float16), dict(params))


def load_params(path: str | Path) -> dict[str, Any]:
  """Reads the generator's parameters from an export or a work directory.

  Args:
    path: the folder; its `config.json` defines the expected shapes.

  Returns:
    A tree of float32 numpy arrays.

  Raises:
    UserError: the parameters are missing, incomplete, or do not fit the config;
      the message lists the differences.
  """
  path = weights.find(path).absolute()
  config = load_config(path)
  try:
    expected = abstract_params(config)
  except UserError as error:
    raise UserError(f'{path / _CONFIG}: {error}') from error
  except Exception as error:  # Flax and JAX raise many types of errors.
    raise UserError(
      f'{path / _CONFIG} is not a config of this version: {_line(error)}'
    ) from error
  folder = path / 'params'
  if not folder.is_dir():
    step = _newest(path / 'checkpoints')
    if step is None:
      raise UserError(
        f'{path} is not an export and has no complete checkpoint yet'
      )
    folder = path / 'checkpoints' / str(step) / 'state'
  try:
    params = _restore(folder, expected, str(path))
  except UserError:
    raise
  except Exception as error:  # Orbax raises many types of errors.
    raise UserError(
      f'the checkpoint {folder} is incomplete or damaged: copy it again'
    ) from error
  return jax.tree.map(lambda x: np.asarray(x, np.float32), params)


def _restore(folder: Path, expected: Any, source: str) -> Any:
  """Checks names and shapes of the generator's parameters and reads them."""
  for parent, _, names in os.walk(folder):
    for name in names:
      files.check_regular(Path(parent, name))
  with _make_reader() as checkpointer:
    saved = _saved_shapes(checkpointer, folder)
    inside = saved.get(
      'params'
    )  # None in an export, which has only parameters.
    stored = dict(saved if inside is None else inside)
    stored.pop('discriminator', None)
    check_params(stored, expected, source)
    for array in jax.tree.leaves(stored):
      _check_stored(array)
    wanted = stored if inside is None else {'params': stored}
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
  """Raises ValueError if an array needs more memory than its shape."""
  if not jax.numpy.issubdtype(array.dtype, np.floating):
    raise ValueError(f'{array.name} is of {array.dtype}')
  chunk = array.storage.chunk_shape if array.storage else array.shape
  if any(c > max(1, s) for c, s in zip(chunk, array.shape, strict=True)):
    raise ValueError(f'{array.name} is stored in chunks of {chunk}')


def _line(error: Exception) -> str:
  """Returns the first line of the message of an error."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


def _make_reader() -> ocp.Checkpointer:
  handler = ocp.PyTreeCheckpointHandler()
  return ocp.Checkpointer(handler, multiprocessing_options=_FIRST_PROCESS)


def _saved_shapes(checkpointer: ocp.Checkpointer, folder: Path) -> Any:
  """Reads the metadata of the arrays in a folder: a tree with shapes."""
  return checkpointer.metadata(folder).item_metadata.tree


def check_params(params: Any, expected: Any, source: str) -> None:
  """Raises UserError with the differences of two parameter trees, if any.

  Args:
    params: a tree of arrays, or of anything with a `shape`.
    expected: the same.
    source: where `params` comes from, for the message.
  """
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
      f'{source} has another architecture: {shown}'
      + (f'; and {more} more' if more > 0 else '')
    )
