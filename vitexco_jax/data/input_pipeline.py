"""Input pipeline of training: an endless iterator over batches of clips.

A sample is a (run, start): `config.train.clip_length` consecutive frames of one run.
Any frame can be the first of a clip, and no clip crosses the border of a run. Each
epoch reshuffles all samples. Grain reads, decodes, and draws random choices, in
threads of this process or in worker processes. The n-th sample and its choices
depend only on the seed, not on the number of threads or processes or the batch size.

Unreadable records do not stop training: each of their samples is replaced by another
one, the record is named once, and `skipped` counts the samples.
"""

import functools
import itertools
import logging
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import grain
import ml_collections
import numpy as np

from vitexco_jax import flow, structs
from vitexco_jax.data import augment, records, synthetic_motion
from vitexco_jax.errors import UserError, program

_logger = logging.getLogger(__name__)

ATTEMPTS = 100  # Maximum number of samples tried in place of one.
_NEARBY = 5  # Maximum distance of a nearby reference, in frames.


class Drawn(NamedTuple):
  """A sample drawn by Grain."""

  sample: Any  # A tree of arrays.
  broken: (
    np.str_
  )  # Why the original sample could not be read; empty if it could.


class Feed:
  """An endless iterator over batches: trees of NumPy arrays.

  Its state is the number of samples so far on all hosts together, so that training
  can resume with another number of hosts. Nothing is read before the first `next`.

  Attributes:
    skipped: number of unreadable samples that were replaced.
  """

  def __init__(
    self,
    samples: grain.MapDataset,
    batch_size: int,
    data: ml_collections.ConfigDict,
    host: int,
    hosts: int,
  ) -> None:
    """Starts at the first sample.

    Args:
      samples: an endless data set of `Drawn`.
      batch_size: samples in a batch, of all hosts together.
      data: uses `threads` and `workers`.
      host: index of this host, which gets every `hosts`-th sample of a batch.
      hosts: number of hosts; must divide `batch_size`.
    """
    self._samples = samples
    self._batch_size = batch_size
    self._host, self._hosts = host, hosts
    self._data = data
    self.skipped = 0
    self._named: set[str] = set()
    self._batches: grain.DatasetIterator | None = None
    self.set_state({'samples': 0})

  def __iter__(self) -> 'Feed':
    return self

  def __next__(self) -> Any:
    if self._batches is None:
      self._batches = self._read_from(self._given)
    drawn = next(self._batches)
    self._given += self._batch_size
    self._report(drawn)
    return drawn.sample

  def get_state(self) -> dict[str, int]:
    """Returns the state for `set_state`, as JSON values."""
    return {'samples': self._given}

  def set_state(self, state: dict[str, int]) -> None:
    """Moves to the state of an iterator with the same records and seed."""
    self._given = state['samples']
    self._batches = None

  def _read_from(self, sample: int) -> grain.DatasetIterator:
    # Without drop_remainder Grain counts endless batches in float and overflows.
    share = self._samples[sample + self._host :: self._hosts]
    batches = share.batch(self._batch_size // self._hosts, drop_remainder=True)
    workers, threads = self._data.workers, self._data.threads
    if workers:
      options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
      processes = grain.MultiprocessingOptions(num_workers=workers)
      return iter(batches.to_iter_dataset(options).mp_prefetch(processes))
    options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=2 * threads
    )
    return iter(batches.to_iter_dataset(options))

  def _report(self, drawn: Drawn) -> None:
    """Counts replaced samples and prints each reason once."""
    broken = [str(name) for name in drawn.broken if name]
    self.skipped += len(broken)
    for name in set(broken) - self._named:
      _logger.warning(f'skipped {name}', extra={'kind': ''})
    self._named.update(broken)


def make_iterator(
  source: records.Records,
  clip_length: int,
  data: ml_collections.ConfigDict,
  augmentation: ml_collections.ConfigDict,
  flow_alpha: float | None,
  seed: int,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
) -> Feed:
  """Returns the feed of `structs.Clips` for training.

  Args:
    source: the records, of `open_records`.
    clip_length: frames in a clip.
    data: `config.data`.
    augmentation: `config.augment`.
    flow_alpha: smoothness of the flow to the previous frame; None: no flow.
    seed: of the order and of all random choices.
    batch_size: clips in a batch, of all hosts together.
    host: index of this host, which gets every `hosts`-th clip of a batch.
    hosts: number of hosts; must divide `batch_size`.
  """
  starts = [max(0, run.frames - clip_length + 1) for run in source.runs]
  draw = functools.partial(
    _draw,
    source=source,
    ends=np.cumsum(starts),
    length=clip_length,
    retrieved_share=data.retrieved_share,
    same_video_shares=(
      data.first_frame_share,
      data.warped_share,
      data.nearby_share,
    ),
    flip=augmentation.flip,
    crop=augmentation.crop,
    flow_alpha=flow_alpha,
  )
  samples = (
    grain.MapDataset.range(sum(starts))
    .seed(seed)
    .shuffle()
    .random_map(draw)
    .repeat()
  )
  return Feed(samples, batch_size, data, host, hosts)


