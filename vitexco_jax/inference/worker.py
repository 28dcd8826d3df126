"""Colorizes stretches of a film on one device.

If a reference is bound to the frame after a stretch, or the next shot dissolves into
it, colors are first propagated backwards from there and stored on the disk (`passes`).
Then the stretch is colorized forwards, and `bidirectional` combines the two.
"""

import collections
import contextlib
import itertools
from collections.abc import Generator, Iterator
from typing import Any, Self

import cv2
import numpy as np

from vitexco_jax import stages
from vitexco_jax.errors import UserError
from vitexco_jax.inference import frame_blocks, joining
from vitexco_jax.inference.bidirectional import (
  Colors,
  Uncolored,
  mix_directions,
  mix_dissolve,
  uncolored,
)
from vitexco_jax.inference.film_job import Job, Step
from vitexco_jax.inference.outputs import Track
from vitexco_jax.inference.passes import Passes, Stored
from vitexco_jax.inference.source import Source
from vitexco_jax.inference.stretches import (
  Block,
  Stretch,
  Task,
  runs,
)
from vitexco_jax.inference.video_colorizer import (
  Prediction,
  VideoColorizer,
)
from vitexco_jax.media import mux, video
from vitexco_jax.media.borders import Borders
from vitexco_jax.structs import Array

_CERTAIN = np.ones((1, 1, 1), np.float32)  # Confidence of unchanged frames.


