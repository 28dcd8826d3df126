"""The training set on disk, written by `prepare` and read by `input_pipeline`.

It is a TFDS data set, `vitexco`, in ArrayRecord shards. `tfds.load` and
`tfds.data_source` read it like any other, without TensorFlow. A record is a frame.
A *run* is a sequence of frames from one shot of a video at equal steps; its records
are consecutive, so a clip is a slice of a run. Each picture is encoded separately,
and no frame is stored twice:

  frame       JPEG, 4:4:4 (chroma not subsampled), quality 98
  motion      from this frame to the next one of the run: 16-bit PNG, RGB =
              (8 dx + 2^15, 8 dy + 2^15, visible), exact to 1/16 pixel
  references  numbers of gallery pictures, the most similar first
  video       name of the video (or picture)
  index       number of the frame in the video, as decoded

Split `train` has the frames. Split `references` has the pictures that they refer to,
each once, with its number as `index`. Without a next frame no pixel is visible. The
metadata is listed in `Contents`.
"""

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgpack
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core.writer import ExampleWriter

from vitexco_jax.errors import UserError

FRAMES, REFERENCES = 'train', 'references'  # Splits.
_NAME, _VERSION = 'vitexco', '1.0.0'
_CITATION = """@misc{vitexco,
  title = {Vitexco: Exemplar-based Video Colorization using Vision Transformer},
  author = {Duong Thanh Tran and Nguyen Doan Hieu Nguyen and
    Trung Thanh Pham and Phuong-Nam Tran and Thuy-Duong Thi Vu and
    Duc Ngoc Minh Dang}
}"""
_FLOW_STEPS = 8.0  # Of a pixel.
_FLOW_ZERO = 1 << 15
_JPEG = (
  cv2.IMWRITE_JPEG_QUALITY,
  98,
  cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
  cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
# A third smaller than OpenCV's default.
_PNG = (
  cv2.IMWRITE_PNG_STRATEGY,
  cv2.IMWRITE_PNG_STRATEGY_FILTERED,
  cv2.IMWRITE_PNG_COMPRESSION,
  6,
)
# JPEG and PNG cannot be compressed further.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
_SHARD_RECORDS = 1024  # TFDS keeps a shard in memory while it writes.


class Run(NamedTuple):
  """A sequence of consecutive records."""

  video: str
  start: int  # Number of its first frame in the video, as decoded.
  first: int  # Record of that frame.
  frames: int


class Part(NamedTuple):
  """A range of records in a file written by `PartWriter`."""

  path: Path
  first: int
  count: int


class Contents(NamedTuple):
  """The contents of a data set."""

  size: tuple[int, int]  # Height and width of all pictures.
  settings: dict[str, Any]  # Settings of the preparation, as JSON values.
  videos: list[str]  # Names of the videos.
  runs: list[tuple[int, int, int]]  # Number of the video, start, frames.
  references: list[int]  # Numbers in the gallery, in the order of the split.
  left_out: dict[str, str]  # Why videos, or parts of them, were skipped.
  fingerprint: str  # A hash of all records.
  frame_parts: list[Part]
  reference_parts: list[Part]

  @property
  def metadata(self) -> dict[str, Any]:
    """The metadata that TFDS stores with the records."""
    names = 'settings videos runs references left_out fingerprint'
    return {name: getattr(self, name) for name in names.split()}


def encode(
  rgb: np.ndarray,
  video: str,
  index: int,
  motion: tuple[np.ndarray, np.ndarray] | None = None,
  references: Sequence[int] = (),
) -> dict[str, Any]:
  """Encodes a record.

  Args:
    rgb: [h, w, 3] uint8.
    video: name of the video or picture.
    index: frame of the video.
    motion: to the next frame of the run: flow [h, w, 2] float32, (dx, dy) in
      pixels, and visible [h, w, 1] uint8; None: no next frame.
    references: numbers of gallery pictures.

  Returns:
    The example for TFDS.
  """
  if motion is None:
    flow = np.zeros((*rgb.shape[:2], 2), np.float32)
    motion = flow, np.zeros((*rgb.shape[:2], 1), np.uint8)
  flow, visible = motion
  steps = np.rint(flow * _FLOW_STEPS) + _FLOW_ZERO
  steps = np.clip(steps, 0, (1 << 16) - 1).astype(np.uint16)
  planes = np.concatenate([steps, visible.astype(np.uint16)], -1)
  return {
    'frame': _encode('.jpg', rgb, _JPEG),
    'motion': _encode('.png', planes, _PNG),
    'references': [int(number) for number in references],
    'video': video,
    'index': int(index),
  }


class Record:
  """A record that decodes its fields on demand."""

  def __init__(self, example: dict[str, Any]):
    self.video: str = example['video'].decode()
    self.index: int = int(example['index'])
    self.references: list[int] = [int(x) for x in example['references']]
    self._frame: bytes = example['frame']
    self._motion: bytes = example['motion']

  def rgb(self) -> np.ndarray:
    """The picture, [h, w, 3] uint8."""
    return _decode(self._frame)

  def motion(self) -> tuple[np.ndarray, np.ndarray]:
    """Motion to the next frame: flow [h, w, 2] float32, visible [h, w, 1]."""
    planes = _decode(self._motion)
    flow = (planes[..., :2].astype(np.float32) - _FLOW_ZERO) / _FLOW_STEPS
    return flow, planes[..., 2:].astype(np.uint8)

  @property
  def bytes(self) -> int:
    """Size of the encoded picture and motion."""
    return len(self._frame) + len(self._motion)


class BrokenRecord(Exception):
  """A record cannot be read; the message has its number and the reason."""


class Records:
  """An open data set, for any number of reading threads and processes.

  Attributes:
    folder: path of the data set.
    size: (height, width) of all pictures.
    settings: settings of the preparation.
    runs: all runs, in the order of their records.
    left_out: why videos, or parts of them, were skipped.
    fingerprint: a hash of all records.
    bytes: size of all records.
    references: number of reference pictures.
  """

  def __init__(self, folder: Path):
    """Opens the data set in a folder that `write` wrote.

    Raises:
      FileNotFoundError: there is no data set.
      UserError: the data set cannot be read.
    """
    self.folder = Path(folder)
    path = self.folder / _NAME / _VERSION
    if not (path / 'dataset_info.json').exists():
      raise FileNotFoundError(path)
    try:
      builder = tfds.builder_from_directory(str(path))
      self.size: tuple[int, int] = builder.info.features['frame'].shape[:2]
      metadata = builder.info.metadata
      self.settings: dict[str, Any] = metadata['settings']
      self.left_out: dict[str, str] = metadata['left_out']
      self.fingerprint: str = metadata['fingerprint']
      self.runs: list[Run] = []
      first = 0
      for video, start, frames in metadata['runs']:
        self.runs.append(Run(metadata['videos'][video], start, first, frames))
        first += frames
      self.bytes: int = builder.info.dataset_size
      self.references: int = len(metadata['references'])
      self._places = {x: i for i, x in enumerate(metadata['references'])}
      undecoded = dict.fromkeys(('frame', 'motion'), tfds.decode.SkipDecoding())
      self._splits = {
        split: builder.as_data_source(split, decoders=undecoded)
        for split in builder.info.splits
      }
    except Exception as error:  # TFDS can raise anything.
      raise UserError(
        f'{path} is not a training set of this program ({error}): remove it and '
        'prepare again'
      ) from error

  def __len__(self) -> int:
    """Number of frames."""
    return len(self._splits[FRAMES])

  def read(self, number: int) -> Record:
    """Reads a frame's record; raises BrokenRecord."""
    return self._read(FRAMES, number)

  def read_reference(self, number: int) -> Record:
    """Reads a picture by its number in `Record.references`, like `read`."""
    return self._read(REFERENCES, self._places[number])

  def _read(self, split: str, place: int) -> Record:
    try:
      return Record(self._splits[split][place])
    except Exception as error:  # The layers below can raise anything.
      raise BrokenRecord(f'record {place} of {split}: {error}') from error


class PartWriter:
  """Writes records to a temporary file, which is renamed when complete.

  Removes an empty file. Raises OSError for errors of the disk.
  """

  def __init__(self, path: Path):
    self._path = path
    self._partial = path.with_name(path.name + '.partial')
    self._digest = hashlib.sha1()
    self.count = 0

  def __enter__(self) -> 'PartWriter':
    self._writer = array_record_module.ArrayRecordWriter(
      str(self._partial), _WRITER_OPTIONS
    )
    return self

  def write(self, example: dict[str, Any]):
    """Adds a record from `encode`."""
    encoded = msgpack.packb(example)
    self._writer.write(encoded)
    self._digest.update(encoded)
    self.count += 1

  @property
  def digest(self) -> str:
    """Hash of all written records."""
    return self._digest.hexdigest()

  def __exit__(self, kind, error, trace):
    try:
      self._writer.close()
      if kind is None and self.count:
        os.replace(self._partial, self._path)
    except (
      RuntimeError
    ) as failure:  # From ArrayRecord, e.g. if the disk is full.
      raise OSError(str(failure)) from failure
    finally:
      self._partial.unlink(missing_ok=True)


def write(folder: Path, contents: Contents) -> None:
  """Assembles the data set from its parts; replaces an existing one.

  Args:
    folder: `config.data.records`.
    contents: with at least one run.

  Raises:
    OSError: the data set cannot be written; the existing one is unchanged.
  """
  building = folder / '.building'
  shutil.rmtree(building, ignore_errors=True)
  try:
    builder = Vitexco(contents, data_dir=str(building))
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints the path.
      builder.download_and_prepare(file_format='array_record')
    shutil.rmtree(folder / _NAME, ignore_errors=True)
    os.replace(building / _NAME, folder / _NAME)
  except RuntimeError as error:  # From ArrayRecord, if the disk is full.
    raise OSError(str(error)) from error
  finally:
    shutil.rmtree(building, ignore_errors=True)


class Vitexco(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Video frames with motion and references for training colorizers."""

  name = _NAME
  VERSION = tfds.core.Version(_VERSION)

  def __init__(self, contents: Contents, **options):
    self._contents = contents
    super().__init__(**options)

  def _info(self) -> tfds.core.DatasetInfo:
    picture = (*self._contents.size, 3)
    return _Info(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict(
        {
          'frame': tfds.features.Image(shape=picture, encoding_format='jpeg'),
          'motion': tfds.features.Image(
            shape=picture, dtype=np.uint16, encoding_format='png'
          ),
          'references': tfds.features.Sequence(np.int32),
          'video': tfds.features.Text(),
          'index': np.int32,
        }
      ),
      disable_shuffling=True,  # Clips are consecutive records.
      citation=_CITATION,
      license='That of each video and picture; see `videos` in the metadata.',
      metadata=tfds.core.MetadataDict(self._contents.metadata),
    )

  def _shard_iterators_per_split(self, dl_manager):
    splits = {
      FRAMES: self._contents.frame_parts,
      REFERENCES: self._contents.reference_parts,
    }
    return {
      split: list(_shards(parts)) for split, parts in splits.items() if parts
    }

  def _example_writer(self) -> ExampleWriter:
    return _Uncompressed(self.info.file_format)


class _Info(tfds.core.DatasetInfo):
  """Information about a data set that does not exist online."""

  def initialize_from_bucket(self):
    """Does nothing; TFDS would leave a temporary folder."""


class _Uncompressed(ExampleWriter):
  """Writes like TFDS, but without compressing JPEG and PNG again."""

  def write(self, path, examples):
    writer = array_record_module.ArrayRecordWriter(
      os.fspath(path), _WRITER_OPTIONS
    )
    for _, example in examples:
      writer.write(example)
    writer.close()


def _shards(parts: Sequence[Part]) -> Iterator[Callable[[], Iterator]]:
  """Divides the records into shards of about equal size, in order."""
  total = sum(part.count for part in parts)
  shards = -(-total // _SHARD_RECORDS)
  for shard in range(shards):
    first, last = (total * i // shards for i in (shard, shard + 1))
    yield partial(_read_parts, parts, first, last)


def _read_parts(
  parts: Sequence[Part], first: int, last: int
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields records `first` to `last` of all parts with their numbers."""
  before, path, reader = 0, None, None
  for part in parts:
    begin, end = max(first - before, 0), min(last - before, part.count)
    if begin < end and part.path != path:
      path = part.path
      reader = array_record_module.ArrayRecordReader(
        str(path), 'readahead_buffer_size:0,max_parallelism:0'
      )
    for place in range(begin, end):
      (encoded,) = reader.read([part.first + place])
      yield before + place, msgpack.unpackb(encoded)
    before += part.count


def _encode(suffix: str, image: np.ndarray, options: Sequence[int]) -> bytes:
  # OpenCV encodes BGR, so that files have RGB channels.
  bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
  done, encoded = cv2.imencode(suffix, bgr, options)
  if not done:
    raise ValueError(f'cannot encode {image.dtype} {image.shape} as {suffix}')
  return encoded.tobytes()


def _decode(encoded: bytes) -> np.ndarray:
  how = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
  image = cv2.imdecode(np.frombuffer(encoded, np.uint8), how)
  if image is None:
    raise BrokenRecord('a picture in it is broken')
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
