"""A film is coloured by its plan, block by block, so that a stop loses nothing.

`Film.run` is a generator that gives each frame as it is coloured; to stop, drop it.
Beside the output OUTPUT it keeps a folder until the film is whole:

  OUTPUT.part/
    settings.json    what the result depends on; other settings are refused
    output/0000240.mkv    the coded frames of the block that begins with frame 240
    0000240.npy      what the next block starts from
    0000240.json     its time stamps and confidences, and checksums of the others;
                     here when all else is; see `journal`

The same command colors the blocks that are not there, that are damaged, or that
were made from something else, and the result is the same, byte for byte: blocks are
the same whether or not it was stopped between them, and coding begins anew in each.
When all outputs are whole, beside their places, a file .OUTPUT.whole says so; from
then on they only have to be moved.

A shot starts afresh. Where references are bound to frames of it, it falls into
*stretches* between them. Before a stretch with a bound reference behind it is
coloured forwards, colours are carried backwards from there, and kept on the disk
meanwhile: 9 bytes a pixel of the working size and frame, 6 once they are there. With
a bound reference on either side the two are mixed, by how near each is and how
confident.
"""

import collections
import concurrent.futures
import contextlib
import functools
import heapq
import itertools
import os
import queue
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from vitexco_jax import files, sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal
from vitexco_jax.inference.outputs import (
  Options,
  absolute,
  check,
  check_free,
  left_out,
  part_folder,
  whole_file,
)
from vitexco_jax.inference.plan import FIRST_FRAME, Choice, Plan, Shot, clock
from vitexco_jax.media import borders, mux, sandbox, video
from vitexco_jax.media.borders import Borders

_BLOCK = 240  # Frames; below the distance of key frames that x264 chooses.
_CERTAINTY = 0.1  # Of confidence, that makes e times the share in a mix.
_EDGE = 4.0  # Of 255 levels, a step of lightness that counts as an edge.
# Mean confidence below which a frame is not matched well. With weights/small, of 17
# clips that it was not trained on: with their own first frame 0.62 to 0.81, with a
# picture of something else 0.32 to 0.45; of three old films with stills that people
# chose 0.45 to 0.62.
_UNSURE = 0.47
_UNSURE_FRAMES = 12  # Frames of such, one after the other, to tell of.
_AHEAD = 16  # Frames that are decoded ahead.
_PICTURES = 16  # References that are kept, no larger than they are seen.
_SOURCE = 'SHA-256 of the video'  # Its name among the settings.
# By which the aspect of a bound reference may differ from the video's.
_ASPECT = 0.02


class Step(NamedTuple):
  """A frame that is coloured, or that colours were carried back through."""

  done: int  # Steps of `count_steps`, with those of earlier runs.
  number: int  # Of the frame.
  grey: np.ndarray  # [h, w, 3] uint8 or, for more than 8 bits, uint16.
  rgb: np.ndarray | None  # In colour; None: the frame will come again.
  confidence: float  # Mean, in [-1, 1].


class Stretch(NamedTuple):
  """Frames start to stop - 1 that are coloured from the same references."""

  start: int
  stop: int
  before: Choice | None  # Bound to `start`; colours go forwards from it.
  after: Choice | None  # Bound to `stop`; colours go backwards from it.
  others: tuple[Choice, ...]  # Bound to nothing.
  borders: Borders  # Stay as they are.

  @property
  def carried(self) -> bool:
    """Whether colors go forwards, each frame's from the frame before."""
    return self.before is not None or self.after is None


class _Block(NamedTuple):
  """Frames that are coded together."""

  start: int
  stop: int
  key: str  # Hash of everything that they are computed from.

  @property
  def name(self) -> str:
    """Of its entry in the journal."""
    return f'{self.start:07d}'

  @property
  def state(self) -> str:
    """The file of what the next block starts from."""
    return f'{self.name}.npy'


class _Track(NamedTuple):
  """One of the outputs."""

  name: str
  target: Path
  kind: str  # As of `video.output_kind`.
  coding: video.Coding
  columns: int = 1  # Frames side by side.

  def format(self, source: video.Format) -> video.Format:
    """Of its pictures, after that of the source."""
    form = source._replace(width=source.width * self.columns)
    # Confidence has no fields.
    return form._replace(field_order='') if self.name == 'confidence' else form

  def segment(self, block: _Block) -> str:
    suffix = {'video': '.mkv', 'folder': '', 'image': self.target.suffix}
    return f'{self.name}/{block.name}{suffix[self.kind]}'


