"""What pretraining looks at: views of still pictures and of single frames.

A *view* is a window of a picture, scaled to one size and sometimes mirrored; a
share of the views is to be shown in gray, as frames will be. Pictures are those
of a folder or of a data set of TFDS, and besides the frames of the prepared
records, where there are any.

Some pictures are *held out*, never to be trained on. A name's digest decides,
wherever the picture lies and in whatever company: the pictures of the lowest
digests are held out, and with them each run of records whose video has as low a
one. So a picture stays out also where `prepare` made a run of it.
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

_HELD_OUT = 1 / 50  # Of the pictures, but at least and at most so many:
_LEAST, _MOST = 32, 256


class Views(NamedTuple):
  """A batch of views."""

  rgb: structs.Array  # [b, h, w, 3] uint8, in color.
  gray: structs.Array  # [b] bool, to be shown in gray.


class Collection(NamedTuple):
  """What there is to look at."""

  source: pictures.Folder | pictures.DataSet
  keys: list[str]  # Of the pictures to train on.
  held_out: list[str]  # Of the others.
  records: records.Records | None
  frames: np.ndarray  # Numbers of the frames to train on, in the records.

  def __len__(self) -> int:
    """How many pictures and frames there are to train on."""
    return len(self.keys) + len(self.frames)

  def read(self, number: int) -> np.ndarray:
    """Returns picture or frame of a number, [height, width, 3] uint8.

    Raises:
      UserError, records.BrokenRecord: it cannot be read.
    """
    if number < len(self.keys):
      return read(self.source, self.keys[number])
    return self.records.read(int(self.frames[number - len(self.keys)])).rgb()


def collect(config: ml_collections.ConfigDict, images: str) -> Collection:
  """Opens pictures and, where there are any, the records of `config.data`.

  Raises:
    UserError: there are no pictures, or too few of them to hold some out; or the
      records cannot be read.
  """
  source = pictures.open_pictures(images)
  keys = source.keys()
  if len(keys) < 2 * _LEAST:
    raise UserError(
      f'--images={images} holds {len(keys)} pictures; pretraining needs '
      f'{2 * _LEAST} at least, {_LEAST} of which are held out'
    )
  count = min(max(round(_HELD_OUT * len(keys)), _LEAST), _MOST)
  held_out = sorted(keys, key=_digest)[:count]
  bar = _digest(held_out[-1])
  keys = [key for key in keys if _digest(key) > bar]
  try:
    opened = records.Records(Path(config.data.records))
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
  config: ml_collections.ConfigDict,
  collection: Collection,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
) -> input_pipeline.Feed:
  """Makes the feed of `Views`: each epoch has one of each picture and frame.

  Args:
    config: its `pretrain`, `augment.flip`, `data` and `seed` count.
    collection: of which the pictures that are not held out are shown.
    batch_size: views in a batch, of all hosts together.
    host: whose share of each batch is wanted.
    hosts: how many there are.

  Raises:
    UserError: the seed or a number of threads is below 0.
  """
  input_pipeline.check(config)
  draw = functools.partial(
    _draw,
    collection=collection,
    size=tuple(config.pretrain.size),
    crop=config.pretrain.crop,
    gray=config.pretrain.grey,
    flip=config.augment.flip,
  )
  samples = (
    grain.MapDataset.range(len(collection))
    .seed(config.seed)
    .shuffle()
    .random_map(draw)
    .repeat()
  )
  return input_pipeline.Feed(samples, batch_size, config.data, host, hosts)


def _draw(
  number: int,
  rng: np.random.Generator,
  collection: Collection,
  size: tuple[int, int],
  crop: float,
  gray: float,
  flip: float,
) -> input_pipeline.Drawn:
  """Draws a view of a picture, or of another where that cannot be read."""
  broken = ''
  for _ in range(input_pipeline.ATTEMPTS):
    try:
      rgb = collection.read(number)
    except (UserError, records.BrokenRecord) as error:
      broken = broken or str(error)
      number = int(rng.integers(len(collection)))
      continue
    rgb = cut(rgb, size, rng.uniform(crop, 1), rng.random(2))
    if rng.random() < flip:
      rgb = np.ascontiguousarray(rgb[:, ::-1])
    return input_pipeline.Drawn(
      Views(rgb, np.bool_(rng.random() < gray)), np.str_(broken)
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
  """Cuts a window out of a picture, and scales it.

  Args:
    rgb: [height, width, 3] uint8, of any size.
    size: (h, w) of the result, whose aspect the window has.
    share: side of the window, as a share of that of the largest one.
    place: where it lies among all places, down and across, in [0, 1].

  Returns:
    [h, w, 3] uint8.
  """
  scale = share * min(rgb.shape[0] / size[0], rgb.shape[1] / size[1])
  window = []
  for side, wanted, at in zip(rgb.shape, size, place, strict=False):
    kept = min(max(round(wanted * scale), 1), side)
    start = round(at * (side - kept))
    window.append(slice(start, start + kept))
  return cv2.resize(
    rgb[tuple(window)],
    (size[1], size[0]),
    interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC,
  )


def held_out(
  collection: Collection, size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """Yields the middle of each picture that is held out, [h, w, 3] uint8.

  Those that cannot be read are left out.
  """
  for key in collection.held_out:
    try:
      rgb = read(collection.source, key)
    except UserError:
      continue
    yield cut(rgb, size)
