"""--mode=export: writes a run's parameters and config as a folder for release.

  OUTPUT/config.json, params/    for --checkpoint and for training
  OUTPUT/stablehlo/              the network as programs that do not need Vitexco

The programs are StableHLO from `jax.export`, for CPU and CUDA, for any number and
size of pictures. They take named arguments, including the parameters, which are
therefore stored only once:

  rgb_to_lab(rgb) -> lab
  encode_reference(params, rgb) -> {lab, keys, ab}
  colorize(params, luminance, keys, ab, previous[, backward_flow])
    -> {ab, last}
  lab_to_rgb(lab) -> rgb

`stablehlo/run.py`, a copy of `stablehlo_runner.py`, colorizes frames with them.
`stablehlo/programs.json` lists their arguments and versions.
"""

import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitexco_jax import checkpoint, color, files, weights
from vitexco_jax.config import to_json
from vitexco_jax.errors import UserError
from vitexco_jax.generator import make_generator
from vitexco_jax.models.vitexco import Generator, colorize_clip
from vitexco_jax.structs import Reference
from vitexco_jax.tools import stablehlo_runner

_logger = logging.getLogger(__name__)

# Increment it when the arguments or results of a program change.
FORMAT = 2
PLATFORMS = ('cpu', 'cuda')


def export_run(workdir: Path, output: Path) -> None:
  """Writes the newest checkpoint's generator, as float16, with its config.

  Args:
    workdir: of a run, or an export.
    output: a folder that does not exist yet.

  Raises:
    UserError: there is no complete checkpoint, or `output` exists or cannot be
      written.
  """
  if output.exists():
    raise UserError(f'{output} exists: name a new folder')
  params = checkpoint.load_params(workdir)
  config = checkpoint.load_config(workdir)
  with files.explained('output', output), files.new_folder(output) as folder:
    checkpoint.export(folder, params, config)
    write_programs(folder / 'stablehlo', params, config)
  _logger.info(
    f'Wrote {output}, which can be used as a checkpoint; as '
    f'{weights.pinned(output)}, it is checked'
  )


def write_programs(
  folder: Path, params: Mapping[str, Any], config: ml_collections.ConfigDict
) -> None:
  """Writes the programs, `params.npz`, `programs.json`, and `run.py`.

  Args:
    folder: a new folder.
    params: of the generator.
    config: of the run.

  Raises:
    OSError: a file cannot be written.
  """
  folder.mkdir()
  params = flax.traverse_util.flatten_dict(checkpoint.rounded(params), sep='/')
  np.savez(folder / 'params.npz', **params)
  described = {}
  for name, program in make_programs(
    make_generator(config, in_use=True), params
  ).items():
    (folder / f'{name}.stablehlo').write_bytes(program.serialize())
    _, takes = jax.tree.unflatten(program.in_tree, map(str, program.in_avals))
    gives = jax.tree.unflatten(program.out_tree, map(str, program.out_avals))
    if 'params' in takes:
      takes['params'] = 'params.npz'
    described[name] = {'takes': takes, 'gives': gives}
  about = {
    'format': FORMAT,
    'jax': jax.__version__,
    'calling_convention': program.calling_convention_version,
    'platforms': PLATFORMS,
    'params_sha256': hashlib.sha256(
      (folder / 'params.npz').read_bytes()
    ).hexdigest(),
    'programs': described,
    'config': to_json(config),
  }
  files.write(folder / 'programs.json', json.dumps(about, indent=2) + '\n')
  shutil.copyfile(stablehlo_runner.__file__, folder / 'run.py')


class _Programs:
  """The networks as functions of named arguments; see the module's docstring."""

  def __init__(self, generator: Generator):
    """Sets the networks."""
    self._generator = generator

  def _apply(
    self, params: Mapping[str, Any], method: str, *arguments: Any
  ) -> Any:
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    params = flax.traverse_util.unflatten_dict(params, sep='/')
    return self._generator.apply({'params': params}, *arguments, method=method)

  def encode_reference(
    self, params: Mapping[str, Any], rgb: jax.Array
  ) -> dict[str, jax.Array]:
    """Encodes a reference; see `Generator.encode_reference`."""
    reference = self._apply(params, 'encode_reference', rgb)
    return {name: getattr(reference, name) for name in ('lab', 'keys', 'ab')}

  def colorize(
    self,
    params: Mapping[str, Any],
    luminance: jax.Array,
    keys: jax.Array,
    ab: jax.Array,
    previous: jax.Array,
    backward_flow: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Colorizes frames; see `vitexco.colorize_clip`."""
    reference = Reference(previous[..., :3], keys, ab)  # `lab` is not used.
    if backward_flow is None:
      guidance = self._apply(params, 'guide', luminance, reference)
    else:
      seen = jnp.concatenate([previous[:, None, ..., :1], luminance], 1)
      guidance = self._apply(
        params, 'guide_along', seen, reference, backward_flow
      )
    predicted, last = colorize_clip(
      functools.partial(self._apply, params, 'colorize_frame'),
      luminance,
      guidance,
      previous,
      backward_flow=backward_flow,
    )
    return {'ab': predicted[..., :2], 'last': last}


def make_programs(
  generator: Generator, params: Mapping[str, Any]
) -> dict[str, jax.export.Exported]:
  """Traces the programs of the module's docstring with symbolic sizes.

  In the shapes of the arguments, b is the number of clips, each with its own
  reference, t the number of frames, and k the number of positions of the reference.
  Sides are multiples of 16 and at least 32. Floats are float32; parameters keep
  their types.

  Args:
    generator: the networks.
    params: its parameters, or their shapes, by names with slashes.

  Returns:
    The programs by name.
  """
  programs = _Programs(generator)
  motion = {}
  if generator.follows_motion:
    motion['backward_flow'] = 'b,t,16*h,16*w,2'
  weights = {'params': dict(params)}
  encoded = _export(programs.encode_reference, weights, rgb='b,16*h,16*w,3')
  reference = jax.tree.unflatten(encoded.out_tree, encoded.out_avals)
  return {
    'rgb_to_lab': _export(color.rgb_to_lab, rgb='b,h,w,3'),
    'encode_reference': encoded,
    'colorize': _export(
      programs.colorize,
      weights,
      luminance='b,t,16*h,16*w,1',
      keys=f'b,k,{reference["keys"].shape[-1]}',
      ab='b,k,2',
      previous=f'b,16*h,16*w,{3 + generator.carried}',
      **motion,
    ),
    'lab_to_rgb': _export(color.fade_to_rgb, lab='b,h,w,3'),
  }


def _export(
  function: Callable, given: Mapping[str, Any] | None = None, **shapes: str
) -> jax.export.Exported:
  """Exports a function with the arguments `given` and float32 of `shapes`."""
  scope = jax.export.SymbolicScope(['h >= 2', 'w >= 2'])
  arguments = {
    name: jax.ShapeDtypeStruct(
      jax.export.symbolic_shape(shape, scope=scope), jnp.float32
    )
    for name, shape in shapes.items()
  }
  exporter = jax.export.export(jax.jit(function), platforms=PLATFORMS)
  return exporter(**(given or {}), **arguments)