def count_steps(plan: Plan) -> int:
  """How many steps colouring takes: frames, some of them twice."""
  return sum(_steps(part) for shot in plan.shots for part in _stretches(shot))


def _steps(stretch: Stretch) -> int:
  frames = stretch.stop - stretch.start
  return frames if stretch.after is None else 2 * frames + 1


def scratch_bytes(
  plan: Plan, working_size: tuple[int, int], workers: int
) -> int:
  """About the bytes on the disk that colors carried backwards take at a time."""
  height, width = sizes.within((plan.height, plan.width), working_size)
  carried = (
    stretch.stop - stretch.start + 1
    for shot in plan.shots
    for stretch in _stretches(shot)
    if stretch.after is not None
  )
  return 9 * height * width * sum(heapq.nlargest(workers, carried))


def _stretches(shot: Shot) -> Iterator[Stretch]:
  """Cuts a shot where references are bound."""
  bound = {x.frame: x for x in shot.references if x.frame is not None}
  others = tuple(x for x in shot.references if x.frame is None)
  edges = sorted({shot.start, *bound, shot.stop})
  for start, stop in itertools.pairwise(edges):
    yield Stretch(
      start, stop, bound.get(start), bound.get(stop), others, shot.borders
    )


_DEFAULT_OPTIONS = Options()


