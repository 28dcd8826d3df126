"""Jobs of the preparation: one video each, or a group of pictures."""

import collections
import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ml_collections

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.media.video import IMAGE_SUFFIXES, image_files

_IMAGES_PER_JOB = 256


class Job(NamedTuple):
  """A unit of work for one process."""

  paths: dict[str, Path]  # By name: a video, or pictures.
  stills: bool
  folder: Path  # Of the parts.
  config: str  # JSON.
  gallery: Path | None

  @property
  def part(self) -> Path:
    """The file of its records, with a readable and unique name."""
    digest = hashlib.sha1(os.fsencode('\n'.join(self.paths))).hexdigest()[:10]
    stem = re.sub('[^A-Za-z0-9_-]', '_', Path(next(iter(self.paths))).stem)
    return self.folder / f'{stem[:60]}-{digest}.array_record'

  @property
  def note(self) -> Path:
    """The file of its results."""
    return self.part.with_suffix('.json')


def find_jobs(
  config: ml_collections.ConfigDict,
  videos: Path | None,
  images: Path | None,
  gallery: Path | None,
) -> Iterator[Job]:
  """Yields all jobs in an order that depends only on names."""
  folder = Path(config.data.records)
  make = functools.partial(
    Job, folder=folder / 'parts', config=config.to_json(), gallery=gallery
  )
  if videos is not None:
    for name, path in find_videos('videos', videos, folder).items():
      yield make({name: path}, stills=False)
  if images is not None:
    by_folder = collections.defaultdict(list)
    for path in _files(images, folder):
      if path.suffix.lower() in IMAGE_SUFFIXES:
        name = path.relative_to(images).as_posix()
        by_folder[path.parent].append((name, path))
    if not by_folder:
      raise UserError(f'`images={images}` has no pictures')
    # By folder, so that a new picture does not change the jobs of other folders.
    for pictures in by_folder.values():
      for first in range(0, len(pictures), _IMAGES_PER_JOB):
        group = dict(pictures[first : first + _IMAGES_PER_JOB])
        yield make(group, stills=True)


def find_videos(argument: str, videos: Path, folder: Path) -> dict[str, Path]:
  """Returns names and paths in an order independent of the file system.

  Args:
    argument: name of the argument with the value `videos`, for errors.
    videos: a folder, searched recursively, or a text file that lists videos.
    folder: of the output, which is not searched.

  Raises:
    UserError: there are no files.
  """
  if videos.is_file():
    try:
      lines = [line.strip() for line in files.read_text(videos).splitlines()]
    except UserError as error:
      raise UserError(
        f'`{argument}={videos}` must be a folder of videos or a text file that '
        f'lists them: {error}'
      ) from error
    paths = {line: Path(line) for line in lines if line}
  elif videos.is_dir():
    paths = {}
    for path in _files(videos, folder):
      suffix = path.suffix.lower()
      if suffix in IMAGE_SUFFIXES and suffix != '.gif':  # A folder of frames.
        path = path.parent
      paths[path.relative_to(videos).as_posix()] = path
  else:
    raise UserError(f'`{argument}={videos}` does not exist')
  if not paths:
    raise UserError(f'`{argument}={videos}` has no files')
  return paths


def _files(root: Path, folder: Path) -> Iterator[Path]:
  """Yields files below a folder except hidden ones and those in `folder`."""
  if not root.is_dir():
    raise UserError(f'`images={root}` is not a folder')
  for path in sorted(root.rglob('*')):
    name = path.relative_to(root)
    hidden = any(part.startswith('.') for part in name.parts)
    is_output = folder.resolve() in path.resolve().parents
    if not hidden and not is_output and path.is_file():
      yield path


def is_done(job: Job) -> bool:
  """Whether there is a note for the same files, and its part exists."""
  try:
    note = files.read_json(job.note)
    part = not note['runs'] or job.part.exists()
    return part and note['bytes'] == file_sizes(job)
  except (UserError, KeyError):  # The note is missing or damaged.
    return False


def file_sizes(job: Job) -> list[int | None]:
  """Returns the sizes of a job's files, to detect changes."""

  def size(path: Path) -> int | None:
    try:
      frames = image_files(path) if path.is_dir() else [path]
      return sum(frame.stat().st_size for frame in frames)
    except OSError:
      return None

  return [size(path) for path in job.paths.values()]
