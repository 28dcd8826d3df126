"""Colorizes stretches of a film on one device.

If a reference is bound to the frame after a stretch, colors are first propagated
backwards from there and stored on the disk. They take 9 bytes per pixel of the
working size and frame, and 6 when all are there. Then the stretch is colorized
forwards, and `bidirectional` combines the two.
"""

import collections
import contextlib
import itertools
import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from vitexco_jax import sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal, stills
from vitexco_jax.inference.bidirectional import (
  Colors,
  mix_directions,
  uncolored,
)
from vitexco_jax.inference.film_job import Job, Step
from vitexco_jax.inference.outputs import Options, Track
from vitexco_jax.inference.reference_pictures import ReferencePictures
from vitexco_jax.inference.shot_plan import Choice
from vitexco_jax.inference.source import Source
from vitexco_jax.inference.stretches import Block, Stretch, Task, runs
from vitexco_jax.inference.video_colorizer import (
  ClipState,
  Prediction,
  VideoColorizer,
)
from vitexco_jax.media import mux, video
from vitexco_jax.media.borders import Borders
from vitexco_jax.structs import Array

_CHUNK = 2**24  # Bytes of a file that are reserved at a time.
_EDGE = 4.0  # Of 255 levels, a step of lightness that counts as an edge.
_CERTAIN = np.ones((1, 1, 1), np.float32)  # Confidence of unchanged frames.

_logger = logging.getLogger(__name__)


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
    backwards_colors, backwards = None, f'{stretch.backwards}.npy'
    if stretch.after is not None:
      yield from self._color_backwards(task)
      backwards_colors = np.load(log.folder / backwards, mmap_mode='r')
    progress.count(sum(x.stop - x.start for x in blocks if x not in todo))
    for run in runs(todo):
      if stretch.propagates_forwards:
        self._set_references(stretch, stretch.before, self._source)
      if stretch.propagates_forwards and run[0] != blocks[0]:
        previous = blocks[blocks.index(run[0]) - 1]
        state = ClipState.load(log.folder / previous.state)
        self._colorizer.resume(state, stretch.borders.size(*self._job.size))
      frames = self._source.frames(run[0].start, run[-1].stop)
      for block in run:
        yield from self._color_block(block, stretch, frames, backwards_colors)
    if backwards_colors is not None:
      backwards_colors = None  # Windows does not remove files in use.
      log.discard(stretch.backwards, [backwards])

  def _set_references(
    self, stretch: Stretch, bound: Choice | None, source: Source
  ) -> None:
    """Sets the references of a stretch.

    Args:
      stretch: the stretch.
      bound: its reference that is bound to the next frame, if any.
      source: reads that frame.
    """
    pictures = [self._picture(x, stretch.borders) for x in stretch.others]
    if bound is not None:
      still = self._picture(bound, stretch.borders)
      if self._colorizer.config.use.fit_stills:
        still = self._fit_to_frame(still, bound, stretch.borders, source)
      pictures.insert(0, still)
    self._colorizer.set_reference(*pictures, first_frame=bound is not None)

  def _fit_to_frame(
    self, still: np.ndarray, choice: Choice, inner: Borders, source: Source
  ) -> np.ndarray:
    """Fits a bound still to its frame; warns if its structure differs."""
    assert choice.frame is not None
    (frame,) = source.frames(choice.frame, choice.frame + 1)
    fitted = stills.fit(still, inner.crop(shallow(frame.rgb)))
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

  def _color_backwards(self, task: Task) -> Iterator[Step]:
    """Stores the colors propagated from the reference after a stretch."""
    stretch, log, progress = task.stretch, self._job.journal, self._job.progress
    entry, name = stretch.backwards, f'{stretch.backwards}.npy'
    try:
      facts = log.read(entry, task.key, [name])
    except journal.DamagedError as error:
      _logger.warning(
        'frames %d to %d are matched again: %s',
        stretch.start,
        stretch.stop - 1,
        error,
      )
      facts = None
    if facts is not None:  # An earlier run has done it.
      progress.count(stretch.stop - stretch.start + 1)
      return
    inner_size = stretch.borders.size(*self._job.size)
    height, width = sizes.within(
      inner_size, tuple(self._colorizer.config.use.size)
    )
    count = stretch.stop - stretch.start
    # Frames are decoded forwards only.
    small_path = log.path(f'{entry}.small')
    small = _on_disk(small_path, np.uint8, (count + 1, height, width, 3))
    for i, frame in enumerate(
      self._ahead.frames(stretch.start, stretch.stop + 1)
    ):
      small[i] = cv2.resize(
        stretch.borders.crop(frame.rgb),
        (width, height),
        interpolation=cv2.INTER_AREA,
      )
    backwards_colors = _on_disk(
      log.path(name), np.float16, (count, height, width, 3)
    )
    yield from self._propagate_backwards(stretch, small, backwards_colors)
    backwards_colors.flush()
    log.write(entry, task.key, [name], {})
    del small  # Windows does not remove files in use.
    small_path.unlink()

  def _propagate_backwards(
    self, stretch: Stretch, small: np.ndarray, backwards_colors: np.ndarray
  ) -> Iterator[Step]:
    """Fills in the colors of a stretch from its small frames."""
    self._set_references(stretch, stretch.after, self._ahead)
    number = stretch.stop
    for block in self._colorizer.predict(small[::-1]):
      predicted = np.concatenate([block.ab, block.confidence], -1)
      for rgb, colors in zip(block.rgb, predicted, strict=True):
        if number < stretch.stop:  # That frame is the reference.
          backwards_colors[number - stretch.start] = colors
        confidence = float(colors[..., 2].mean())
        yield Step(self._job.progress.count(1), number, rgb, None, confidence)
        number -= 1

  def _color_block(
    self,
    block: Block,
    stretch: Stretch,
    frames: Iterator[video.Frame],
    backwards_colors: np.ndarray | None,
  ) -> Iterator[Step]:
    """Colorizes and encodes a block.

    Args:
      block: of the stretch.
      stretch: whose references are set.
      frames: of the video, from the block on.
      backwards_colors: see `_color_backwards`; None without a later reference.
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
    if not stretch.skipped:
      predictions = self._predict(read(), block, stretch, backwards_colors)
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
    backwards_colors: np.ndarray | None,
  ) -> Iterator[Prediction] | Iterator[Colors]:
    """Predicts colors, and mixes in those that were propagated backwards."""
    if backwards_colors is None:
      return self._colorizer.predict(rgb)
    forwards = stretch.propagates_forwards
    return mix_directions(
      self._colorizer.predict(rgb) if forwards else uncolored(rgb),
      range(stretch.start, stretch.stop),
      block.start,
      backwards_colors,
      self._colorizer.config.use.mix_tolerance,
    )

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
      yield np.concatenate([shallow(gray), shallow(rgb)], 1)
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
    self, predictions: Iterator[Prediction] | Iterator[Colors]
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields colorized frames and confidences; the device is a block ahead."""
    ready: tuple[Array, Array] = np.empty(0), np.empty(0)
    for rgb, ab, confidence in predictions:
      colored = join(rgb, ab, self._job.options)
      yield from zip(*map(np.asarray, ready), strict=True)
      ready = colored, confidence
    yield from zip(*map(np.asarray, ready), strict=True)


