"""Colorizes stretches of a film on one device.

If a reference is bound to the frame after a stretch, or the next shot dissolves into
it, colors are first propagated backwards from there and stored on the disk. They take 9 bytes per pixel of the
working size and frame, and 6 when all are there. Then the stretch is colorized
forwards, and `bidirectional` combines the two.
"""

import collections
import contextlib
import itertools
import logging
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from vitexco_jax import sizes, stages
from vitexco_jax.errors import UserError
from vitexco_jax.inference import disk_arrays, joining, journal, stills
from vitexco_jax.inference.bidirectional import (
  Colors,
  Uncolored,
  mix_directions,
  mix_dissolve,
  uncolored,
)
from vitexco_jax.inference.film_job import Job, Step
from vitexco_jax.inference.outputs import Track
from vitexco_jax.inference.reference_pictures import ReferencePictures
from vitexco_jax.inference.shot_plan import Choice
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
from vitexco_jax.media import mux, video
from vitexco_jax.media.borders import Borders
from vitexco_jax.structs import Array

_CERTAIN = np.ones((1, 1, 1), np.float32)  # Confidence of unchanged frames.

_logger = logging.getLogger(__name__)


class _Stored(NamedTuple):
  """Colors of a stretch from later frames: [t, h, w, 3], ab and confidence."""

  backwards: np.ndarray | None  # From the reference after it.
  entering: np.ndarray | None  # From the next shot, of its dissolve.