def _draw(
  sample: int,
  rng: np.random.Generator,
  source: records.Records,
  ends: np.ndarray,
  **settings: Any,
) -> Drawn:
  """Draws a clip at a sample, or at another one if it cannot be read.

  Sample n is in the first run whose `ends` is greater than n.
  """
  broken = ''
  for _ in range(ATTEMPTS):
    number = int(np.searchsorted(ends, sample, side='right'))
    start = sample - (int(ends[number - 1]) if number else 0)
    try:
      clip = _draw_clip(source, source.runs[number], start, rng, **settings)
      return Drawn(clip, np.str_(broken))
    except records.BrokenRecord as error:
      broken = broken or str(error)
      sample = int(rng.integers(ends[-1]))
  raise UserError(
    f'{ATTEMPTS} samples of {source.folder} in a row cannot be read, the first '
    f'because of {broken}: copy that folder again, or remove it and prepare again'
  )


def _draw_clip(
  source: records.Records,
  run: records.Run,
  start: int,
  rng: np.random.Generator,
  length: int,
  retrieved_share: float,
  same_video_shares: tuple[float, float, float],
  flip: float,
  crop: float,
  flow_alpha: float | None,
) -> structs.Clips:
  """Draws the reference and the crop, and decodes the frames."""
  first = run.first + start
  frames = [source.read(first + step) for step in range(length)]
  retrieved = frames[-1].references
  same_video = not retrieved or rng.random() >= retrieved_share
  first_frame = False
  if not same_video:
    chosen = retrieved[rng.integers(len(retrieved))]
    reference = source.read_reference(chosen).rgb()
  else:
    draw = np.searchsorted(np.cumsum(same_video_shares), rng.random(), 'right')
    low, high = {
      0: (start, start + 1),  # The first frame of the clip,
      1: (start + length - 1, start + length),  # the last, to be warped,
      2: (max(0, start - _NEARBY), start + length + _NEARBY),  # one nearby,
      3: (0, run.frames),  # any.
    }[int(draw)]
    frame = int(rng.integers(low, min(high, run.frames)))
    reference = source.read(run.first + frame).rgb()
    if draw == 1:
      reference = synthetic_motion.warp_smoothly(reference, rng)
    first_frame = frame == start and draw != 1
  forward, visible = zip(*[x.motion() for x in frames[:-1]], strict=True)
  clip = structs.Clips(
    rgb=np.stack([frame.rgb() for frame in frames]),
    reference=reference,
    flow=np.stack(forward),
    visible=np.stack(visible),
    same_video=np.asarray(same_video),
    first_frame=np.asarray(first_frame),
    backward_flow=np.zeros((length - 1, 0, 0, 2), np.float32),
    anchor_flow=np.zeros((length, 0, 0, 2), np.float32),
  )
  clip = augment.reframe(clip, rng, flip, crop)
  return clip if flow_alpha is None else _estimate_motion(clip, flow_alpha)


def _estimate_motion(clip: structs.Clips, alpha: float) -> structs.Clips:
  """Adds the flow to the previous frame and to the anchor, as at inference."""
  first, *later = (
    cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[..., :1] for rgb in clip.rgb
  )
  steps = [
    flow.backward_flow(after, before, alpha)
    for before, after in itertools.pairwise([first, *later])
  ]
  to_anchor = [np.zeros_like(steps[0])]
  for gray, step in zip(later, steps, strict=True):
    if clip.first_frame:
      way = flow.flow_to_reference(gray, first, step, to_anchor[-1], alpha)
    else:
      way = to_anchor[0]
    to_anchor.append(way)
  return clip._replace(
    backward_flow=np.stack(steps), anchor_flow=np.stack(to_anchor)
  )


def open_records(
  data: ml_collections.ConfigDict, clip_length: int, variant: str
) -> records.Records:
  """Opens `config.data.records` and checks them against the config.

  Args:
    data: `config.data`.
    clip_length: `config.train.clip_length`.
    variant: of the config, for the message.

  Raises:
    UserError: the records are missing or broken or have another size, or all of
      their runs are shorter than a clip.
  """
  folder = Path(data.records)
  named = '' if variant == 'paper' else f'--config=:{variant} '
  prepare = (
    f'`{program()} --mode=prepare {named}--videos=DIR '
    f'--config.data.records={folder}`'
  )
  try:
    opened = records.Records(folder)
  except FileNotFoundError as error:
    raise UserError(
      f'no prepared videos at {folder} (config.data.records): prepare a folder '
      f'of videos with {prepare}'
    ) from error
  if opened.size != tuple(data.size):
    raise UserError(
      f'the records at {folder} are {opened.size[0]}x{opened.size[1]}, not '
      f'config.data.size={tuple(data.size)}: set this to the size of the '
      'records, or prepare the videos again in another folder, '
      'config.data.records'
    )
  longest = max(run.frames for run in opened.runs)
  if not 2 <= clip_length <= longest:
    raise UserError(
      f'config.train.clip_length={clip_length} must be at least 2 and at most '
      f'{longest}, the longest run of the records at {folder}'
    )
  return opened