def _on_disk(
  path: Path, dtype: type[np.generic], shape: tuple[int, ...]
) -> np.memmap:
  """Creates an array in a file; raises OSError if the disk is full."""
  array = np.lib.format.open_memmap(path, 'w+', dtype, shape)
  # To write to a place that the disk does not have would end the process.
  size = path.stat().st_size
  with open(path, 'r+b') as file:
    if hasattr(os, 'posix_fallocate'):
      os.posix_fallocate(file.fileno(), 0, size)
    else:
      file.seek(array.offset)
      for start in range(array.offset, size, _CHUNK):
        file.write(bytes(min(_CHUNK, size - start)))
  return array


def join(rgb: np.ndarray, ab: Array, options: Options) -> Array:
  """Joins frames and predicted colors.

  Args:
    rgb: [t, H, W, 3] uint8 or uint16.
    ab: [t, h, w, 2].
    options: have the saturation and the smoothing.

  Returns:
    [t, H, W, 3], with the dtype of `rgb`.
  """
  ab = ab * np.float32(options.saturation)
  if options.smoothing:
    frames = zip(rgb, np.asarray(ab), strict=True)
    ab = np.stack([_smooth(*frame, options.smoothing) for frame in frames])
  return sizes.join_frames(rgb, ab)


def _smooth(rgb: np.ndarray, ab: np.ndarray, strength: float) -> np.ndarray:
  """Smooths colors [h, w, 2] within the edges of a frame, at its size."""
  height, width = rgb.shape[:2]
  ab = cv2.resize(ab, (width, height), interpolation=cv2.INTER_CUBIC)
  guide = cv2.cvtColor(shallow(rgb), cv2.COLOR_RGB2GRAY)
  return cv2.ximgproc.fastGlobalSmootherFilter(guide, ab, strength, _EDGE)


def shallow(rgb: np.ndarray) -> np.ndarray:
  """Converts a frame to uint8."""
  if rgb.dtype == np.uint16:
    return cv2.convertScaleAbs(rgb, alpha=1 / 257)
  return rgb
