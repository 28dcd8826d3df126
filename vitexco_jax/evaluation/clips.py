"""Color clips for evaluation, from disk or from a data set.

`find_clips` accepts a folder of clips (each a folder of frames, as in DAVIS, or a
video), a single clip, records of `prepare`, or a TFDS data set of videos. Each call
of `Clip.read` reads the clip again, frame by frame if its storage allows.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vitexco_jax.data import records
from vitexco_jax.errors import UserError
from vitexco_jax.media import video

_VIDEO_SUFFIXES = (*video.VIDEO_SUFFIXES, '.mpg', '.webm')
_SPLITS = ('test', 'validation', 'train')  # In order of preference.


class Clip:
  """A clip; its frames are uint8 RGB [h, w, 3].

  Attributes:
    name: unique among the clips.
    fingerprint: changes with the names, sizes, and times of the files.
  """

  def __init__(
    self,
    name: str,
    read: Callable[[], Iterator[np.ndarray]],
    fingerprint: Any,
    stems: list[str] | None = None,
  ) -> None:
    """Sets a function that yields the frames, and the file names if any."""
    self.name = name
    self.fingerprint = fingerprint
    self.stems = stems
    self._read = read

  def read(self) -> Iterator[np.ndarray]:
    """Yields the frames from the start.

    Raises:
      UserError: a frame cannot be read.
    """
    return self._read()

  @functools.cached_property
  def count(self) -> int:
    """Number of frames, by reading, since a video's header may be wrong."""
    return len(self.stems) if self.stems else sum(1 for _ in self.read())

  def frames(self, *numbers: int) -> list[np.ndarray]:
    """Returns frames by their numbers."""
    by_number = {}
    for number, rgb in enumerate(self.read()):
      if number in numbers:
        by_number[number] = rgb
      if number >= max(numbers):
        break
    return [by_number[number] for number in numbers]


def find_clips(argument: str, data: str) -> list[Clip]:
  """Finds all clips in a folder, a file, or a data set.

  Args:
    argument: name of the argument with the value `data`, for errors.
    data: a path, or the name of a TFDS data set.

  Raises:
    UserError: `data` does not exist or has no clips.
  """
  path = Path(data)
  if not path.exists():
    clips = _of_data_set(argument, data)
  elif path.is_file() or _holds_frames(path):
    clips = [_on_disk(path)]
  elif (path / 'dataset_info.json').exists():
    clips = _of_data_set(argument, data)
  else:
    clips = _of_records(path) or [
      _on_disk(child)
      for child in sorted(path.iterdir())
      if not child.name.startswith('.')
      and (child.is_dir() or child.suffix.lower() in _VIDEO_SUFFIXES)
    ]
  if not clips:
    raise UserError(
      f'`{argument}={data}` has no clips: name a folder that has one folder of '
      'frames, or one video, for each clip'
    )
  return clips


def _holds_frames(folder: Path) -> bool:
  return any(
    path.suffix.lower() in video.IMAGE_SUFFIXES for path in folder.iterdir()
  )


def _on_disk(path: Path) -> Clip:
  """A folder of frames or a video."""

  def read() -> Iterator[np.ndarray]:
    with video.VideoReader(path) as reader:
      for frame in video.prefetch(reader):
        yield frame.rgb
      if reader.lost:
        raise UserError(
          f'{path} is damaged or cut short ({reader.lost} frames lost): copy it '
          'again or remove it'
        )

  files = video.image_files(path) if path.is_dir() else [path]
  stems = [file.stem for file in files] if path.is_dir() else None
  states = [(file, file.stat()) for file in files]
  fingerprint = [[f.name, x.st_size, x.st_mtime_ns] for f, x in states]
  return Clip(path.name, read, fingerprint, stems)


def _of_records(folder: Path) -> list[Clip]:
  """Returns the runs of a training set; empty if it is not a training set."""
  try:
    opened = records.Records(folder)
  except FileNotFoundError:
    return []

  def read(run: records.Run) -> Iterator[np.ndarray]:
    for number in range(run.first, run.first + run.frames):
      yield opened.read(number).rgb()

  return [
    Clip(
      f'{run.video}@{run.first}'.replace('/', '_'),
      functools.partial(read, run),
      [opened.fingerprint, run.first],
      [str(i) for i in range(run.frames)],
    )
    for run in opened.runs
  ]


def _of_data_set(argument: str, data: str) -> list[Clip]:
  """Returns the videos of a TFDS data set, read without TensorFlow."""
  try:
    folder = Path(data)
    builder = (
      tfds.builder_from_directory(folder)
      if folder.exists()
      else tfds.builder(data)
    )
  except (ValueError, OSError, tfds.core.DatasetNotFoundError) as error:
    raise UserError(
      f'`{argument}={data}` is not a folder of clips, a video, or a TFDS data set'
    ) from error
  except ImportError as error:
    raise UserError(
      f'`{argument}={data}` cannot be opened without TensorFlow: install it, or '
      'provide its frames as folders'
    ) from error
  path = _video_feature(builder.info.features)
  split = next((x for x in _SPLITS if x in builder.info.splits), None)
  if path is None or split is None:
    raise UserError(f'`{argument}={data}` is a data set without videos')
  try:
    examples = builder.as_data_source(split)
  except NotImplementedError as error:
    raise UserError(
      f'`{argument}={data}` cannot be read without TensorFlow: prepare it with '
      f'`tfds build {data} --file_format=array_record`'
    ) from error

  def read(number: int) -> Iterator[np.ndarray]:
    frames = examples[number]
    for name in path:
      frames = frames[name]
    yield from np.asarray(frames)

  return [
    Clip(
      f'{builder.name}_{split}_{number:05d}',
      functools.partial(read, number),
      [builder.info.full_name, number],
    )
    for number in range(len(examples))
  ]


def _video_feature(feature: Any) -> tuple[str, ...] | None:
  """Returns the path of the frames within an example; None without frames."""
  if isinstance(feature, tfds.features.Sequence) and isinstance(
    feature.feature, tfds.features.Image
  ):
    return ()  # `tfds.features.Video`, which needs TensorFlow, is a subclass.
  if isinstance(feature, tfds.features.FeaturesDict):
    for name, inner in feature.items():
      path = _video_feature(inner)
      if path is not None:
        return (name, *path)
  return None
