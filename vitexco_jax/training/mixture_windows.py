"""Windows: inputs of the mixture for one scene each, stored as files.

Each window depends only on the seed, its set, and its number, so an interrupted run
continues with the windows that are missing. All windows of a folder belong to the
same weights and videos, which `settings.json` describes.
"""

import io
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files, sizes
from vitexco_jax.data.job import find_videos
from vitexco_jax.errors import UserError
from vitexco_jax.structs import Array
from vitexco_jax.training import candidates, scenes
from vitexco_jax.training.candidates import CandidateCollector

_SETTINGS = 'settings.json'
_SETS = ('train', 'validation')
_VALIDATION = 1 / 16  # Validation windows per window of training.


class Window(NamedTuple):
  """The inputs of the mixture for one scene; in batches with a leading axis."""

  inputs: Array  # [t, n, m, CHANNELS] float16; see `candidates`.
  true_ab: Array  # [t, n, m, 2] float16.
  # [n, m, 3] float16, Lab of the frame before the first one; 0 if it is not given.
  first: Array
  kind: Array  # Number of the kind in `scenes.KINDS`.


class Windows(NamedTuple):
  """The files of all windows."""

  train: list[Path]
  validation: list[Path]


def prepare(
  config: ml_collections.ConfigDict,
  collector: CandidateCollector,
  videos: Path,
  folder: Path,
) -> Windows:
  """Makes the windows that are missing or damaged.

  Args:
    config: uses `mix`, `use`, and `seed`.
    collector: computes the inputs.
    videos: a folder of videos, or a text file that lists them.
    folder: of the windows.

  Raises:
    UserError: there is no usable video, the folder has windows of other weights or
      videos, or the disk has too little space.
  """
  counts = [config.mix.windows, 0]
  given = {'train': ('videos', videos)}
  if config.mix.validation:
    counts[1] = max(1, round(_VALIDATION * config.mix.windows))
    given['validation'] = 'config.mix.validation', Path(config.mix.validation)
  found = {x: find_videos(*given[x], folder) for x in given}
  shots = _begin(config, collector.fingerprint, given, found, folder)
  tasks, paths = [], []
  for name, count in zip(_SETS, counts, strict=True):
    paths.append([folder / f'{name}-{i:05d}.npz' for i in range(count)])
    tasks += [(path, name, i) for i, path in enumerate(paths[-1])]
  missing = [task for task in tasks if not _is_complete(task[0])]
  if missing:
    _check_space(config.use.size, len(missing), folder)
  done = len(tasks) - len(missing)
  with tqdm.tqdm(
    desc='windows', total=len(tasks), initial=done, unit='window'
  ) as bar:
    for path, name, number in missing:
      window = make(config, collector, shots[name], name, number)
      with files.explained('workdir', folder.parent):
        _write(path, window)
      bar.update()
  return Windows(*paths)


def _begin(
  config: ml_collections.ConfigDict,
  fingerprint: str,
  given: dict[str, tuple[str, Path]],
  found: dict[str, dict[str, Path]],
  folder: Path,
) -> dict[str, list[scenes.Shot]]:
  """Returns the shots of each set, which are stored with the other settings."""
  settings = {
    'seed': config.seed,
    'weights': fingerprint,
    'use': config.use.to_dict(),
    'videos': {
      name: {str(x): _bytes(x) for x in paths.values()}
      for name, paths in found.items()
    },
  }
  settings = json.loads(json.dumps(settings))
  path = folder / _SETTINGS
  if path.exists():
    stored = files.read_json(path)
    shots = stored.pop('shots', {})
    different = [x for x in settings if stored.get(x) != settings[x]]
    if different:
      raise UserError(
        f'{folder} has windows of other {different[0]}: name another `workdir`, or '
        'remove that folder'
      )
    return {x: [scenes.Shot(*shot) for shot in shots[x]] for x in shots}
  shots = {x: scenes.find_shots(given[x][0], found[x]) for x in found}
  with files.explained('workdir', folder.parent):
    files.write(path, json.dumps(settings | {'shots': shots}))
  return shots


def _bytes(path: Path) -> int:
  """Returns the size of a video, or of a folder of frames."""
  paths = path.iterdir() if path.is_dir() else [path]
  return sum(x.stat().st_size for x in paths)


def make(
  config: ml_collections.ConfigDict,
  collector: CandidateCollector,
  shots: Sequence[scenes.Shot],
  name: str,
  number: int,
) -> Window:
  """Makes a window.

  Args:
    config: uses `use` and `seed`.
    collector: computes the inputs.
    shots: of the set.
    name: of the set, `train` or `validation`.
    number: of the window. Validation uses one shot after the other.
  """
  rng = np.random.default_rng([config.seed, _SETS.index(name), number])
  shot = number % len(shots)
  if name == 'train':
    shot = int(rng.integers(len(shots)))
  scene = scenes.draw(rng, shots, shot, config.use.size, config.use.refine)
  is_first = scene.kind == 'first'
  collector.set_reference(scene.reference, first_frame=is_first)
  inputs, true_ab = collector.collect(scene.frames)
  first = collector.average_lab(scene.before) * is_first
  kind = list(scenes.KINDS).index(scene.kind)
  inputs, true_ab, first = (
    x.astype(np.float16) for x in (inputs, true_ab, first)
  )
  return Window(inputs, true_ab, first, np.asarray(kind))


def load(path: Path) -> Window:
  """Reads a window.

  Raises:
    UserError: the file is missing or damaged.
  """
  try:
    with open(path, 'rb') as file, np.load(file) as arrays:
      window = Window(*(arrays[name] for name in Window._fields))
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(
      f'{path} is missing or damaged: run the command again to make it again'
    ) from error
  return window


def _is_complete(path: Path) -> bool:
  try:
    load(path)
  except UserError:
    return False
  return True


def _write(path: Path, window: Window) -> None:
  content = io.BytesIO()
  np.savez(content, **window._asdict())
  files.write(path, content.getbuffer())


def _check_space(size: tuple[int, int], count: int, folder: Path) -> None:
  """Raises UserError if the disk cannot hold so many more windows."""
  n, m = (side // 2 for side in sizes.padded(size))
  channels = scenes.FRAMES * (candidates.CHANNELS + 2) + 3
  needed = 2 * n * m * channels * count
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise UserError(
      f'{count} windows take {needed / 1e9:.1f} GB, but the disk of {folder} has '
      f'only {free / 1e9:.1f} GB: lower config.mix.windows or config.use.size, or '
      'name a `workdir` on another disk'
    )
