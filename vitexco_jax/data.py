"""The training feed: batches of clips, without end, cut out of the records.

A sample is a (record, start): `config.train.clip_length` consecutive frames of
one run, so that every frame can be the first of a clip and no clip crosses from
one run into another. Each epoch shuffles all samples anew. Reading, decoding and
the random choices run in Grain, in threads of this process or in processes of
their own; what comes n-th depends on the seed alone.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import grain
import ml_collections
import numpy as np

from vitexco_jax import records, structs
from vitexco_jax.errors import UserError

_FIRST_FRAME_SHARE = 0.25  # Of same-video references.


def make_iterator(
  config: ml_collections.ConfigDict, batch_size: int
) -> grain.DatasetIterator:
  """Returns an endless iterator of `structs.Clips` of NumPy arrays.

  Its `get_state()` is a JSON-able dict that counts batches; an iterator made by
  the same arguments goes on exactly there after `set_state(state)`.

  Args:
    config: its `data`, `train.clip_length` and `seed` count.
    batch_size: clips in a batch.

  Raises:
    UserError: there are no records at `config.data.records`, or they do not fit
      the config.
  """
  data = config.data
  make_clip = functools.partial(
    _make_clip,
    length=config.train.clip_length,
    retrieved_share=data.retrieved_share,
  )
  dataset = (
    grain.MapDataset.source(_Samples(_read_manifest(config), config))
    .seed(config.seed)
    .shuffle()
    .random_map(make_clip)
    .repeat()
    .batch(batch_size)
  )
  if data.workers:
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    workers = grain.MultiprocessingOptions(num_workers=data.workers)
    return iter(dataset.to_iter_dataset(options).mp_prefetch(workers))
  options = grain.ReadOptions(
    num_threads=data.threads, prefetch_buffer_size=2 * data.threads
  )
  return iter(dataset.to_iter_dataset(options))


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


def _make_clip(
  sample: _Sample, rng: np.random.Generator, length: int, retrieved_share: float
) -> structs.Clips:
  """Draws the reference and the flips, and decodes what is needed.

  A clip and its reference are flipped each by its own coin, except that a
  clip's own first frame stays its own first frame.
  """
  record, start = sample
  steps = range(start, start + length - 1)
  flips, reference_flips = rng.random(2) < 0.5
  same_video = not record.references or rng.random() >= retrieved_share
  first_frame = False
  if not same_video:
    reference = record.reference(rng.integers(record.references))
  else:
    own = rng.random() < _FIRST_FRAME_SHARE
    frame = start if own else int(rng.integers(record.frames))
    reference = record.frame(frame)
    first_frame = frame == start
  if first_frame:
    reference_flips = flips
  motion = [record.flow(step) for step in steps]
  rgb = np.stack([record.frame(start + step) for step in range(length)])
  flow = np.stack([flow for flow, _ in motion])
  visible = np.stack([visible for _, visible in motion])
  if flips:
    rgb, flow, visible = _flip(rgb, flow, visible)
  if reference_flips:
    reference = reference[:, ::-1]
  return structs.Clips(
    rgb=rgb,
    reference=reference,
    flow=flow,
    visible=visible,
    same_video=np.bool_(same_video),
    first_frame=np.bool_(first_frame),
  )


def _flip(
  rgb: np.ndarray, flow: np.ndarray, visible: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Mirrors left and right, [t, h, w, c] each; dx changes its sign."""
  mirrored = flow[:, :, ::-1] * np.float32([-1, 1])
  return rgb[:, :, ::-1], mirrored, visible[:, :, ::-1]


def _read_manifest(config: ml_collections.ConfigDict) -> records.Manifest:
  """Reads the manifest and checks it against the config."""
  folder = Path(config.data.records)
  length = config.train.clip_length
  try:
    manifest = records.Manifest.read(folder)
  except FileNotFoundError as error:
    suffix = '' if config.variant == 'paper' else f':{config.variant}'
    raise UserError(
      f'no prepared videos at {folder} (config.data.records); prepare them by '
      '`python launch.py --mode=prepare --config=configs/vitexco.py'
      f'{suffix} --videos=DIR`'
    ) from error
  prepared = tuple(manifest.settings['size'])
  if prepared != tuple(config.data.size):
    raise UserError(
      f'the records at {folder} are {prepared[0]}x{prepared[1]}, not '
      f'config.data.size={tuple(config.data.size)}; set one to the other or '
      'prepare the videos again at another config.data.records'
    )
  if not 2 <= length <= max(entry.frames for entry in manifest.records):
    longest = max(entry.frames for entry in manifest.records)
    raise UserError(
      f'config.train.clip_length={length} must be at least 2 and at most '
      f'{longest}, the longest run of the records at {folder}'
    )
  for shard in {entry.shard for entry in manifest.records}:
    if not (folder / shard).is_file():
      raise UserError(
        f'{folder / shard} is missing, though the manifest lists it; run '
        '--mode=prepare again'
      )
  return manifest
