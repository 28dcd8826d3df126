"""A film is coloured by its plan, block by block, so that a stop loses nothing.

`Film.run` is a generator that gives each frame as it is coloured; to stop, drop it.
Next to the output OUTPUT it keeps a folder until the film is complete:

  OUTPUT.part/
    settings.json    what the result depends on; other settings are refused
    output/0000240.mkv    the coded frames of the block that begins with frame 240
    0000240.npy      what the next block starts from
    0000240.json     its time stamps and confidences, and checksums of the others;
                     here when all else is; see `journal`

The same command colors the blocks that are not there, that are damaged, or that
were made from something else, and the result is the same, byte for byte: blocks are
the same whether or not it was stopped between them, and encoding restarts in each.
When all outputs are complete, next to their places, a file .OUTPUT.whole says so; from
then on they only have to be moved.

Each shot resets the state. See `stretches` for its parts, `worker` for how each is
colored.
"""

import concurrent.futures
import contextlib
import heapq
import itertools
import queue
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vitexco_jax
from vitexco_jax import files, sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal
from vitexco_jax.inference.outputs import (
  Options,
  absolute,
  check,
  check_free,
  left_out,
  list_tracks,
  part_folder,
  whole_file,
)
from vitexco_jax.inference.shot_plan import FIRST_FRAME, NONE, Plan, clock
from vitexco_jax.inference.stretches import (
  Block,
  Stretch,
  Task,
  runs,
  stretches,
)
from vitexco_jax.inference.worker import Job, Progress, Step, Worker
from vitexco_jax.media import mux, sandbox, video

_BLOCK = 240  # Frames; below the distance of key frames that x264 chooses.
# Mean confidence below which a frame is not matched well. With weights/small, of 17
# clips that it was not trained on: with their own first frame 0.62 to 0.81, with a
# picture of something else 0.32 to 0.45; of three old films with stills that people
# chose 0.45 to 0.62.
_UNSURE = 0.47
_UNSURE_FRAMES = 12  # Frames of such, one after the other, to tell of.
_SOURCE = 'SHA-256 of the video'  # Its name among the settings.


def count_steps(plan: Plan) -> int:
  """How many steps colouring takes: frames, some of them twice."""
  return sum(
    stretch.steps for shot in plan.shots for stretch in stretches(shot)
  )


def scratch_bytes(
  plan: Plan, working_size: tuple[int, int], workers: int
) -> int:
  """About the bytes on the disk that colors carried backwards take at a time."""
  height, width = sizes.within((plan.height, plan.width), working_size)
  carried = (
    stretch.stop - stretch.start + 1
    for shot in plan.shots
    for stretch in stretches(shot)
    if stretch.after is not None
  )
  return 9 * height * width * sum(heapq.nlargest(workers, carried))


_DEFAULT_OPTIONS = Options()