class Film:
  """The colouring of one film.

  Attributes:
    confidences: mean of each frame's, [frames]; NaN where it is not coloured yet.
    left_out: what is missing from an output, in words: streams that its container
      does not take, frames that the plan does not know.
  """

  def __init__(
    self,
    colorizers: Sequence[Any],
    video_path: Path,
    plan: Plan,
    output: Path,
    overwrite: bool = False,
    options: Options = _DEFAULT_OPTIONS,
    opener: sandbox.Direct | sandbox.Sandbox = sandbox.DIRECT,
  ):
    """Looks whether all is well; nothing is written yet.

    Args:
      colorizers: `colorize.VideoColorizer`s of the same weights, one for each
        device. Shots are spread over them.
      video_path: a video, a folder of frames, or an image.
      plan: of it.
      output: a video, a folder or an image; sound and all else that is no
        picture goes from video to video.
      overwrite: whether an output that exists is replaced.
      options: what it is to be like.
      opener: where the video is opened.

    Raises:
      UserError: an input cannot be used, or the output exists.
    """
    pictures = {x.picture for y in plan.shots for x in y.references}
    read = [Path(x) for x in pictures if x != FIRST_FRAME]
    check(video_path, output, overwrite, options, read)
    self._workers = [_Worker(self, colorizer) for colorizer in colorizers]
    self._path, self._opener = video_path, opener
    self._plan = plan
    self._done = 0
    self._lock = threading.Lock()  # Of that.
    self._options, self._overwrite = options, overwrite
    with opener.open(video_path, deinterlace=options.deinterlace) as reader:
      self._format, self._source_kind = reader.format, reader.kind
    if self._source_kind == 'folder':
      self._format = self._format.at(plan.frame_rate)
    form = self._format
    self._size = form.height, form.width
    if (plan.height, plan.width) != self._size:
      raise UserError(
        f'the plan is of a video of {plan.width}x{plan.height} pixels, but '
        f'{video_path} has {form.width}x{form.height}: make another plan'
      )
    plain = video.Coding()
    self._tracks = [
      _Track(name, target, video.output_kind(target), coding, columns)
      for name, target, coding, columns in (
        ('output', output, options.coding, 1),
        ('compare', options.compare, plain, 2),
        ('confidence', options.confidence, plain, 1),
      )
      if target is not None
    ]
    self.left_out = left_out(reader, video_path, output, options, opener)
    for track in self._tracks:
      if track.kind == 'image' and plan.frames > 1:
        raise UserError(
          f'{track.target} is one image but {video_path} has {plan.frames} '
          'frames: name a video or a folder'
        )
    self.confidences = np.full(plan.frames, np.nan, np.float32)
    tracks = [track.name for track in self._tracks]
    self._journal = journal.Journal(part_folder(output), tracks)
    self._whole = whole_file(output)
    self._facts = {}  # Of the blocks that are done, by `_Block`.
    self._pictures_sha256 = _pictures_sha256(plan)
    self._settings = {
      _SOURCE: _source_sha256(video_path),
      'weights': colorizers[0].fingerprint,
      **_as_flags('config.use.', colorizers[0].config.use.items()),
      **_as_flags('', options.items()),
      '--frame-rate': str(self._format.frame_rate),
    }
    self._sound = {'--audio': options.audio}
    self._identity = {
      '--video': video_path.name,
      **self._settings,
      **self._described_shots(),
    }

  def run(self) -> Iterator[Step]:
    """Colours the film, from where an earlier run was stopped; once.

    Yields:
      What was not done before.

    Raises:
      UserError: an earlier run was begun with other settings, the video cannot
        be read, or the output cannot be written.
    """
    for track in self._tracks:
      with video.explained('write', track.target):
        track.target.absolute().parent.mkdir(parents=True, exist_ok=True)
    with self._journal.opened():
      if not self._is_whole():
        self._check_settings()
        self._examine()
        yield from self._color()
        self._finish()
      self._move()

  def _color(self) -> Iterator[Step]:
    shots = ([*_stretches(shot)] for shot in self._plan.shots)
    if len(self._workers) == 1:
      with self._workers[0] as worker:
        for stretch in itertools.chain.from_iterable(shots):
          yield from worker.color(stretch)
    else:
      yield from self._spread(list(shots))

  def _spread(self, shots: list[list[Stretch]]) -> Iterator[Step]:
    """Yields what the workers do side by side; the rest ends where one fails."""
    waiting = iter(shots)  # Who is free takes the next.
    # It is the slowest who sets the pace.
    steps = queue.Queue(len(self._workers))
    stopped = threading.Event()

    def work(worker):
      with worker:
        for stretch in itertools.chain.from_iterable(waiting):
          with contextlib.closing(worker.color(stretch)) as made:
            for step in made:
              if stopped.is_set():
                return
              steps.put(step)

    with concurrent.futures.ThreadPoolExecutor(len(self._workers)) as pool:
      futures = [pool.submit(work, worker) for worker in self._workers]
      try:
        while True:
          with contextlib.suppress(queue.Empty):
            yield steps.get(timeout=0.1)
            continue
          for future in futures:
            if future.done():
              future.result()  # Raises what went wrong.
          if all(future.done() for future in futures) and steps.empty():
            return
      finally:
        stopped.set()
        while not all(future.done() for future in futures):
          with contextlib.suppress(queue.Empty):
            steps.get(timeout=0.1)

  def _count(self, steps: int) -> int:
    with self._lock:
      self._done += steps
      return self._done

  def doubts(self) -> Iterator[str]:
    """Yields sentences: where a further reference is wanted."""
    stamps = [x for y in sorted(self._facts) for x in self._facts[y]['pts']]
    form = self._format
    tick = form.time_base or 1 / form.frame_rate
    for start, stop in self.unsure():
      first, last = (
        clock((stamps[number] - stamps[0]) * tick)
        for number in (start, stop - 1)
      )
      yield (
        f'from {first} to {last} (frames {start} to {stop - 1}) the references '
        'do not match well: give one more, bound to a frame there'
      )

  def unsure(self) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of frames that want a further reference.

    There the confidence stays low for a while.
    """
    low = self.confidences < _UNSURE
    edges = np.flatnonzero(np.diff(low, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
      if stop - start >= _UNSURE_FRAMES:
        yield start, stop

  def _check_settings(self) -> None:
    """Compares what an earlier run was begun with."""
    place = self._journal.folder
    path = place / 'settings.json'
    try:
      begun = journal.read_record(path)
    except journal.DamagedError as error:
      _warn(f'{error}: only what fits to the settings of now is kept')
      begun = None
    if begun is not None and begun[_SOURCE] == self._identity[_SOURCE]:
      _check_same(place, begun, self._identity)
      return
    if begun is not None:
      if begun['--video'] != self._identity['--video']:
        _check_same(place, begun, self._identity)
      _warn(
        f'{place} was begun with another content of {self._path}: it is '
        'colored from the start'
      )
    journal.write_record(path, self._identity)

  def _is_whole(self) -> bool:
    """Whether an earlier run has completed all outputs, and they still are."""
    try:
      record = journal.read_record(self._whole)
      if record is None:
        return False
      outputs = absolute(track.target for track in self._tracks)
      _check_same(
        self._whole,
        record['settings'] | {'outputs': [*record['outputs']]},
        self._identity | self._sound | {'outputs': outputs},
      )
      for track in self._tracks:
        partial = video.partial_path(track.target)
        if partial.exists():
          measured = record['outputs'][str(track.target.absolute())]
          journal.verify(partial, measured)
        elif not track.target.exists():
          raise journal.DamagedError(f'{track.target} is gone')
      return True
    except journal.DamagedError as error:
      _warn(f'{error}: the outputs are put together again')
    video.remove(self._whole)
    # Some of them may be in their places already.
    check_free(self._tracks[0].target, self._overwrite, self._options)
    return False

  def _examine(self) -> None:
    """Finds the blocks that an earlier run has colored."""
    damaged = {}
    for stretch in self._all_stretches():
      wanted = False  # What the block after starts from.
      for block in reversed(self._blocks(stretch)):
        names = [track.segment(block) for track in self._tracks]
        if wanted and stretch.carried:
          names.append(block.state)
        facts = None
        try:
          facts = self._journal.read(block.name, block.key, names)
        except journal.DamagedError as error:
          damaged[block] = error
        wanted = facts is None
        if facts is not None:
          self._note(block, facts)
    for run in _runs(sorted(damaged)):
      more = ', and so on' if len(run) > 1 else ''
      _warn(
        f'frames {run[0].start} to {run[-1].stop - 1} are colored again: '
        f'{damaged[run[0]]}{more}'
      )

  def _writer(self, track: _Track, block: _Block) -> video.VideoWriter:
    # The true time stamps come in when all is put together.
    return video.VideoWriter(
      self._journal.path(track.segment(block)),
      track.format(self._format)._replace(time_base=None),
      overwrite=True,
      coding=track.coding,
      reordered=track.target.suffix.lower() != '.avi',
    )

  def _pictures(
    self,
    grey: np.ndarray,
    rgb: np.ndarray,
    confidence: np.ndarray,
    inner: Borders,
  ) -> Iterator[np.ndarray]:
    """Yields what goes into each output; `inner` as of the shot."""
    yield rgb
    if self._options.compare is not None:
      yield np.concatenate([shallow(grey), shallow(rgb)], 1)
    if self._options.confidence is not None:
      shade = np.zeros(self._size, np.uint8)
      within = inner.crop(shade)
      within[:] = cv2.resize(
        np.uint8(255 * np.clip(confidence[..., 0], 0, 1)),
        within.shape[::-1],
        interpolation=cv2.INTER_LINEAR,
      )
      yield np.repeat(shade[..., None], 3, -1)

  def _finish(self) -> None:
    """Makes the outputs whole, each beside its place."""
    blocks = [
      block
      for stretch in self._all_stretches()
      for block in self._blocks(stretch)
    ]
    with contextlib.ExitStack() as undo:
      measured = {}
      for index, track in enumerate(self._tracks):
        whole = video.partial_path(track.target)
        undo.callback(video.remove, whole)
        with video.explained('write', track.target):
          video.remove(whole)  # Of a run that was killed.
          if track.kind == 'video':
            self._join(index, track, blocks, whole)
          else:
            self._gather(track, blocks, whole)
          files.sync(whole)
          measured[str(track.target.absolute())] = journal.measure(whole)
      with video.explained('write', self._whole):
        journal.write_record(
          self._whole,
          {'settings': self._identity | self._sound, 'outputs': measured},
        )
      undo.pop_all()

  def _move(self) -> None:
    """Puts outputs that are whole in their places, from wherever it stopped."""
    for track in self._tracks:
      with video.explained('write', track.target):
        video.move(video.partial_path(track.target), track.target)
    self._journal.remove()
    self._whole.unlink()

  def _join(self, index, track, blocks, path):
    facts = [self._facts[block] for block in blocks]
    form = self._format
    segments = [
      mux.Segment(
        self._journal.folder / track.segment(block),
        fact['pts'],
        fact['delay'][index],
        fact['end'],
      )
      for block, fact in zip(blocks, facts, strict=True)
    ]
    parts = [self._path, *(segment.path for segment in segments)]
    self._opener.call(
      mux.join,
      segments,
      track.format(form),
      self._path if self._source_kind == 'video' else None,
      path,
      self._options.sound,
      about=self._path,
      # What is put together is about as large as its parts.
      file_bytes=2**24 + sum(part.stat().st_size for part in parts),
    )

  def _gather(self, track, blocks, path):
    """Gives images that lie in folders, or one, a second place in `path`."""
    segments = [self._journal.folder / track.segment(block) for block in blocks]
    if track.kind == 'image':
      _link(segments[0], path)
      return
    path.mkdir()
    for block, segment in zip(blocks, segments, strict=True):
      images = [*segment.iterdir()]
      if len(images) != block.stop - block.start:
        raise UserError(
          f'{segment} has {len(images)} frames instead of '
          f'{block.stop - block.start}: run the same command again'
        )
      for image in images:
        _link(image, path / image.name)

  def _note(self, block: _Block, facts: dict[str, Any]):
    self._facts[block] = facts
    self.confidences[block.start : block.stop] = facts['confidence']

  def _all_stretches(self) -> Iterator[Stretch]:
    return itertools.chain.from_iterable(map(_stretches, self._plan.shots))

  def _blocks(self, stretch: Stretch) -> list[_Block]:
    edges = [*range(stretch.start, stretch.stop, _BLOCK), stretch.stop]
    return [
      _Block(start, stop, self._key(stretch, start, stop))
      for start, stop in itertools.pairwise(edges)
    ]

  def _key(self, stretch: Stretch, *which: Any) -> str:
    """A hash of everything that a part of a stretch is computed from."""
    bound = (
      x and self._pictures_sha256[x.picture]
      for x in (stretch.before, stretch.after)
    )
    others = [self._pictures_sha256[x.picture] for x in stretch.others]
    frames = stretch.start, stretch.stop, *which
    return journal.digest(
      [self._settings, frames, stretch.borders, *bound, others]
    )

  def _described_shots(self) -> dict[str, str]:
    """The plan as settings, a line for each shot."""

    def named(choice):
      digest = self._pictures_sha256[choice.picture]
      frame = '' if choice.frame is None else f' at {choice.frame}'
      return f'{Path(choice.picture).name} {digest[:8]}{frame}'

    return {
      f'shot {number}': f'{shot.start}-{shot.stop - 1}: '
      + ', '.join(map(named, shot.references))
      + (f' within {[*shot.borders]}' if any(shot.borders) else '')
      for number, shot in enumerate(self._plan.shots, 1)
    }


class _Worker:
  """Colours stretches on one device; a context manager."""

  def __init__(self, film: Film, colorizer: Any):
    self._film = film
    self._colorizer = colorizer
    # Stretches that follow one another often share references.
    self._picture = functools.lru_cache(_PICTURES)(self._read_picture)

  def __enter__(self):
    options = self._film._options
    opened = self._film._opener, self._film._path
    self._source = _Source(*opened, options.coding.deep, options.deinterlace)
    # Reads what colours come back through.
    self._ahead = _Source(*opened, deinterlace=options.deinterlace)
    return self

  def __exit__(self, *_):
    self._source.close()
    self._ahead.close()

  def color(self, stretch: Stretch) -> Iterator[Step]:
    """Colours the blocks of a stretch that are not done."""
    film = self._film
    blocks = film._blocks(stretch)
    todo = [block for block in blocks if block not in film._facts]
    if not todo:
      film._count(_steps(stretch))
      return
    kept, backwards = None, _backwards(stretch)
    if stretch.after is not None:
      yield from self._color_backwards(stretch)
      kept = np.load(film._journal.folder / f'{backwards}.npy', mmap_mode='r')
    film._count(sum(x.stop - x.start for x in blocks if x not in todo))
    for run in _runs(todo):
      if stretch.carried:
        self._set_references(stretch, stretch.before)
      if stretch.carried and run[0] != blocks[0]:
        previous = blocks[blocks.index(run[0]) - 1]
        state = np.load(film._journal.folder / previous.state)
        self._colorizer.resume(state, stretch.borders.size(*film._size))
      frames = self._source.frames(run[0].start, run[-1].stop)
      for block in run:
        yield from self._color_block(block, stretch, frames, kept)
    if kept is not None:
      film._journal.discard(backwards, [f'{backwards}.npy'])

  def _set_references(self, stretch: Stretch, bound: Choice | None):
    choices = stretch.others if bound is None else (bound, *stretch.others)
    pictures = (self._picture(choice, stretch.borders) for choice in choices)
    self._colorizer.set_reference(*pictures, first_frame=bound is not None)

  def _color_backwards(self, stretch: Stretch) -> Iterator[Step]:
    """Keeps the colours that come back from the reference behind a stretch."""
    entry = _backwards(stretch)
    name, key = f'{entry}.npy', self._film._key(stretch, 'backwards')
    try:
      found = self._film._journal.read(entry, key, [name])
    except journal.DamagedError as error:
      _warn(
        f'frames {stretch.start} to {stretch.stop - 1} are matched again: '
        f'{error}'
      )
      found = None
    if found is not None:  # Of an earlier run.
      self._film._count(stretch.stop - stretch.start + 1)
      return
    inner_size = stretch.borders.size(*self._film._size)
    height, width = sizes.within(
      inner_size, tuple(self._colorizer.config.use.size)
    )
    count = stretch.stop - stretch.start
    # Decoding goes forwards only.
    small_path = self._film._journal.path(f'{entry}.small')
    small = _on_disk(small_path, np.uint8, (count + 1, height, width, 3))
    for i, frame in enumerate(
      self._ahead.frames(stretch.start, stretch.stop + 1)
    ):
      small[i] = cv2.resize(
        stretch.borders.crop(frame.rgb),
        (width, height),
        interpolation=cv2.INTER_AREA,
      )
    path = self._film._journal.path(name)
    kept = _on_disk(path, np.float16, (count, height, width, 3))
    self._set_references(stretch, stretch.after)
    number = stretch.stop
    for block in self._colorizer.predict(small[::-1]):
      predicted = np.concatenate([block.ab, block.confidence], -1)
      for rgb, colours in zip(block.rgb, predicted, strict=True):
        if number < stretch.stop:  # That one is the reference itself.
          kept[number - stretch.start] = colours
        confidence = float(colours[..., 2].mean())
        done = self._film._count(1)
        yield Step(done, number, rgb, None, confidence)
        number -= 1
    kept.flush()
    self._film._journal.write(entry, key, [name], {})
    small_path.unlink()

  def _color_block(self, block, stretch, frames, kept):
    waiting = collections.deque()
    stamps, confidences = [], []

    def grey():
      for frame in itertools.islice(frames, block.stop - block.start):
        waiting.append(frame)
        yield stretch.borders.crop(frame.rgb)

    predict = self._colorizer.predict if stretch.carried else _without
    predictions = predict(grey())
    if kept is not None:
      predictions = _mixed(predictions, stretch, block.start, kept)
    with contextlib.ExitStack() as stack:
      writers = [
        stack.enter_context(self._film._writer(track, block))
        for track in self._film._tracks
      ]
      for inner, confidence in self._joined(predictions):
        frame = waiting.popleft()
        number = block.start + len(stamps)
        rgb = frame.rgb.copy()
        stretch.borders.crop(rgb)[:] = inner
        # Files of a folder keep their names.
        named = video.Frame(rgb, None, frame.name or f'{number:06d}')
        pictures = self._film._pictures(
          frame.rgb, rgb, confidence, stretch.borders
        )
        for writer, picture in zip(writers, pictures, strict=True):
          writer.write(named._replace(rgb=picture))
        mean = float(confidence.mean())
        stamps.append(frame.pts)
        end = frame.pts + (frame.duration or self._film._format.ticks)
        confidences.append(round(mean, 4))
        yield Step(self._film._count(1), number, frame.rgb, rgb, mean)
      if len(stamps) < block.stop - block.start:
        raise UserError(
          f'the video ends at frame {block.start + len(stamps)}, but its plan '
          f'has {self._film._plan.frames}: make another plan'
        )
    facts = {'pts': stamps, 'end': end, 'confidence': confidences, 'delay': []}
    log = self._film._journal
    names = [track.segment(block) for track in self._film._tracks]
    for track, name in zip(self._film._tracks, names, strict=True):
      is_video = track.kind == 'video'
      facts['delay'].append(mux.delay(log.folder / name) if is_video else 0)
    if stretch.carried and block.stop < stretch.stop:
      np.save(log.path(block.state), self._colorizer.state)
      names.append(block.state)
    log.write(block.name, block.key, names, facts)
    self._film._note(block, facts)

  def _joined(
    self, predictions: Iterable[Any]
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields coloured frames and confidences; the device is a block ahead."""
    ready = (), ()
    for rgb, ab, confidence in predictions:
      ab = ab * np.float32(self._film._options.saturation)
      if self._film._options.smoothing:
        ab = np.stack(
          [
            _smoothed(*frame, self._film._options.smoothing)
            for frame in zip(rgb, np.asarray(ab), strict=True)
          ]
        )
      coloured = sizes.join_frames(rgb, ab)
      yield from zip(*map(np.asarray, ready), strict=True)
      ready = coloured, confidence
    yield from zip(*map(np.asarray, ready), strict=True)

  def _read_picture(self, choice: Choice, inner: Borders) -> np.ndarray:
    """Reads a reference of a shot, no larger than the networks see it.

    The borders of one that is bound are those of its shot.
    """
    if choice.picture == FIRST_FRAME:
      film = self._film
      deinterlace = film._options.deinterlace
      with film._opener.open(film._path, deinterlace=deinterlace) as reader:
        rgb = next(reader).rgb
    else:
      rgb = video.read_image(choice.picture)
    if choice.frame is None:
      rgb = borders.without(rgb)
    else:
      rgb = self._fitted(rgb, choice, inner)
    height, width = sizes.within(rgb.shape[:2], self._colorizer.bound)
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)

  def _fitted(
    self, rgb: np.ndarray, choice: Choice, inner: Borders
  ) -> np.ndarray:
    """Brings a picture that is a frame, or what is within its borders, to size."""
    size = self._film._size
    inner_size = inner.size(*size)
    if _same_shape(rgb.shape, size):
      rgb = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)
      return inner.crop(rgb)
    if _same_shape(rgb.shape, inner_size):
      return cv2.resize(rgb, inner_size[::-1], interpolation=cv2.INTER_AREA)
    raise UserError(
      f'{choice.picture} is to be frame {choice.frame} but has '
      f'{rgb.shape[1]}x{rgb.shape[0]} pixels, another shape than the '
      f"video's {size[1]}x{size[0]}: crop it, or do not bind it to a frame"
    )


