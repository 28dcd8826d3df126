"""Input pipeline of pretraining: random crops of still pictures and frames.

A *crop* is a window of a picture, scaled to a fixed size and sometimes flipped; a
share of the crops is shown in gray, like the frames of a video. The pictures come
from a folder or a TFDS data set, and from the frames of the prepared records, if
any.

Some pictures are *held out* for validation. The hash of the name decides: pictures
with the lowest hashes are held out, and so are runs of records whose video has such
a hash. A picture is therefore also held out if `prepare` made a run from it.
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import grain
import ml_collections
import numpy as np

from vitexco_jax import structs
from vitexco_jax.data import input_pipeline, records
from vitexco_jax.errors import UserError
from vitexco_jax.media import pictures, video

_HELD_OUT = 1 / 50  # Share of the pictures, but at least and at most:
_LEAST, _MOST = 32, 256


class Crops(NamedTuple):
  """A batch of crops."""

  rgb: structs.Array  # [b, h, w, 3] uint8, in color.
  gray: structs.Array  # [b] bool, whether to show it in gray.


class Collection(NamedTuple):
  """The pictures and frames of a run."""

  source: pictures.Folder | pictures.DataSet
  keys: list[str]  # Of the training pictures.
  held_out: list[str]  # Keys of the held-out pictures.
  records: records.Records | None
  frames: np.ndarray  # Numbers of the training frames in the records.

  def __len__(self) -> int:
    """Number of training pictures and frames."""
    return len(self.keys) + len(self.frames)

  def read(self, number: int) -> np.ndarray:
    """Returns a picture or frame by its number, [height, width, 3] uint8.

    Raises:
      UserError, records.BrokenRecord: the picture cannot be read.
    """
    if number < len(self.keys):
      return read(self.source, self.keys[number])
    assert self.records is not None  # It has frames.
    return self.records.read(int(self.frames[number - len(self.keys)])).rgb()


def collect(images: str, folder: Path) -> Collection:
  """Opens pictures and, if they exist, records.

  Args:
    images: a folder of pictures or a TFDS data set.
    folder: of the records.

  Raises:
    UserError: there are too few pictures, or the records cannot be read.
  """
  source = pictures.open_pictures(images)
  keys = source.keys()
  if len(keys) < 2 * _LEAST:
    raise UserError(
      f'`images={images}` has {len(keys)} pictures; pretraining needs at least '
      f'{2 * _LEAST}, of which {_LEAST} are held out'
    )
  count = min(max(round(_HELD_OUT * len(keys)), _LEAST), _MOST)
  held_out = sorted(keys, key=_digest)[:count]
  bar = _digest(held_out[-1])
  keys = [key for key in keys if _digest(key) > bar]
  try:
    opened = records.Records(folder)
  except FileNotFoundError:
    return Collection(source, keys, held_out, None, np.arange(0))
  frames = [np.arange(0)] + [
    np.arange(run.first, run.first + run.frames)
    for run in opened.runs
    if _digest(run.video) > bar
  ]
  return Collection(source, keys, held_out, opened, np.concatenate(frames))


def _digest(name: str) -> bytes:
  return hashlib.sha1(os.fsencode(name)).digest()


def make_feed(
  collection: Collection,
  settings: ml_collections.ConfigDict,
  flip: float,
  data: ml_collections.ConfigDict,
  seed: int,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
) -> input_pipeline.Feed:
  """Returns the feed of `Crops`: each epoch has one of each picture and frame.

  Args:
    collection: its training pictures and frames are used.
    settings: `config.pretrain`.
    flip: probability that a crop is mirrored.
    data: `config.data`, for the number of threads and processes.
    seed: of the order and of all random choices.
    batch_size: crops in a batch, of all hosts together.
    host: index of this host, which gets its share of each batch.
    hosts: number of hosts.
  """
  draw = functools.partial(
    _draw,
    collection=collection,
    size=tuple(settings.size),
    crop=settings.crop,
    gray=settings.gray,
    flip=flip,
  )
  samples = (
    grain.MapDataset.range(len(collection))
    .seed(seed)
    .shuffle()
    .random_map(draw)
    .repeat()
  )
  return input_pipeline.Feed(samples, batch_size, data, host, hosts)


def _draw(
  number: int,
  rng: np.random.Generator,
  collection: Collection,
  size: tuple[int, int],
  crop: float,
  gray: float,
  flip: float,
) -> input_pipeline.Drawn:
  """Draws a crop of a picture, or of another one if it cannot be read."""
  broken = ''
  for _ in range(input_pipeline.ATTEMPTS):
    try:
      rgb = collection.read(number)
    except (UserError, records.BrokenRecord) as error:
      broken = broken or str(error)
      number = int(rng.integers(len(collection)))
      continue
    share, place = rng.uniform(crop, 1), rng.random(2)
    rgb = cut(rgb, size, share, (place[0], place[1]))
    if rng.random() < flip:
      rgb = np.ascontiguousarray(rgb[:, ::-1])
    return input_pipeline.Drawn(
      Crops(rgb, np.asarray(rng.random() < gray)), np.str_(broken)
    )
  raise UserError(
    f'{input_pipeline.ATTEMPTS} pictures in a row cannot be read, the first for {broken}'
  )


def read(source: pictures.Folder | pictures.DataSet, key: str) -> np.ndarray:
  """Returns a picture, [height, width, 3] uint8; raises UserError."""
  name, content = source.load(key)
  return video.decode_image(content, name)


def cut(
  rgb: np.ndarray,
  size: tuple[int, int],
  share: float = 1.0,
  place: tuple[float, float] = (0.5, 0.5),
) -> np.ndarray:
  """Crops a window from a picture and scales it.

  Args:
    rgb: [height, width, 3] uint8, of any size.
    size: (h, w) of the result; the window has the same aspect ratio.
    share: side of the window relative to the largest possible window.
    place: relative position of the window, vertical and horizontal, in [0, 1].

  Returns:
    [h, w, 3] uint8.
  """
  scale = share * min(rgb.shape[0] / size[0], rgb.shape[1] / size[1])
  window = []
  for side, target, at in zip(rgb.shape, size, place, strict=False):
    length = min(max(round(target * scale), 1), side)
    start = round(at * (side - length))
    window.append(slice(start, start + length))
  return cv2.resize(
    rgb[tuple(window)],
    (size[1], size[0]),
    interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC,
  )


def held_out(
  collection: Collection, size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """Yields the central crop of each held-out picture, [h, w, 3] uint8.

  Skips unreadable pictures.
  """
  for key in collection.held_out:
    try:
      rgb = read(collection.source, key)
    except UserError:
      continue
    yield cut(rgb, size)
