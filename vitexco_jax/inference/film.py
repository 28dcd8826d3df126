"""A film is coloured by its plan, block by block, so that a stop loses nothing.

`Film.run` is a generator that gives each frame as it is coloured; to stop, drop it.
Beside the output OUTPUT it keeps a folder until the film is whole:

  OUTPUT.part/
    settings.json    what the result depends on; other settings are refused
    output/0000240.mkv    the coded frames of the block that begins with frame 240
    0000240.npy      what the next block starts from, until that is there too
    0000240.json     its time stamps and confidences; here when all else is

The same command goes on with the first block that is not there, and the result is
the same, byte for byte: blocks are the same whether or not it was stopped between
them, and coding begins anew in each. When all outputs are whole, beside their
places, a file .OUTPUT.whole says so; from then on they only have to be moved.

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
import fcntl
import functools
import hashlib
import itertools
import json
import os
import queue
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax import files, sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference.plan import FIRST_FRAME, Choice, Plan, Shot, clock
from vitexco_jax.media import mux, video

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
# By which the aspect of a bound reference may differ from the video's.
_ASPECT = 0.02


class Step(NamedTuple):
  """A frame that is coloured, or that colours were carried back through."""

  done: int  # Steps of `count_steps`, with those of earlier runs.
  number: int  # Of the frame.
  grey: np.ndarray  # [h, w, 3] uint8 or, for more than 8 bits, uint16.
  rgb: np.ndarray | None  # In colour; None: the frame will come again.
  confidence: float  # Mean, in [-1, 1].


class Options(NamedTuple):
  """What an output is to be like, beside its colours."""

  coding: video.Coding = video.Coding()
  saturation: float = 1.0  # Predicted colours are multiplied by it.
  # Of the edge-aware filter that clears colours of what does not follow the
  # frame's own edges; 500 is usual, 0 leaves it out.
  smoothing: float = 0.0
  compare: Path | None = None  # Grey and coloured side by side, to be written.
  confidence: Path | None = None  # White where a match is sure, to be written.

  def check(self, output: Path) -> None:
    """Raises UserError unless an output can be made so."""
    self.coding.check(output)
    for name in ('saturation', 'smoothing'):
      if not 0 <= getattr(self, name) < float('inf'):
        raise UserError(
          f'--{name}={getattr(self, name)} must be 0 or more, and finite'
        )
    outputs = [path.absolute() for path in self.outputs(output)]
    if len(set(outputs)) < len(outputs):
      raise UserError(f'{output.name} is named for two outputs: name others')
    for path in outputs[1:]:
      video.Coding().check(path)

  def outputs(self, output: Path) -> list[Path]:
    """All that is written, the coloured film first."""
    return [output, *filter(None, (self.compare, self.confidence))]


class Stretch(NamedTuple):
  """Frames start to stop - 1 that are coloured from the same references."""

  start: int
  stop: int
  before: Choice | None  # Bound to `start`; colours go forwards from it.
  after: Choice | None  # Bound to `stop`; colours go backwards from it.
  others: tuple[Choice, ...]  # Bound to nothing.


class _Block(NamedTuple):
  start: int
  stop: int


class _Track(NamedTuple):
  """One of the outputs."""

  name: str
  target: Path
  kind: str  # As of `video.output_kind`.
  coding: video.Coding
  columns: int = 1  # Frames side by side.

  def segment(self, part: Path, block: _Block) -> Path:
    suffix = {'video': '.mkv', 'folder': '', 'image': self.target.suffix}
    return part / self.name / f'{block.start:07d}{suffix[self.kind]}'


def count_steps(plan: Plan) -> int:
  """How many steps colouring takes: frames, some of them twice."""
  return sum(_steps(part) for shot in plan.shots for part in _stretches(shot))


def _steps(stretch: Stretch) -> int:
  frames = stretch.stop - stretch.start
  return frames if stretch.after is None else 2 * frames + 1


def part_folder(output: Path) -> Path:
  """Where an output grows."""
  output = output.absolute()
  return output.with_name(f'{output.name}.part')


def check_free(output: Path, overwrite: bool, options: Options) -> None:
  """Raises UserError for an output that is there and must not be replaced.

  A run that was killed while it moved its outputs may go on with them.
  """
  targets = options.outputs(output)
  whole = _whole_file(output)
  begun = json.loads(whole.read_text())['outputs'] if whole.exists() else []
  if begun != _absolute(targets):
    for target in targets:
      video.check_free(target, overwrite)


def _whole_file(output: Path) -> Path:
  """Where a run whose outputs are whole says its settings and `outputs`."""
  output = output.absolute()
  return output.with_name(f'.{output.name}.whole')


def _absolute(paths: Iterable[Path]) -> list[str]:
  return [str(path.absolute()) for path in paths]


def _stretches(shot: Shot) -> Iterator[Stretch]:
  """Cuts a shot where references are bound."""
  bound = {x.frame: x for x in shot.references if x.frame is not None}
  others = tuple(x for x in shot.references if x.frame is None)
  edges = sorted({shot.start, *bound, shot.stop})
  for start, stop in itertools.pairwise(edges):
    yield Stretch(start, stop, bound.get(start), bound.get(stop), others)


def _blocks(stretch: Stretch) -> Iterator[_Block]:
  for start in range(stretch.start, stretch.stop, _BLOCK):
    yield _Block(start, min(start + _BLOCK, stretch.stop))


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

    Raises:
      UserError: an input cannot be used, or the output exists.
    """
    options.check(output)
    check_free(output, overwrite, options)
    self._workers = [_Worker(self, colorizer) for colorizer in colorizers]
    self._path = video_path
    self._plan = plan
    self._done = 0
    self._lock = threading.Lock()  # Of that.
    self._options = options
    with video.VideoReader(video_path) as reader:
      self._format, self._source_kind = reader.format, reader.kind
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
    self.left_out = []
    for track in self._tracks:
      if track.kind == 'image' and plan.frames > 1:
        raise UserError(
          f'{track.target} is one image but {video_path} has {plan.frames} '
          'frames: name a video or a folder'
        )
      if track.kind == self._source_kind == 'video':
        missing = mux.left_out(video_path, track.target)
        self.left_out += [f'{track.target.name}: {name}' for name in missing]
    self.confidences = np.full(plan.frames, np.nan, np.float32)
    self._part = part_folder(output)
    self._whole = _whole_file(output)
    self._outputs = {'outputs': _absolute(options.outputs(output))}
    self._settings = {
      '--video': f'{video_path.name} of {_bytes(video_path)} bytes',
      'weights': colorizers[0].fingerprint,
      **{
        f'--config.use.{name}': str(value)
        for name, value in colorizers[0].config.use.items()
      },
      '--codec': options.coding.codec,
      '--bits': options.coding.depth,
      '--quality': options.coding.quality,
      '--saturation': options.saturation,
      '--smoothing': options.smoothing,
      '--compare': options.compare and options.compare.name,
      '--confidence': options.confidence and options.confidence.name,
      **_described(plan),
    }

  def run(self) -> Iterator[Step]:
    """Colours the film, from where an earlier run was stopped; once.

    Yields:
      What was not done before.

    Raises:
      UserError: an earlier run was begun with other settings, the video cannot
        be read, or the output cannot be written.
    """
    with self._begun():
      if not self._whole.exists():
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
    for start, stop in self.unsure():
      first, last = (
        clock(number / self._plan.frame_rate) for number in (start, stop - 1)
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

  @contextlib.contextmanager
  def _begun(self) -> Iterator[None]:
    """Makes the folder, or goes on with it."""
    for track in self._tracks:
      with video.explained('write', track.target):
        track.target.absolute().parent.mkdir(parents=True, exist_ok=True)
    with video.explained('write', self._part):
      fresh = not self._part.exists()
      self._part.mkdir(parents=True, exist_ok=True)
      with _locked(self._part):
        try:
          self._check_settings()
          yield
        except BaseException:
          # A mistake of the first minute leaves nothing behind.
          done = itertools.chain(
            self._part.glob('[0-9]*.json'), self._part.glob('*.backwards.npy')
          )
          if fresh and not any(done):
            shutil.rmtree(self._part)
          raise

  def _check_settings(self):
    place, path = self._part, self._part / 'settings.json'
    settings = self._settings
    if self._whole.exists():
      place = path = self._whole
      settings = settings | self._outputs
    if not path.exists():
      files.write(path, json.dumps(settings, indent=2))
      return
    begun = json.loads(path.read_text())
    for name in {**begun, **settings}:
      theirs, ours = begun.get(name), settings.get(name)
      if theirs != ours:
        raise UserError(
          f'{place} was begun with {name} {theirs}, which now is {ours}: '
          'set it back, or remove that to begin anew'
        )

  def _writer(self, track: _Track, block: _Block) -> video.VideoWriter:
    form = self._format
    # The true time stamps come in when all is put together.
    return video.VideoWriter(
      track.segment(self._part, block),
      form._replace(width=form.width * track.columns, time_base=None),
      overwrite=True,
      coding=track.coding,
      reordered=track.target.suffix.lower() != '.avi',
    )

  def _pictures(
    self, grey: np.ndarray, rgb: np.ndarray, confidence: np.ndarray
  ) -> Iterator[np.ndarray]:
    """Yields what goes into each output."""
    yield rgb
    if self._options.compare is not None:
      yield np.concatenate([shallow(grey), shallow(rgb)], 1)
    if self._options.confidence is not None:
      height, width = self._size
      shade = cv2.resize(
        np.uint8(255 * np.clip(confidence[..., 0], 0, 1)),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
      )
      yield np.repeat(shade[..., None], 3, -1)

  def _finish(self) -> None:
    """Makes the outputs whole, each beside its place."""
    blocks = [
      block
      for shot in self._plan.shots
      for stretch in _stretches(shot)
      for block in _blocks(stretch)
    ]
    with contextlib.ExitStack() as undo:
      for index, track in enumerate(self._tracks):
        segments = [track.segment(self._part, block) for block in blocks]
        whole = video.partial_path(track.target)
        undo.callback(video.remove, whole)
        with video.explained('write', track.target):
          if track.kind == 'video':
            self._join(index, track, blocks, segments, whole)
          else:
            _gather(segments, whole)
          files.sync(whole)
      with video.explained('write', self._whole):
        settings = self._settings | self._outputs
        files.write(self._whole, json.dumps(settings, indent=2))
        files.sync(self._whole)
      undo.pop_all()

  def _move(self) -> None:
    """Puts outputs that are whole in their places, from wherever it stopped."""
    for track in self._tracks:
      if not (
        video.partial_path(track.target).exists() or track.target.exists()
      ):
        raise UserError(
          f'{self._whole} says that {track.target} is whole, but it is gone: remove '
          f'the former and {self._part} to begin anew'
        )
      with video.explained('write', track.target):
        video.move(video.partial_path(track.target), track.target)
    shutil.rmtree(self._part)
    self._whole.unlink()

  def _join(self, index, track, blocks, segments, path):
    facts = [self._facts(block) for block in blocks]
    form = self._format
    mux.join(
      [
        mux.Segment(segment, fact['pts'], fact['delay'][index])
        for segment, fact in zip(segments, facts, strict=True)
      ],
      form._replace(width=form.width * track.columns),
      self._path if self._source_kind == 'video' else None,
      path,
    )

  def _note(self, block: _Block, confidences: list[float]):
    self.confidences[block.start : block.stop] = confidences

  def _facts(self, block: _Block) -> dict[str, Any]:
    return json.loads(self._file(block, '.json').read_text())

  def _is_done(self, block: _Block) -> bool:
    return self._file(block, '.json').exists()

  def _file(self, block: _Block, suffix: str) -> Path:
    return self._part / f'{block.start:07d}{suffix}'

  def _backward_file(self, stretch: Stretch) -> Path:
    return self._part / f'{stretch.start:07d}.backwards.npy'


class _Worker:
  """Colours stretches on one device; a context manager."""

  def __init__(self, film: Film, colorizer: Any):
    self._film = film
    self._colorizer = colorizer
    # Stretches that follow one another often share references.
    self._picture = functools.lru_cache(_PICTURES)(self._read_picture)

  def __enter__(self):
    path, deep = self._film._path, self._film._options.coding.deep
    self._source = _Source(path, deep)
    self._ahead = _Source(path)  # Reads what colours come back through.
    return self

  def __exit__(self, *_):
    self._source.close()
    self._ahead.close()

  def color(self, stretch: Stretch) -> Iterator[Step]:
    """Colours the blocks of a stretch that are not done."""
    blocks = list(_blocks(stretch))
    done = list(itertools.takewhile(self._film._is_done, blocks))
    todo = blocks[len(done) :]
    for block in done:
      self._film._note(block, self._film._facts(block)['confidence'])
    if not todo:
      self._film._count(_steps(stretch))
      return
    kept = None
    if stretch.after is not None:
      yield from self._color_backwards(stretch)
      kept = np.load(self._film._backward_file(stretch), mmap_mode='r')
    if stretch.before is not None or kept is None:
      self._set_references(stretch.before, stretch.others)
      if done:
        self._colorizer.resume(
          np.load(self._film._file(done[-1], '.npy')), self._film._size
        )
    self._film._count(todo[0].start - stretch.start)
    frames = self._source.frames(todo[0].start, stretch.stop)
    for block in todo:
      yield from self._color_block(block, stretch, frames, kept)
      for earlier in done[-1:]:  # Only the last one's state is gone on from.
        self._film._file(earlier, '.npy').unlink(missing_ok=True)
      done.append(block)
    self._film._backward_file(stretch).unlink(missing_ok=True)

  def _set_references(self, bound: Choice | None, others: Sequence[Choice]):
    choices = others if bound is None else (bound, *others)
    pictures = map(self._picture, choices)
    self._colorizer.set_reference(*pictures, first_frame=bound is not None)

  def _color_backwards(self, stretch: Stretch) -> Iterator[Step]:
    """Keeps the colours that come back from the reference behind a stretch."""
    path = self._film._backward_file(stretch)
    if path.exists():  # Of an earlier run.
      self._film._count(stretch.stop - stretch.start + 1)
      return
    height, width = sizes.within(
      self._film._size, tuple(self._colorizer.config.use.size)
    )
    count = stretch.stop - stretch.start
    # Decoding goes forwards only.
    small_path = path.with_suffix('.small')
    small = _on_disk(small_path, np.uint8, (count + 1, height, width, 3))
    for i, frame in enumerate(
      self._ahead.frames(stretch.start, stretch.stop + 1)
    ):
      small[i] = cv2.resize(
        frame.rgb, (width, height), interpolation=cv2.INTER_AREA
      )
    partial = path.with_suffix('.partial')
    kept = _on_disk(partial, np.float16, (count, height, width, 3))
    self._set_references(stretch.after, stretch.others)
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
    partial.rename(path)
    small_path.unlink()

  def _color_block(self, block, stretch, frames, kept):
    waiting = collections.deque()
    stamps, confidences = [], []

    def grey():
      for frame in itertools.islice(frames, block.stop - block.start):
        waiting.append(frame)
        yield frame.rgb

    carried = stretch.before is not None or kept is None
    predictions = (self._colorizer.predict if carried else _without)(grey())
    if kept is not None:
      predictions = _mixed(predictions, stretch, block.start, kept)
    with contextlib.ExitStack() as stack:
      writers = [
        stack.enter_context(self._film._writer(track, block))
        for track in self._film._tracks
      ]
      for rgb, confidence in self._joined(predictions):
        frame = waiting.popleft()
        number = block.start + len(stamps)
        # Files of a folder keep their names.
        named = video.Frame(rgb, None, frame.name or f'{number:06d}')
        pictures = self._film._pictures(frame.rgb, rgb, confidence)
        for writer, picture in zip(writers, pictures, strict=True):
          writer.write(named._replace(rgb=picture))
        mean = float(confidence.mean())
        stamps.append(frame.pts)
        confidences.append(round(mean, 4))
        yield Step(self._film._count(1), number, frame.rgb, rgb, mean)
      if len(stamps) < block.stop - block.start:
        raise UserError(
          f'the video ends at frame {block.start + len(stamps)}, but its plan '
          f'has {self._film._plan.frames}: make another plan'
        )
    facts = {'pts': stamps, 'confidence': confidences, 'delay': []}
    for track in self._film._tracks:
      segment = track.segment(self._film._part, block)
      files.sync(segment)
      is_video = track.kind == 'video'
      facts['delay'].append(mux.delay(segment) if is_video else 0)
    if carried and block.stop < stretch.stop:
      with open(self._film._file(block, '.npy'), 'wb') as file:
        np.save(file, self._colorizer.state)
      files.sync(self._film._file(block, '.npy'))
    files.write(self._film._file(block, '.json'), json.dumps(facts))
    files.sync(self._film._file(block, '.json'))
    self._film._note(block, confidences)

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

  def _read_picture(self, choice: Choice) -> np.ndarray:
    """Reads a reference, no larger than the networks see it."""
    if choice.picture == FIRST_FRAME:
      with video.VideoReader(self._film._path) as reader:
        rgb = next(reader).rgb
    else:
      rgb = video.read_image(choice.picture)
    if choice.frame is not None:
      rgb = self._fitted(rgb, choice)
    height, width = sizes.within(rgb.shape[:2], self._colorizer.bound)
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)

  def _fitted(self, rgb: np.ndarray, choice: Choice) -> np.ndarray:
    """Brings a picture that is a frame to the size of frames."""
    height, width = self._film._size
    aspect = rgb.shape[1] / rgb.shape[0] * height / width
    if abs(aspect - 1) > _ASPECT:
      raise UserError(
        f'{choice.picture} is to be frame {choice.frame} but has '
        f'{rgb.shape[1]}x{rgb.shape[0]} pixels, another shape than the '
        f"video's {width}x{height}: crop it, or do not bind it to a frame"
      )
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def _gather(segments: Sequence[Path], whole: Path) -> None:
  """Gives pictures that lie in folders, or one, a second place in `whole`."""
  video.remove(whole)  # Of a run that was killed.
  if not segments[0].is_dir():
    _link(segments[0], whole)
    return
  whole.mkdir()
  for path in itertools.chain.from_iterable(x.iterdir() for x in segments):
    _link(path, whole / path.name)


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

  def __init__(self, path: Path, deep: bool = False):
    self._path, self._deep = path, deep
    self._reader = video.VideoReader(path, deep)
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
    elif start < self._position:
      self._reader.close()
      self._reader = video.VideoReader(self._path, self._deep)
      self._position = 0
    self._reader.skip(start - self._position)
    self._position = start
    for frame in itertools.islice(self._reader, stop - start):
      self._last = frame
      self._position += 1
      yield frame

  def close(self) -> None:
    self._reader.close()


def _described(plan: Plan) -> dict[str, str]:
  """A plan as settings, a line for each shot."""
  digests = {FIRST_FRAME: ''}

  def named(choice):
    if choice.picture not in digests:
      with video.explained('read', choice.picture):
        content = Path(choice.picture).read_bytes()
      digests[choice.picture] = ' ' + hashlib.sha256(content).hexdigest()[:8]
    frame = '' if choice.frame is None else f' at {choice.frame}'
    return Path(choice.picture).name + digests[choice.picture] + frame

  return {
    f'shot {number}': f'{shot.start}-{shot.stop - 1}: '
    + ', '.join(map(named, shot.references))
    for number, shot in enumerate(plan.shots, 1)
  }


def _bytes(path: Path) -> int:
  paths: Iterable[Path] = video.image_files(path) if path.is_dir() else [path]
  return sum(path.stat().st_size for path in paths)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
  """Keeps a second run out of a folder."""
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  except BlockingIOError as error:
    raise UserError(
      f'{folder} is at work in another run: wait, or name another output'
    ) from error
  finally:
    os.close(handle)