def _same_shape(size: Sequence[int], other: Sequence[int]) -> bool:
  """Whether two (height, width, ...) have about the same aspect."""
  return abs(size[1] / size[0] * other[0] / other[1] - 1) <= _ASPECT


def _link(path: Path, place: Path) -> None:
  try:
    place.hardlink_to(path)
  except OSError:  # On another file system, or one that has no links.
    shutil.copyfile(path, place)


def _on_disk(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
  """An array in a file; OSError where the disk has no room for all of it."""
  array = np.lib.format.open_memmap(path, 'w+', dtype, shape)
  with open(path, 'r+b') as file:
    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
  return array


class _Predicted(NamedTuple):
  """As `colorize.Prediction`."""

  rgb: np.ndarray
  ab: Any
  confidence: Any


def _without(rgb: Iterable[np.ndarray]) -> Iterator[_Predicted]:
  """Frames that nothing is predicted for in this direction."""
  for frame in rgb:
    yield _Predicted(frame[None], None, None)


def _mixed(
  predictions: Iterable[Any], stretch: Stretch, start: int, kept: np.ndarray
) -> Iterator[_Predicted]:
  """Mixes what goes forwards with what came back, from frame `start` on."""
  for rgb, ab, confidence in predictions:
    place = start - stretch.start
    start += len(rgb)
    back = np.float32(kept[place : place + len(rgb)])
    back_ab, back_confidence = back[..., :2], back[..., 2:]
    if ab is None:
      yield _Predicted(rgb, back_ab, back_confidence)
      continue
    # 1 at the reference before, falling to 0 at the one behind.
    near = 1 - (place + np.arange(len(rgb))) / (stretch.stop - stretch.start)
    near = near.astype(np.float32)[:, None, None, None]
    yield _Predicted(rgb, *_mix(near, ab, confidence, back_ab, back_confidence))


@jax.jit
def _mix(near, ab, confidence, back_ab, back_confidence):
  # What came back has the working size, the other may be finer.
  back_ab, back_confidence = (
    jax.image.resize(x, (*ab.shape[:3], x.shape[-1]), 'bilinear')
    for x in (back_ab, back_confidence)
  )
  certain = jnp.exp((back_confidence - confidence) / _CERTAINTY)
  share = near / (near + (1 - near) * certain)
  return (
    share * ab + (1 - share) * back_ab,
    share * confidence + (1 - share) * back_confidence,
  )


def _smoothed(rgb: np.ndarray, ab: np.ndarray, strength: float) -> np.ndarray:
  """Colours [h, w, 2] at the frame's size, by the edges of its lightness."""
  height, width = rgb.shape[:2]
  ab = cv2.resize(ab, (width, height), interpolation=cv2.INTER_CUBIC)
  guide = cv2.cvtColor(shallow(rgb), cv2.COLOR_RGB2GRAY)
  return cv2.ximgproc.fastGlobalSmootherFilter(guide, ab, strength, _EDGE)


def shallow(rgb: np.ndarray) -> np.ndarray:
  """A frame as uint8."""
  if rgb.dtype == np.uint16:
    return cv2.convertScaleAbs(rgb, alpha=1 / 257)
  return rgb


class _Source:
  """A video whose frames can be had from any place on."""

  def __init__(
    self,
    opener: Any,
    path: Path,
    deep: bool = False,
    deinterlace: bool = False,
  ):
    self._open = functools.partial(opener.open, path, deep, deinterlace)
    self._reader = None  # Opened with the first frame that is asked for.
    self._position = 0
    self._last = None  # The frame before that.

  def frames(self, start: int, stop: int) -> Iterator[video.Frame]:
    """Yields frames start to stop - 1."""
    return video.prefetch(self._read(start, stop), _AHEAD)

  def _read(self, start, stop):
    # A stretch begins with the frame that colours came back from.
    if start == self._position - 1 and self._last is not None:
      yield self._last
      start += 1
    elif self._reader is None or start < self._position:
      self.close()
      self._reader = self._open()
      self._position = 0
    self._reader.skip(start - self._position)
    self._position = start
    for frame in itertools.islice(self._reader, stop - start):
      self._last = frame
      self._position += 1
      yield frame

  def close(self) -> None:
    if self._reader is not None:
      self._reader.close()


def _runs(blocks: Iterable[_Block]) -> list[list[_Block]]:
  """Groups blocks that follow one another."""
  runs = []
  for block in blocks:
    if runs and runs[-1][-1].stop == block.start:
      runs[-1].append(block)
    else:
      runs.append([block])
  return runs


def _backwards(stretch: Stretch) -> str:
  """The entry of the colors that come back through a stretch."""
  return f'{stretch.start:07d}.backwards'


def _pictures_sha256(plan: Plan) -> dict[str, str]:
  """Hashes of the references' files, by their paths."""
  hashes = {FIRST_FRAME: ''}  # A part of the video, which has its own hash.
  for picture in {x.picture for y in plan.shots for x in y.references}:
    if picture not in hashes:
      with video.explained('read', picture):
        hashes[picture] = files.sha256(Path(picture))
  return hashes


def _source_sha256(path: Path) -> str:
  """Hash of a video or of all images of a folder.

  All of it is read: 800 MB a second and more, which decoding never reaches.
  """
  with video.explained('read', path):
    if path.is_dir():
      return files.sha256_of_all(video.image_files(path))
    return files.sha256(path)


def _as_flags(prefix: str, settings: Iterable[tuple[str, Any]]):
  """Settings by the flags that set them; of a path the name alone counts."""
  return {
    f'--{prefix}{name}': value.name if isinstance(value, Path) else str(value)
    for name, value in settings
  }


def _check_same(place: Path, begun: dict[str, Any], now: dict[str, Any]):
  """Raises UserError where the settings of an earlier run were others."""
  for name in {**begun, **now}:
    theirs, ours = begun.get(name), now.get(name)
    if name == '--video' and begun[_SOURCE] == now[_SOURCE]:
      continue  # Renamed.
    if theirs != ours:
      raise UserError(
        f'{place} was begun with {name} {theirs}, which now is {ours}: '
        'set it back, or remove that to begin anew'
      )


def _warn(sentence: str) -> None:
  tqdm.tqdm.write(f'warning: {sentence}', file=sys.stderr)
