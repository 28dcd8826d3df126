"""The training feed: batches of clips, without end, cut out of the records.

A sample is a (record, start): `config.train.clip_length` consecutive frames of
one run, so that every frame can be the first of a clip and no clip crosses from
one run into another. Each epoch shuffles all samples anew. Reading, decoding and
the random choices run in Grain, in threads of this process or in processes of
their own; which sample and which choices come n-th depends on the seed alone,
not on how many threads or processes there are, nor on the size of a batch.
"""

import functools
import operator
from pathlib import Path
from typing import NamedTuple

import grain
import ml_collections
import numpy as np

from vitexco_jax import augment, records, structs
from vitexco_jax.errors import UserError


class ClipIterator:
  """An endless iterator of `structs.Clips` of NumPy arrays.

  Its state is how many samples it has given. Nothing is read before the first
  `next`.
  """

  def __init__(
    self,
    samples: grain.MapDataset,
    batch_size: int,
    data: ml_collections.ConfigDict,
  ):
    self._samples = samples
    self._batch_size = batch_size
    self._data = data
    self.set_state({'samples': 0})

  def __iter__(self) -> 'ClipIterator':
    return self

  def __next__(self) -> structs.Clips:
    if self._batches is None:
      self._batches = self._read_from(self._given)
    clips = next(self._batches)
    self._given += self._batch_size
    return clips

  def get_state(self) -> dict[str, int]:
    """Returns what `set_state` takes; JSON keeps it."""
    return {'samples': self._given}

  def set_state(self, state: dict[str, int]):
    """Goes to where an iterator of the same records and seed was."""
    self._given = state['samples']
    self._batches = None

  def _read_from(self, sample: int) -> grain.DatasetIterator:
    # Without the flag Grain counts the endless batches in float, and overflows.
    batches = self._samples[sample:].batch(
      self._batch_size, drop_remainder=True
    )
    workers, threads = self._data.workers, self._data.threads
    if workers:
      options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
      processes = grain.MultiprocessingOptions(num_workers=workers)
      return iter(batches.to_iter_dataset(options).mp_prefetch(processes))
    options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=2 * threads
    )
    return iter(batches.to_iter_dataset(options))


def make_iterator(
  config: ml_collections.ConfigDict, batch_size: int
) -> ClipIterator:
  """Opens the records of `config.data` for training.

  Args:
    config: its `data`, `augment`, `train.clip_length` and `seed` count.
    batch_size: clips in a batch.

  Raises:
    UserError: there are no records at `config.data.records`, or they do not fit
      the config; or the seed or a number of threads is below 0.
  """
  for name in ('seed', 'data.threads', 'data.workers'):
    value = operator.attrgetter(name)(config)
    if value < 0:
      raise UserError(f'config.{name}={value} must be at least 0')
  manifest = _read_manifest(config)
  draw = functools.partial(
    _draw_clip,
    length=config.train.clip_length,
    retrieved_share=config.data.retrieved_share,
    first_frame_share=config.data.first_frame_share,
    flip=config.augment.flip,
    crop=config.augment.crop,
  )
  samples = (
    grain.MapDataset.source(_Samples(manifest, config))
    .seed(config.seed)
    .shuffle()
    .random_map(draw)
    .repeat()
  )
  return ClipIterator(samples, batch_size, config.data)


class _Sample(NamedTuple):
  """Where a clip lies."""

  record: records.Record
  start: int


class _Samples:
  """All samples, by number: the data source that Grain reads."""

  def __init__(
    self, manifest: records.Manifest, config: ml_collections.ConfigDict
  ):
    self._folder = Path(config.data.records)
    self._entries = manifest.records
    starts = [
      max(0, entry.frames - config.train.clip_length + 1)
      for entry in manifest.records
    ]
    # Sample n lies in the first record whose end is past n.
    self._ends = np.cumsum(starts)

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, number: int) -> _Sample:
    index = int(np.searchsorted(self._ends, number, side='right'))
    start = number - (int(self._ends[index - 1]) if index else 0)
    record = records.read_record(self._folder, self._entries[index])
    return _Sample(record, start)


def _draw_clip(
  sample: _Sample,
  rng: np.random.Generator,
  length: int,
  retrieved_share: float,
  first_frame_share: float,
  flip: float,
  crop: float,
) -> structs.Clips:
  """Draws the reference and the framing, and decodes what is needed."""
  record, start = sample
  same_video = not record.references or rng.random() >= retrieved_share
  first_frame = False
  if not same_video:
    reference = record.reference(int(rng.integers(record.references)))
  else:
    first = rng.random() < first_frame_share
    frame = start if first else int(rng.integers(record.frames))
    reference = record.frame(frame)
    first_frame = frame == start
  steps = range(start, start + length - 1)
  flow, visible = zip(*[record.flow(step) for step in steps], strict=True)
  clip = structs.Clips(
    rgb=np.stack([record.frame(start + step) for step in range(length)]),
    reference=reference,
    flow=np.stack(flow),
    visible=np.stack(visible),
    same_video=np.bool_(same_video),
    first_frame=np.bool_(first_frame),
  )
  return augment.reframe(clip, rng, flip, crop)


def _read_manifest(config: ml_collections.ConfigDict) -> records.Manifest:
  """Reads the manifest and checks it against the config."""
  folder = Path(config.data.records)
  length = config.train.clip_length
  variant = '' if config.variant == 'paper' else f':{config.variant}'
  prepare = (
    f'`python launch.py --mode=prepare --config=configs/vitexco.py{variant} '
    f'--videos=DIR --config.data.records={folder}`'
  )
  try:
    manifest = records.Manifest.read(folder)
  except FileNotFoundError as error:
    raise UserError(
      f'no prepared videos at {folder} (config.data.records); prepare a folder '
      f'of videos by {prepare}'
    ) from error
  prepared = tuple(manifest.settings['size'])
  if prepared != tuple(config.data.size):
    raise UserError(
      f'the records at {folder} are {prepared[0]}x{prepared[1]}, not '
      f'config.data.size={tuple(config.data.size)}: set this to theirs, or '
      'prepare the videos again into another folder, config.data.records'
    )
  longest = max(entry.frames for entry in manifest.records)
  if not 2 <= length <= longest:
    raise UserError(
      f'config.train.clip_length={length} must be at least 2 and at most '
      f'{longest}, the longest run of the records at {folder}'
    )
  for shard in sorted({entry.shard for entry in manifest.records}):
    if not (folder / shard).is_file():
      raise UserError(
        f'{folder / shard} is missing, though the manifest lists it: prepare '
        f'the videos again by {prepare}'
      )
  return manifest
