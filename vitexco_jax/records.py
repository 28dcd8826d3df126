"""The training set on disk: what `prepare` writes and `data` reads.

A *record* holds a *run*: consecutive frames of one video, the forward flow and
visibility between neighbours, and up to five retrieved references. A sample of
any length is cut out at reading, so no frame is stored twice. Every picture is
encoded by itself and only what a sample needs is decoded:

  frames, references   JPEG, 4:4:4 (chroma not subsampled), quality 98
  flow with visible    PNG, 16 bit, as OpenCV reads it: 8 dx + 2^15,
                       8 dy + 2^15, visible; so within 1/16 pixel

A record is a msgpack map of lists of these bytes. Records lie in ArrayRecord
shards, one shard for each video, beside `manifest.json` (see `Manifest`).
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgpack
import numpy as np
from array_record.python import array_record_module

from vitexco_jax import files
from vitexco_jax.errors import UserError

MAX_REFERENCES = 5
_MANIFEST = 'manifest.json'
_FLOW_STEPS = 8.0  # Of a pixel.
_FLOW_ZERO = 1 << 15
_JPEG = (
  cv2.IMWRITE_JPEG_QUALITY,
  98,
  cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
  cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


class Run(NamedTuple):
  """Consecutive frames of a video, with the motion between them."""

  rgb: np.ndarray  # [t, h, w, 3] uint8
  flow: np.ndarray  # [t-1, h, w, 2] float32 (dx, dy) pixels, to the next frame.
  visible: np.ndarray  # [t-1, h, w, 1] uint8, 1 where flow can be trusted.


class Entry(NamedTuple):
  """Where a record is, and what of which video it holds."""

  shard: str  # File in the records' folder.
  index: int  # Of the record in its shard.
  video: str
  start: int  # First frame, counted after leaving out by `frame_step`.
  frames: int


class Manifest(NamedTuple):
  """The table of records; `manifest.json` in their folder."""

  settings: dict[str, Any]  # Of config.data, as they were at preparation.
  records: list[Entry]
  left_out: dict[str, str]  # Video to the reason why it, or part, is not here.

  def write(self, folder: Path):
    """Writes the manifest in one piece: a reader sees all or nothing."""
    text = json.dumps(
      {
        'settings': self.settings,
        'records': [entry._asdict() for entry in self.records],
        'left_out': self.left_out,
      },
      indent=1,
    )
    files.write(Path(folder) / _MANIFEST, text)

  @classmethod
  def read(cls, folder: Path) -> 'Manifest':
    """Reads the manifest; raises FileNotFoundError if there is none."""
    path = Path(folder) / _MANIFEST
    try:
      tree = json.loads(path.read_text())
      records = [Entry(**entry) for entry in tree['records']]
      return cls(tree['settings'], records, tree['left_out'])
    except FileNotFoundError:
      raise
    except OSError as error:
      raise UserError(f'cannot read {path}: {error.strerror}') from error
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f'{path} is not a manifest of this program ({error}); '
        'remove it and prepare again'
      ) from error


class Record:
  """A record as read: decodes what it is asked for."""

  def __init__(self, encoded: bytes):
    tree = msgpack.unpackb(encoded)
    self._frames: list[bytes] = tree['frames']
    self._flows: list[bytes] = tree['flows']
    self._references: list[bytes] = tree['references']

  @property
  def frames(self) -> int:
    return len(self._frames)

  @property
  def references(self) -> int:
    return len(self._references)

  def frame(self, index: int) -> np.ndarray:
    """Returns [h, w, 3] uint8 RGB."""
    return _decode_rgb(self._frames[index])

  def reference(self, index: int) -> np.ndarray:
    """Returns [h, w, 3] uint8 RGB."""
    return _decode_rgb(self._references[index])

  def flow(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """From frame `index` to the next: flow [h, w, 2], visible [h, w, 1]."""
    planes = _decode(self._flows[index], cv2.IMREAD_UNCHANGED)
    flow = (planes[..., :2].astype(np.float32) - _FLOW_ZERO) / _FLOW_STEPS
    return flow, planes[..., 2:].astype(np.uint8)


def encode(run: Run, references: tuple[np.ndarray, ...] = ()) -> bytes:
  """Encodes a run and its retrieved references, [h, w, 3] uint8 RGB each."""
  if len(references) > MAX_REFERENCES:
    raise ValueError(f'{len(references)} references, {MAX_REFERENCES} at most')
  pairs = zip(run.flow, run.visible, strict=True)
  return msgpack.packb(
    {
      'frames': [_encode_rgb(rgb) for rgb in run.rgb],
      'flows': [_encode_flow(flow, visible) for flow, visible in pairs],
      'references': [_encode_rgb(rgb) for rgb in references],
    }
  )


def read_record(folder: Path, entry: Entry) -> Record:
  """Reads one record. Opening a shard is cheap, so none is kept open."""
  # A value of zero for both means random access: nothing is read ahead.
  reader = array_record_module.ArrayRecordReader(
    str(Path(folder) / entry.shard), 'readahead_buffer_size:0,max_parallelism:0'
  )
  try:
    return Record(reader.read([entry.index])[0])
  finally:
    reader.close()


class ShardWriter:
  """Writes a shard under a temporary name; moved into place when complete.

  A shard into which nothing was written leaves no file. What goes wrong with
  the disk is raised as OSError.
  """

  def __init__(self, path: Path):
    self._path = path
    self._partial = path.with_name(path.name + '.partial')
    self._empty = True

  def __enter__(self) -> 'ShardWriter':
    # JPEG and PNG do not shrink any further.
    self._writer = array_record_module.ArrayRecordWriter(
      str(self._partial), 'group_size:1,uncompressed'
    )
    return self

  def write(self, encoded: bytes):
    self._writer.write(encoded)
    self._empty = False

  def __exit__(self, kind, error, trace):
    try:
      self._writer.close()
      if kind is None and not self._empty:
        os.replace(self._partial, self._path)
    except RuntimeError as failure:  # ArrayRecord's, for a full disk too.
      raise OSError(str(failure)) from failure
    finally:
      self._partial.unlink(missing_ok=True)


def _encode(suffix: str, image: np.ndarray, options: tuple[int, ...]) -> bytes:
  done, encoded = cv2.imencode(suffix, image, options)
  if not done:
    raise ValueError(f'cannot encode {image.dtype} {image.shape} as {suffix}')
  return encoded.tobytes()


def _decode(encoded: bytes, how: int) -> np.ndarray:
  image = cv2.imdecode(np.frombuffer(encoded, np.uint8), how)
  if image is None:
    raise ValueError('a picture in a record is broken')
  return image


def _encode_rgb(rgb: np.ndarray) -> bytes:
  return _encode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG)


def _decode_rgb(encoded: bytes) -> np.ndarray:
  image = _decode(encoded, cv2.IMREAD_COLOR)
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _encode_flow(flow: np.ndarray, visible: np.ndarray) -> bytes:
  steps = np.rint(flow * _FLOW_STEPS) + _FLOW_ZERO
  steps = np.clip(steps, 0, (1 << 16) - 1).astype(np.uint16)
  planes = np.concatenate([steps, visible.astype(np.uint16)], -1)
  return _encode('.png', planes, ())
