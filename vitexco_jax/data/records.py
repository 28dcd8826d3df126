"""The training set on disk, written by `records_writer` and read by `input_pipeline`.

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
metadata is listed in `records_writer.Contents`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from vitexco_jax.errors import UserError

FRAMES, REFERENCES = 'train', 'references'  # Splits.
NAME, VERSION = 'vitexco', '1.0.0'
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


class Run(NamedTuple):
  """A sequence of consecutive records."""

  video: str
  start: int  # Number of its first frame in the video, as decoded.
  first: int  # Record of that frame.
  frames: int


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

  def __init__(self, example: dict[str, Any]) -> None:
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

  def __init__(self, folder: Path) -> None:
    """Opens the data set in a folder of records.

    Raises:
      FileNotFoundError: there is no data set.
      UserError: the data set cannot be read.
    """
    self.folder = Path(folder)
    path = self.folder / NAME / VERSION
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