class Film:
  """The colouring of one film.

  Attributes:
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
    read = [Path(x) for x in pictures if x not in (FIRST_FRAME, NONE)]
    check(video_path, output, overwrite, options, read)
    self._plan, self._overwrite = plan, overwrite
    if any(shot.by_prior for shot in plan.shots):
      colorizers[0].check_prior()
    with opener.open(video_path, deinterlace=options.deinterlace) as reader:
      form, self._source_kind = reader.format, reader.kind
    if self._source_kind == 'folder':
      form = form.at(plan.frame_rate)
    if (plan.height, plan.width) != (form.height, form.width):
      raise UserError(
        f'the plan is of a video of {plan.width}x{plan.height} pixels, but '
        f'{video_path} has {form.width}x{form.height}: make another plan'
      )
    self.left_out = left_out(reader, video_path, output, options, opener)
    tracks = list_tracks(output, options)
    for track in tracks:
      if track.kind == 'image' and plan.frames > 1:
        raise UserError(
          f'{track.target} is one image but {video_path} has {plan.frames} '
          'frames: name a video or a folder'
        )
    self._journal = journal.Journal(
      part_folder(output), [track.name for track in tracks]
    )
    self._whole = whole_file(output)
    self._job = Job(
      *(video_path, opener, form, plan.frames, options, tracks),
      *(self._journal, Progress(plan.frames)),
    )
    self._workers = [Worker(self._job, colorizer) for colorizer in colorizers]
    self._identify(colorizers[0])
    self._tasks = [[*map(self._task, stretches(x))] for x in plan.shots]

  def _identify(self, colorizer: Any) -> None:
    """Sets what the result depends on."""
    options = self._job.options
    self._pictures_sha256 = _pictures_sha256(self._plan)
    self._settings = {
      'vitexco': vitexco_jax.__version__,
      _SOURCE: _source_sha256(self._job.path),
      'weights': colorizer.fingerprint,
      **_as_flags('config.use.', colorizer.config.use.items()),
      **_as_flags('', options.items()),
      '--frame-rate': str(self._job.format.frame_rate),
    }
    self._sound = {'--audio': options.audio}
    self._identity = {
      '--video': self._job.path.name,
      **self._settings,
      **self._described_shots(),
    }

  @property
  def confidences(self) -> np.ndarray:
    """Mean of each frame's, [frames]; NaN where it is not coloured yet."""
    return self._job.progress.confidences

  def run(self) -> Iterator[Step]:
    """Colours the film, from where an earlier run was stopped; once.

    Yields:
      What was not done before.

    Raises:
      UserError: an earlier run was begun with other settings, the video cannot
        be read, or the output cannot be written.
    """
    for track in self._job.tracks:
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
    if len(self._workers) == 1:
      with self._workers[0] as worker:
        for task in self._all_tasks():
          yield from worker.color(task)
    else:
      yield from self._spread()

  def _spread(self) -> Iterator[Step]:
    """Yields what the workers do side by side; the rest ends where one fails."""
    waiting = iter(self._tasks)  # Who is free takes the next.
    # It is the slowest who sets the pace.
    steps = queue.Queue(len(self._workers))
    stopped = threading.Event()

    def work(worker):
      with worker:
        for task in itertools.chain.from_iterable(waiting):
          with contextlib.closing(worker.color(task)) as made:
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

  def doubts(self) -> Iterator[str]:
    """Yields sentences: where a further reference is wanted."""
    facts, form = self._job.progress.facts, self._job.format
    stamps = [x for block in sorted(facts) for x in facts[block]['pts']]
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
    for shot in self._plan.shots:
      if shot.by_prior:
        low[shot.start : shot.stop] = False
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
      journal.warn(f'{error}: only what fits to the settings of now is kept')
      begun = None
    if begun is not None and begun[_SOURCE] == self._identity[_SOURCE]:
      _check_same(place, begun, self._identity)
      return
    if begun is not None:
      if begun['--video'] != self._identity['--video']:
        _check_same(place, begun, self._identity)
      journal.warn(
        f'{place} was begun with another content of {self._job.path}: it is '
        'colored from the start'
      )
    journal.write_record(path, self._identity)

  def _is_whole(self) -> bool:
    """Whether an earlier run has completed all outputs, and they still are."""
    try:
      record = journal.read_record(self._whole)
      if record is None:
        return False
      outputs = absolute(track.target for track in self._job.tracks)
      _check_same(
        self._whole,
        record['settings'] | {'outputs': [*record['outputs']]},
        self._identity | self._sound | {'outputs': outputs},
      )
      for track in self._job.tracks:
        partial = video.partial_path(track.target)
        if partial.exists():
          measured = record['outputs'][str(track.target.absolute())]
          journal.verify(partial, measured)
        elif not track.target.exists():
          raise journal.DamagedError(f'{track.target} is gone')
      return True
    except journal.DamagedError as error:
      journal.warn(f'{error}: the outputs are put together again')
    video.remove(self._whole)
    # Some of them may be in their places already.
    check_free(self._job.tracks[0].target, self._overwrite, self._job.options)
    return False

  def _examine(self) -> None:
    """Finds the blocks that an earlier run has colored."""
    damaged = {}
    for task in self._all_tasks():
      wanted = False  # What the block after starts from.
      for block in reversed(task.blocks):
        names = [track.segment(block) for track in self._job.tracks]
        if wanted and task.stretch.carried:
          names.append(block.state)
        facts = None
        try:
          facts = self._journal.read(block.name, block.key, names)
        except journal.DamagedError as error:
          damaged[block] = error
        wanted = facts is None
        if facts is not None:
          self._job.progress.note(block, facts)
    for run in runs(sorted(damaged)):
      more = ', and so on' if len(run) > 1 else ''
      journal.warn(
        f'frames {run[0].start} to {run[-1].stop - 1} are colored again: '
        f'{damaged[run[0]]}{more}'
      )

  def _finish(self) -> None:
    """Makes the outputs whole, each beside its place."""
    blocks = [block for task in self._all_tasks() for block in task.blocks]
    with contextlib.ExitStack() as undo:
      measured = {}
      for index, track in enumerate(self._job.tracks):
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
    for track in self._job.tracks:
      with video.explained('write', track.target):
        video.move(video.partial_path(track.target), track.target)
    self._journal.remove()
    self._whole.unlink()

  def _join(self, index, track, blocks, path):
    facts = [self._job.progress.facts[block] for block in blocks]
    segments = [
      mux.Segment(
        self._journal.folder / track.segment(block),
        fact['pts'],
        fact['delay'][index],
        fact['end'],
      )
      for block, fact in zip(blocks, facts, strict=True)
    ]
    parts = [self._job.path, *(segment.path for segment in segments)]
    self._job.opener.call(
      mux.join,
      segments,
      track.format(self._job.format),
      self._job.path if self._source_kind == 'video' else None,
      path,
      self._job.options.sound,
      about=self._job.path,
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

  def _all_tasks(self) -> Iterator[Task]:
    return itertools.chain.from_iterable(self._tasks)

  def _task(self, stretch: Stretch) -> Task:
    bound = (
      x and self._pictures_sha256[x.picture]
      for x in (stretch.before, stretch.after)
    )
    others = [self._pictures_sha256[x.picture] for x in stretch.others]
    frames = stretch.start, stretch.stop
    key = journal.digest(
      [self._settings, frames, stretch.borders, *bound, others]
    )
    edges = [*range(stretch.start, stretch.stop, _BLOCK), stretch.stop]
    blocks = [
      Block(start, stop, journal.digest([key, start, stop]))
      for start, stop in itertools.pairwise(edges)
    ]
    return Task(stretch, blocks, key)

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


def _link(path: Path, place: Path) -> None:
  try:
    place.hardlink_to(path)
  except OSError:  # On another file system, or one that has no links.
    shutil.copyfile(path, place)


def _pictures_sha256(plan: Plan) -> dict[str, str]:
  """Hashes of the references' files, by their paths."""
  # The first frame is a part of the video, which has its own hash.
  hashes = {FIRST_FRAME: '', NONE: ''}
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
