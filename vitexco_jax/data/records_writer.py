"""Writes the training set: parts of records, assembled to a TFDS data set."""

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core.writer import ExampleWriter

from vitexco_jax.data import records
from vitexco_jax.data.records import FRAMES, NAME, REFERENCES

_CITATION = """@misc{vitexco,
  title = {Vitexco: Exemplar-based Video Colorization using Vision Transformer},
  author = {Duong Thanh Tran and Nguyen Doan Hieu Nguyen and
    Trung Thanh Pham and Phuong-Nam Tran and Thuy-Duong Thi Vu and
    Duc Ngoc Minh Dang}
}"""
# JPEG and PNG cannot be compressed further.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
_SHARD_RECORDS = 1024  # TFDS keeps a shard in memory while it writes.


class Part(NamedTuple):
  """A range of records in a file written by `PartWriter`."""

  path: Path
  first: int
  size: int


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


class PartWriter:
  """Writes records to a temporary file, which is renamed when complete.

  Removes an empty file. Raises OSError for errors of the disk.
  """

  def __init__(self, path: Path) -> None:
    self._path = path
    self._partial = path.with_name(path.name + '.partial')
    self._digest = hashlib.sha1()
    self.count = 0

  def __enter__(self) -> 'PartWriter':
    self._writer = array_record_module.ArrayRecordWriter(
      str(self._partial), _WRITER_OPTIONS
    )
    return self

  def write(self, example: dict[str, Any]) -> None:
    """Adds a record from `encode`."""
    encoded = msgpack.packb(example)
    self._writer.write(encoded)
    self._digest.update(encoded)
    self.count += 1

  @property
  def digest(self) -> str:
    """Hash of all written records."""
    return self._digest.hexdigest()

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
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
    shutil.rmtree(folder / NAME, ignore_errors=True)
    os.replace(building / NAME, folder / NAME)
  except RuntimeError as error:  # From ArrayRecord, if the disk is full.
    raise OSError(str(error)) from error
  finally:
    shutil.rmtree(building, ignore_errors=True)


class Vitexco(  # type: ignore[call-arg]
  tfds.core.ShardBasedBuilder, skip_registration=True
):
  """Video frames with motion and references for training colorizers."""

  name = NAME
  VERSION = tfds.core.Version(records.VERSION)

  def __init__(self, contents: Contents, **options: Any) -> None:
    self._contents = contents
    super().__init__(**options)

  def _info(self) -> tfds.core.DatasetInfo:
    picture = (*self._contents.size, 3)
    return _Info(
      builder=self,
      description=records.__doc__,
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

  def _shard_iterators_per_split(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, list[Callable[[], Iterator]]]:
    del dl_manager
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

  def initialize_from_bucket(self) -> None:
    """Does nothing; TFDS would leave a temporary folder."""


class _Uncompressed(ExampleWriter):
  """Writes like TFDS, but without compressing JPEG and PNG again."""

  def write(self, path: Path, examples: Iterable[tuple[Any, bytes]]) -> None:
    writer = array_record_module.ArrayRecordWriter(
      os.fspath(path), _WRITER_OPTIONS
    )
    for _, example in examples:
      writer.write(example)
    writer.close()


def _shards(parts: Sequence[Part]) -> Iterator[Callable[[], Iterator]]:
  """Divides the records into shards of about equal size, in order."""
  total = sum(part.size for part in parts)
  shards = -(-total // _SHARD_RECORDS)
  for shard in range(shards):
    first, last = (total * i // shards for i in (shard, shard + 1))
    yield partial(_read_parts, parts, first, last)


def _read_parts(
  parts: Sequence[Part], first: int, last: int
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields records `first` to `last` of all parts with their numbers."""
  before = 0
  path: Path | None = None
  reader: Any = None
  for part in parts:
    begin, end = max(first - before, 0), min(last - before, part.size)
    if begin < end and part.path != path:
      path = part.path
      reader = array_record_module.ArrayRecordReader(
        str(path), 'readahead_buffer_size:0,max_parallelism:0'
      )
    for place in range(begin, end):
      (encoded,) = reader.read([part.first + place])
      yield before + place, msgpack.unpackb(encoded)
    before += part.size