class Worker:
  """Colorizes stretches on one device; a context manager."""

  def __init__(self, job: Job, colorizer: VideoColorizer):
    self._job = job
    self._colorizer = colorizer
    self._passes = Passes(job, colorizer)

  def __enter__(self) -> Self:
    options = self._job.options
    opened = self._job.opener, self._job.path
    self._source = Source(*opened, options.coding.deep, options.deinterlace)
    # Reads stretches through which colors are propagated backwards.
    self._ahead = Source(*opened, deinterlace=options.deinterlace)
    return self

  def __exit__(self, *_: object) -> None:
    self._source.close()
    self._ahead.close()

  def store(self, task: Task, forwards: bool) -> Generator[Step, None, None]:
    """Stores the colors of one direction of a stretch, which `color` then uses.

    Args:
      task: with a bound reference at both ends.
      forwards: the direction.
    """
    if forwards:
      yield from self._passes.store_forwards(task, self._source)
    elif self._passes.todo(task):
      backwards = task.stretch.backwards
      assert backwards is not None
      yield from self._passes.store_backwards(
        backwards, task.key, task.stretch.borders, self._ahead
      )

  def color(self, task: Task) -> Generator[Step, None, None]:
    """Colorizes the blocks of a stretch that are not complete."""
    stretch, blocks, passes = task.stretch, task.blocks, self._passes
    progress = self._job.progress
    todo = passes.todo(task)
    if not todo:
      progress.count(task.steps)
      return
    backwards, entering = stretch.backwards, task.entering
    if entering is not None and todo[-1].start < entering.start:
      progress.count(entering.steps)
      entering = None
    for one, key in ((backwards, task.key), (entering, task.entering_key)):
      if one is not None:
        yield from passes.store_backwards(
          one, key, stretch.borders, self._ahead
        )
    stored = passes.load(task, backwards, entering)
    progress.count(sum(x.stop - x.start for x in blocks if x not in todo))
    for run in runs(todo):
      if stretch.propagates_forwards and stored.forwards is None:
        passes.start(task, run[0], self._source)
      frames = self._source.frames(run[0].start, run[-1].stop)
      for block in run:
        yield from self._color_block(block, stretch, frames, stored)
    del stored  # Windows does not remove files in use.
    passes.discard(stretch)

  def _color_block(
    self,
    block: Block,
    stretch: Stretch,
    frames: Iterator[video.Frame],
    stored: Stored,
  ) -> Iterator[Step]:
    """Colorizes and encodes a block.

    Args:
      block: of the stretch.
      stretch: whose references are set.
      frames: of the video, from the block on.
      stored: colors from later frames.
    """
    waiting: collections.deque[video.Frame] = collections.deque()
    stamps: list[int] = []
    confidences: list[float] = []

    def read() -> Iterator[np.ndarray]:
      for frame in itertools.islice(frames, block.stop - block.start):
        waiting.append(frame)
        yield stretch.borders.crop(frame.rgb)

    colored: Iterator[tuple[np.ndarray, np.ndarray]]
    colored = ((rgb, _CERTAIN) for rgb in read())
    if not stretch.skipped or block.start in stretch.dissolving:
      predictions = self._predict(read(), block, stretch, stored)
      colored = self._join(predictions)
    with contextlib.ExitStack() as stack:
      writers = [
        stack.enter_context(self._writer(track, block))
        for track in self._job.tracks
        if block.shown
      ]
      for inner, confidence in colored:
        frame = waiting.popleft()
        number = block.start + len(stamps)
        rgb = frame.rgb.copy()
        stretch.borders.crop(rgb)[:] = inner
        # The files of a folder have the same names in the output.
        written = video.Frame(rgb, None, frame.name or f'{number:06d}')
        pictures = self._pictures(frame.rgb, rgb, confidence, stretch.borders)
        for writer, picture in zip(writers, pictures, strict=False):
          writer.write(written._replace(rgb=picture))
        mean = float(confidence.mean())
        assert frame.pts is not None  # Readers set it.
        stamps.append(frame.pts)
        end = frame.pts + (frame.duration or self._job.format.ticks)
        confidences.append(round(mean, 4))
        # A pass forwards has counted the frame.
        done = self._job.progress.count(int(stored.forwards is None))
        yield Step(done, number, frame.rgb, rgb, mean)
      if len(stamps) < block.stop - block.start:
        raise UserError(
          f'the video ends at frame {block.start + len(stamps)}, but its plan '
          f'has {self._job.frames}: make another plan'
        )
    self._finish_block(
      block,
      stretch,
      stored.forwards is None,
      {'pts': stamps, 'end': end, 'confidence': confidences},
    )

  def _predict(
    self,
    rgb: Iterator[np.ndarray],
    block: Block,
    stretch: Stretch,
    stored: Stored,
  ) -> Iterator[Prediction | Colors | Uncolored]:
    """Predicts colors, and mixes in those from later frames."""
    predictions: Iterator[Prediction | Colors | Uncolored]
    if stored.forwards is not None:
      predictions = stored.forwards.predictions(rgb, block)
    elif stretch.propagates_forwards:
      predictions = self._colorizer.predict(rgb)
    else:
      predictions = uncolored(rgb)
    if stored.backwards is not None:
      predictions = mix_directions(
        predictions,
        range(stretch.start, stretch.stop),
        block.start,
        stored.backwards,
        self._colorizer.config.use.mix_tolerance,
      )
    if block.start in stretch.dissolving:
      predictions = mix_dissolve(
        predictions,
        stretch.dissolve,
        block.start,
        stored.entering,
        stretch.dissolving.start,
      )
    return predictions

  def _finish_block(
    self,
    block: Block,
    stretch: Stretch,
    has_state: bool,
    facts: dict[str, Any],
  ) -> None:
    """Writes the journal entry of a block.

    Args:
      block: whose segments are written.
      stretch: of the block.
      has_state: whether to save the state after it; a pass has saved it otherwise.
      facts: for the entry.
    """
    log = self._job.journal
    tracks = self._job.tracks if block.shown else []
    names = [track.segment(block) for track in tracks]
    facts['delay'] = [
      mux.delay(log.folder / name) if track.kind == 'video' else 0
      for track, name in zip(tracks, names, strict=True)
    ]
    if stretch.propagates_forwards and block.stop < stretch.stop:
      if has_state:
        self._passes.save_state(block)
      names.append(block.state)
    log.write(block.name, block.key, names, facts)
    self._job.progress.note(block, facts)

  def _writer(self, track: Track, block: Block) -> video.VideoWriter:
    # The time stamps are set when the segments are joined.
    return video.VideoWriter(
      self._job.journal.path(track.segment(block)),
      track.format(self._job.format, block.start)._replace(time_base=None),
      overwrite=True,
      coding=track.coding,
      reordered=track.target.suffix.lower() != '.avi',
    )

  def _pictures(
    self,
    gray: np.ndarray,
    rgb: np.ndarray,
    confidence: np.ndarray,
    inner: Borders,
  ) -> Iterator[np.ndarray]:
    """Yields a picture for each output."""
    yield rgb
    if self._job.options.compare is not None:
      yield np.concatenate([joining.shallow(gray), joining.shallow(rgb)], 1)
    if self._job.options.confidence is not None:
      shade = np.zeros(self._job.size, np.uint8)
      within = inner.crop(shade)
      within[:] = cv2.resize(
        (255 * np.clip(confidence[..., 0], 0, 1)).astype(np.uint8),
        within.shape[::-1],
        interpolation=cv2.INTER_LINEAR,
      )
      yield np.repeat(shade[..., None], 3, -1)

  def _join(
    self, predictions: Iterator[Prediction | Colors | Uncolored]
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields colorized frames and confidences; the device is a block ahead."""

    def join() -> Iterator[list[tuple[Array, Array]]]:
      for prediction in predictions:
        assert not isinstance(prediction, Uncolored)  # They were mixed.
        rgb, ab, confidence = prediction
        with stages.stage(stages.JOIN):
          colored = joining.join(rgb, ab, self._job.options)
        yield list(zip(colored, confidence, strict=True))

    for rgb, confidence in frame_blocks.delayed(join()):
      with stages.stage(stages.WAIT):
        frame = np.asarray(rgb), np.asarray(confidence)
      yield frame
