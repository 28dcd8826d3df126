"""Passes: colors of one direction of a stretch, stored on the disk.

Colors that are propagated backwards take 9 bytes per pixel of the working size and
frame, and 6 when all are there. If several devices share a stretch, colors that are
propagated forwards are stored as well, as they are: they take 12 bytes.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np

from vitexco_jax import sizes
from vitexco_jax.inference import disk_arrays, frame_blocks, journal
from vitexco_jax.inference.film_job import Job, Step
from vitexco_jax.inference.reference_pictures import ReferencePictures
from vitexco_jax.inference.source import Source
from vitexco_jax.inference.stretches import (
  Backwards,
  Block,
  Stretch,
  Task,
  runs,
)
from vitexco_jax.inference.video_colorizer import (
  ClipState,
  Prediction,
  VideoColorizer,
)
from vitexco_jax.media.borders import Borders

_logger = logging.getLogger(__name__)


class Forwards(NamedTuple):
  """Colors of a stretch that were propagated forwards."""

  start: int  # Number of the first frame.
  colors: np.ndarray  # [t, h, w, 3] float32, ab and confidence.
  groups: dict[str, list[int]]  # Frames of each prediction, by names of blocks.

  def predictions(
    self, rgb: Iterator[np.ndarray], block: Block
  ) -> Iterator[Prediction]:
    """Yields the predictions of a block, as `VideoColorizer.predict` does.

    Args:
      rgb: frames of the block.
      block: of the stretch.
    """
    place = block.start - self.start
    for count in self.groups[block.name]:
      frames = list(itertools.islice(rgb, count))
      if len(frames) < count:
        return  # The video ends here, which the caller reports.
      colors = jnp.asarray(self.colors[place : place + count])
      yield Prediction(np.stack(frames), colors[..., :2], colors[..., 2:])
      place += count


class Stored(NamedTuple):
  """Stored colors of a stretch."""

  # [t, h, w, 3] float16, ab and confidence: from the reference after it, and from
  # the next shot, of its dissolve.
  backwards: np.ndarray | None
  entering: np.ndarray | None
  forwards: Forwards | None


class Passes:
  """Stores passes of one device, and loads them."""

  def __init__(self, job: Job, colorizer: VideoColorizer):
    """Stores nothing yet.

    Args:
      job: of the film.
      colorizer: on the device.
    """
    self._job, self._colorizer = job, colorizer
    self._pictures = ReferencePictures(
      job.opener,
      job.path,
      job.options.deinterlace,
      job.size,
      colorizer.bound,
    )

  def todo(self, task: Task) -> list[Block]:
    """Returns the blocks of a stretch that are not complete."""
    return [x for x in task.blocks if x not in self._job.progress.facts]

  def start(self, task: Task, block: Block, source: Source) -> None:
    """Prepares the colorizer for a block.

    Args:
      task: its stretch.
      block: the one before is complete, if there is one.
      source: reads frames to which references are bound.
    """
    stretch, size = task.stretch, self._job.size
    self._pictures.set_references(
      self._colorizer, stretch.before, stretch.others, stretch.borders, source
    )
    if block != task.blocks[0]:
      previous = task.blocks[task.blocks.index(block) - 1]
      state = ClipState.load(self._job.journal.folder / previous.state)
      self._colorizer.resume(state, stretch.borders.size(*size))

  def save_state(self, block: Block) -> None:
    """Saves the state after a block, which the colorizer has just finished."""
    state = self._colorizer.state
    assert state is not None  # It has colorized the block.
    state.save(self._job.journal.path(block.state))

  def store_backwards(
    self, backwards: Backwards, key: str, inner: Borders, source: Source
  ) -> Iterator[Step]:
    """Stores colors that are propagated backwards, unless they are stored.

    Args:
      backwards: the pass.
      key: hash of everything from which they are computed.
      inner: borders of the frames that get them.
      source: reads the frames.
    """
    log, progress = self._job.journal, self._job.progress
    start, stop = backwards.start, backwards.stop
    entry, name = backwards.name, f'{backwards.name}.npy'
    try:
      facts = log.read(entry, key, [name])
    except journal.DamagedError as error:
      _logger.warning(
        'frames %d to %d are matched again: %s', start, stop - 1, error
      )
      facts = None
    if facts is not None:  # An earlier run has done it.
      progress.count_pass(entry, backwards.steps)
      return
    progress.begin_pass(entry)
    height, width = sizes.within(
      inner.size(*self._job.size), tuple(self._colorizer.config.use.size)
    )
    # Frames are decoded forwards only.
    small_path = log.path(f'{entry}.small')
    small = disk_arrays.create(
      small_path, np.uint8, (backwards.steps, height, width, 3)
    )
    for i, frame in enumerate(source.frames(start, backwards.source + 1)):
      small[i] = cv2.resize(
        inner.crop(frame.rgb), (width, height), interpolation=cv2.INTER_AREA
      )
    stored = disk_arrays.create(
      log.path(name), np.float16, (stop - start, height, width, 3)
    )
    yield from self._propagate(backwards, inner, source, small, stored)
    stored.flush()
    log.write(entry, key, [name], {})
    del small  # Windows does not remove files in use.
    small_path.unlink()

  def _propagate(
    self,
    backwards: Backwards,
    inner: Borders,
    source: Source,
    small: np.ndarray,
    stored: np.ndarray,
  ) -> Iterator[Step]:
    """Fills in the stored colors of a pass from its small frames."""
    self._pictures.set_references(
      self._colorizer, backwards.bound, backwards.others, inner, source
    )
    number = backwards.source
    for block in frame_blocks.ahead(self._colorizer.predict(small[::-1])):
      predicted = np.concatenate([block.ab, block.confidence], -1)
      for rgb, colors in zip(block.rgb, predicted, strict=True):
        if number < backwards.stop:  # Other stretches colorize the others.
          stored[number - backwards.start] = colors
        confidence = float(colors[..., 2].mean())
        yield Step(self._job.progress.count(1), number, rgb, None, confidence)
        number -= 1

  def store_forwards(self, task: Task, source: Source) -> Iterator[Step]:
    """Stores colors that are propagated forwards, unless they are stored.

    Only blocks that are not complete get them.

    Args:
      task: the stretch.
      source: reads the frames.
    """
    stretch, log, todo = task.stretch, self._job.journal, self.todo(task)
    if not todo or self._load_forwards(task) is not None:
      return
    entry = _forwards(stretch)
    progress = self._job.progress
    groups: dict[str, list[int]] = {}
    progress.begin_pass(entry)
    stored: np.memmap | None = None
    for run in runs(todo):
      self.start(task, run[0], source)
      frames = source.frames(run[0].start, run[-1].stop)
      for block in run:
        groups[block.name] = []
        number = block.start
        cropped = (
          stretch.borders.crop(x.rgb)
          for x in itertools.islice(frames, block.stop - block.start)
        )
        predictions = self._colorizer.predict(cropped)
        for prediction in frame_blocks.ahead(predictions):
          colors = np.concatenate([prediction.ab, prediction.confidence], -1)
          if stored is None:
            stored = disk_arrays.create(
              log.path(f'{entry}.npy'),
              np.float32,
              (stretch.stop - stretch.start, *colors.shape[1:]),
            )
          groups[block.name].append(len(colors))
          for rgb, each in zip(prediction.rgb, colors, strict=True):
            stored[number - stretch.start] = each
            sure = float(each[..., 2].mean())
            yield Step(progress.count(1), number, rgb, None, sure)
            number += 1
        if block.stop < stretch.stop:
          self.save_state(block)
    if stored is not None:
      stored.flush()
      log.write(entry, task.key, [f'{entry}.npy'], {'groups': groups})

  def load(
    self, task: Task, backwards: Backwards | None, entering: Backwards | None
  ) -> Stored:
    """Opens the stored colors of a stretch.

    Args:
      task: the stretch.
      backwards: a stored pass.
      entering: a stored pass.
    """
    folder = self._job.journal.folder
    back, enter = (
      None
      if one is None
      else np.load(folder / f'{one.name}.npy', mmap_mode='r')
      for one in (backwards, entering)
    )
    return Stored(back, enter, self._load_forwards(task))

  def _load_forwards(self, task: Task) -> Forwards | None:
    """Opens colors that are propagated forwards, if they are stored."""
    entry, log = _forwards(task.stretch), self._job.journal
    try:
      facts = log.read(entry, task.key, [f'{entry}.npy'])
    except journal.DamagedError:
      return None  # They are computed when they are needed.
    todo = self.todo(task)
    if facts is None or not {x.name for x in todo} <= facts['groups'].keys():
      return None
    frames = sum(block.stop - block.start for block in todo)
    self._job.progress.count_pass(entry, frames)
    colors = np.load(log.folder / f'{entry}.npy', mmap_mode='r')
    return Forwards(task.stretch.start, colors, facts['groups'])

  def discard(self, stretch: Stretch) -> None:
    """Removes the stored colors of a stretch."""
    passes = stretch.backwards, stretch.entering
    names = [x.name for x in passes if x is not None]
    for name in (*names, _forwards(stretch)):
      self._job.journal.discard(name, [f'{name}.npy'])


def _forwards(stretch: Stretch) -> str:
  """Returns the name of the journal entry of colors propagated forwards."""
  return f'{stretch.start:07d}.forwards'
