"""Output paths: their kind, overwriting, and atomic replacement."""

import os
import shutil
from pathlib import Path

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.media import scans
from vitexco_jax.media.images import WRITTEN_SUFFIXES

_SUFFIXES = WRITTEN_SUFFIXES + scans.SUFFIXES  # Of images of a folder.
# Of written files.
VIDEO_SUFFIXES = ('.mp4', '.mov', '.m4v', '.mkv', '.avi', '.mxf')


def output_kind(path: str | os.PathLike[str]) -> str:
  """Returns 'video', 'folder', or 'image', which the name determines.

  Raises:
    UserError: the suffix is unknown.
  """
  suffix = Path(path).suffix.lower()
  if Path(path).is_dir() or not suffix or os.fspath(path).endswith(os.sep):
    return 'folder'
  if suffix in VIDEO_SUFFIXES:
    return 'video'
  if suffix in WRITTEN_SUFFIXES:
    return 'image'
  raise UserError(
    f'{path} cannot be written: end its name in {" ".join(VIDEO_SUFFIXES)} '
    f'for a video, in {os.sep} for a folder of images'
  )


def check_free(path: Path, overwrite: bool) -> None:
  """Raises UserError if a target exists and must not be replaced."""
  kind = output_kind(path)
  if not path.exists():
    return
  if kind != 'folder':
    if not overwrite:
      raise UserError(f'{path} exists: set `overwrite` or name another file')
    return
  if not path.is_dir():
    raise UserError(
      f'{path} is a file: name a folder, or a video with a suffix'
    )
  contents = sorted(path.iterdir())
  if contents and not overwrite:
    raise UserError(
      f'{path} is not empty: set `overwrite` or name another folder'
    )
  for other in contents:  # A mistyped name must not delete a home folder.
    if other.is_dir() or other.suffix.lower() not in _SUFFIXES:
      raise UserError(
        f'{path} holds more than images ({other.name}) and is not replaced: '
        'name another folder'
      )


def partial_path(path: Path) -> Path:
  """Returns the hidden path next to an output where it is written first."""
  path = path.absolute()  # For ".", which has no name.
  return files.sibling(path.with_suffix(''), '.', f'.partial{path.suffix}')


def remove(path: Path) -> None:
  """Removes a file, or a folder with its contents, if it exists."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def move(partial: Path, target: Path) -> None:
  """Replaces a target by a finished output.

  A call that was interrupted can be repeated.
  """
  old = files.sibling(partial, '', '.old')
  if partial.exists():
    if target.is_dir():
      remove(old)
      os.replace(target, old)
    os.replace(partial, target)
  remove(old)