class Worker:
  """Colorizes stretches on one device; a context manager."""

  def __init__(self, job: Job, colorizer: VideoColorizer):
    self._job = job
    self._colorizer = colorizer
    self._picture = ReferencePictures(
      job.opener,
      job.path,
      job.options.deinterlace,
      job.size,
      colorizer.bound,
    ).read
    # Stills that differ from their frames.
    self._warned: set[Choice] = set()

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

  def color(self, task: Task) -> Generator[Step, None, None]:
    """Colorizes the blocks of a stretch that are not complete."""
    stretch, blocks, log = task.stretch, task.blocks, self._job.journal
    progress = self._job.progress
    todo = [block for block in blocks if block not in progress.facts]
    if not todo:
      progress.count(task.steps)
      return
    backwards, entering = stretch.backwards, task.entering
    if entering is not None and todo[-1].start < entering.start:
      progress.count(entering.steps)
      entering = None
    if backwards is not None:
      yield from self._color_backwards(backwards, task.key, stretch)
    if entering is not None:
      yield from self._color_backwards(entering, task.entering_key, stretch)
    stored = _Stored(*map(self._load, (backwards, entering)))
    progress.count(sum(x.stop - x.start for x in blocks if x not in todo))
    for run in runs(todo):
      if stretch.propagates_forwards:
        self._set_references(
          stretch.before, stretch.others, stretch.borders, self._source
        )
      if stretch.propagates_forwards and run[0] != blocks[0]:
        previous = blocks[blocks.index(run[0]) - 1]
        state = ClipState.load(log.folder / previous.state)
        self._colorizer.resume(state, stretch.borders.size(*self._job.size))
      frames = self._source.frames(run[0].start, run[-1].stop)
      for block in run:
        yield from self._color_block(block, stretch, frames, stored)
    stored = _Stored(None, None)  # Windows does not remove files in use.
    for done in (backwards, entering):
      if done is not None:
        log.discard(done.name, [f'{done.name}.npy'])

  def _load(self, backwards: Backwards | None) -> np.ndarray | None:
    """Opens the colors that a pass has stored."""
    if backwards is None:
      return None
    path = self._job.journal.folder / f'{backwards.name}.npy'
    return np.load(path, mmap_mode='r')

  def _set_references(
    self,
    bound: Choice | None,
    others: Iterable[Choice],
    inner: Borders,
    source: Source,
  ) -> None:
    """Sets the references of the next frames.

    Args:
      bound: the reference that is bound to the next frame, if any.
      others: that are not bound.
      inner: borders of the shot.
      source: reads that frame.
    """
    pictures = [self._picture(x, inner) for x in others]
    if bound is not None:
      still = self._picture(bound, inner)
      if self._colorizer.config.use.fit_stills:
        still = self._fit_to_frame(still, bound, inner, source)
      pictures.insert(0, still)
    self._colorizer.set_reference(*pictures, first_frame=bound is not None)

  def _fit_to_frame(
    self, still: np.ndarray, choice: Choice, inner: Borders, source: Source
  ) -> np.ndarray:
    """Fits a bound still to its frame; warns if its structure differs."""
    assert choice.frame is not None
    (frame,) = source.frames(choice.frame, choice.frame + 1)
    fitted = stills.fit(still, inner.crop(joining.shallow(frame.rgb)))
    least = self._colorizer.config.use.still_agreement
    if fitted.agreement < least and choice not in self._warned:
      self._warned.add(choice)
      _logger.warning(
        '%s: only %.0f %% of its structure is that of frame %d: see whether an '
        'editor moved or invented something, or whether it shows another frame',
        choice.picture,
        100 * fitted.agreement,
        choice.frame,
      )
    return fitted.rgb

  def _color_backwards(
    self, backwards: Backwards, key: str, stretch: Stretch
  ) -> Iterator[Step]:
    """Stores colors that are propagated backwards.

    Args:
      backwards: the pass.
      key: hash of everything from which they are computed.
      stretch: whose frames get them.
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
      progress.count(backwards.steps)
      return
    inner = stretch.borders
    height, width = sizes.within(
      inner.size(*self._job.size), tuple(self._colorizer.config.use.size)
    )
    # Frames are decoded forwards only.
    small_path = log.path(f'{entry}.small')
    small = disk_arrays.create(
      small_path, np.uint8, (backwards.steps, height, width, 3)
    )
    for i, frame in enumerate(self._ahead.frames(start, backwards.source + 1)):
      small[i] = cv2.resize(
        inner.crop(frame.rgb), (width, height), interpolation=cv2.INTER_AREA
      )
    stored = disk_arrays.create(
      log.path(name), np.float16, (stop - start, height, width, 3)
    )
    yield from self._propagate(backwards, inner, small, stored)
    stored.flush()
    log.write(entry, key, [name], {})
    del small  # Windows does not remove files in use.
    small_path.unlink()

  def _propagate(
    self,
    backwards: Backwards,
    inner: Borders,
    small: np.ndarray,
    stored: np.ndarray,
  ) -> Iterator[Step]:
    """Fills in the stored colors of a pass from its small frames."""
    self._set_references(backwards.bound, backwards.others, inner, self._ahead)
    number = backwards.source
    for block in self._colorizer.predict(small[::-1]):
      predicted = np.concatenate([block.ab, block.confidence], -1)
      for rgb, colors in zip(block.rgb, predicted, strict=True):
        if number < backwards.stop:  # Other stretches colorize the others.
          stored[number - backwards.start] = colors
        confidence = float(colors[..., 2].mean())
        yield Step(self._job.progress.count(1), number, rgb, None, confidence)
        number -= 1

  def _color_block(
    self,
    block: Block,
    stretch: Stretch,
    frames: Iterator[video.Frame],
    stored: _Stored,
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
        done = self._job.progress.count(1)
        yield Step(done, number, frame.rgb, rgb, mean)
      if len(stamps) < block.stop - block.start:
        raise UserError(
          f'the video ends at frame {block.start + len(stamps)}, but its plan '
          f'has {self._job.frames}: make another plan'
        )
    self._finish_block(
      block,
      stretch,
      {'pts': stamps, 'end': end, 'confidence': confidences},
    )

  def _predict(
    self,
    rgb: Iterator[np.ndarray],
    block: Block,
    stretch: Stretch,
    stored: _Stored,
  ) -> Iterator[Prediction | Colors | Uncolored]:
    """Predicts colors, and mixes in those from later frames."""
    predictions: Iterator[Prediction | Colors | Uncolored]
    predictions = (
      self._colorizer.predict(rgb)
      if stretch.propagates_forwards
      else uncolored(rgb)
    )
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
        predictions, stretch, block.start, stored.entering
      )
    return predictions

  def _finish_block(
    self, block: Block, stretch: Stretch, facts: dict[str, Any]
  ) -> None:
    """Writes the state after a block and its journal entry."""
    log = self._job.journal
    tracks = self._job.tracks if block.shown else []
    names = [track.segment(block) for track in tracks]
    facts['delay'] = [
      mux.delay(log.folder / name) if track.kind == 'video' else 0
      for track, name in zip(tracks, names, strict=True)
    ]
    if stretch.propagates_forwards and block.stop < stretch.stop:
      state = self._colorizer.state
      assert state is not None  # It has colorized the block.
      state.save(log.path(block.state))
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
    ready: tuple[Array, Array] = np.empty(0), np.empty(0)
    for prediction in predictions:
      assert not isinstance(prediction, Uncolored)  # They were mixed.
      rgb, ab, confidence = prediction
      with stages.stage(stages.JOIN):
        colored = joining.join(rgb, ab, self._job.options)
      yield from _received(ready)
      ready = colored, confidence
    yield from _received(ready)


def _received(
  ready: tuple[Array, Array],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields colorized frames and confidences when the device has them."""
  with stages.stage(stages.WAIT):
    rgb, confidence = map(np.asarray, ready)
  yield from zip(rgb, confidence, strict=True)
