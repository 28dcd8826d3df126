"""Colorizes a film according to its plan, block by block, and can resume.

`Film.run` is a generator that yields each frame; close it to stop. A folder next to
the output OUTPUT exists until the film is complete:

  OUTPUT.part/
    settings.json    settings of the output; other settings are an error
    output/0000240.mkv    the coded frames of the block that begins with frame 240
    0000240.npy      the state with which the next block starts
    0000240.json     time stamps, confidences, and checksums of the other files;
                     written last; see `journal`

The same command colorizes the blocks that are missing, damaged, or computed from
other inputs. The output is the same, byte for byte: a block does not depend on
whether the run was stopped before it, and each block is encoded separately. When
all outputs are complete, next to their final places, the file .OUTPUT.whole is
written; after that they only have to be moved.

The state is reset at each shot. See `stretches` for the parts of a shot and `worker`
for how they are colorized.
"""

import concurrent.futures
import contextlib
import heapq
import itertools
import queue
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import vitexco_jax
from vitexco_jax import files, sizes
from vitexco_jax.config import flatten
from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal
from vitexco_jax.inference.film_settings import (
  SOURCE,
  as_flags,
  check_same,
  describe_shots,
  hash_pictures,
  hash_source,
)
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
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.inference.worker import Job, Progress, Step, Worker
from vitexco_jax.media import mux, sandbox, video

_BLOCK = 240  # Frames; less than the distance of key frames in x264.


def count_steps(plan: Plan) -> int:
  """Returns the number of steps: frames, some of them twice."""
  return sum(
    stretch.steps for shot in plan.shots for stretch in stretches(shot)
  )


def scratch_bytes(
  plan: Plan, working_size: tuple[int, int], workers: int
) -> int:
  """Estimates the disk space of colors that are propagated backwards."""
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
  """Colorizes one film.

  Attributes:
    left_out: descriptions of what is missing from an output: streams that its
      container does not support, frames that are not in the plan.
  """

  def __init__(
    self,
    colorizers: Sequence[VideoColorizer],
    video_path: Path,
    plan: Plan,
    output: Path,
    overwrite: bool = False,
    options: Options = _DEFAULT_OPTIONS,
    opener: sandbox.Direct | sandbox.Sandbox = sandbox.DIRECT,
  ):
    """Checks inputs and outputs; writes nothing.

    Args:
      colorizers: of the same weights, one for each device. Shots are
        distributed over them.
      video_path: a video, a folder of frames, or an image.
      plan: of the video.
      output: a video, a folder, or an image. Sound and other streams are
        copied from video to video.
      overwrite: whether to replace an output that exists.
      options: of the output.
      opener: opens the video, perhaps in another process.

    Raises:
      UserError: an input cannot be used, or the output exists.
    """
    pictures = {x.picture for y in plan.shots for x in y.references}
    read = [Path(x) for x in pictures if x not in (FIRST_FRAME, NONE)]
    check(video_path, output, overwrite, options, read)
    self._plan, self._overwrite = plan, overwrite
    self._use = colorizers[0].config.use
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

  def _identify(self, colorizer: VideoColorizer) -> None:
    """Sets the settings on which the output depends."""
    options = self._job.options
    self._pictures_sha256 = hash_pictures(self._plan)
    used = {name: colorizer.config[name] for name in ('model', 'use')}
    self._settings = {
      'vitexco': vitexco_jax.__version__,
      SOURCE: hash_source(self._job.path),
      'weights': colorizer.fingerprint,
      **as_flags('config.', flatten(used).items()),
      **as_flags('', options.items()),
      '--frame-rate': str(self._job.format.frame_rate),
    }
    self._sound = {'--audio': options.audio}
    self._identity = {
      '--video': self._job.path.name,
      **self._settings,
      **describe_shots(self._plan, self._pictures_sha256),
    }

  @property
  def confidences(self) -> np.ndarray:
    """[frames], mean confidence of each frame; NaN: not colorized yet."""
    return self._job.progress.confidences

  def run(self) -> Iterator[Step]:
    """Colorizes the film, or resumes an earlier run. Call it once.

    Yields:
      Steps that no earlier run has completed.

    Raises:
      UserError: an earlier run had other settings, the video cannot be read, or
        the output cannot be written.
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
    """Yields the steps of parallel workers; if one fails, all stop."""
    waiting = iter(self._tasks)  # An idle worker takes the next one.
    # Workers wait for the consumer.
    steps = queue.Queue(len(self._workers))
    stopped = threading.Event()

    def work(worker):
      with worker:
        for task in itertools.chain.from_iterable(waiting):
          with contextlib.closing(worker.color(task)) as worker_steps:
            for step in worker_steps:
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
              future.result()  # Raises the exception of the worker.
          if all(future.done() for future in futures) and steps.empty():
            return
      finally:
        stopped.set()
        while not all(future.done() for future in futures):
          with contextlib.suppress(queue.Empty):
            steps.get(timeout=0.1)

  def doubts(self) -> Iterator[str]:
    """Yields warnings of time ranges that need another reference."""
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
    """Yields (start, stop) of frames that need another reference.

    Their confidence is low for several frames.
    """
    low = self.confidences < self._use.unsure_confidence
    for shot in self._plan.shots:
      if shot.by_prior:
        low[shot.start : shot.stop] = False
    edges = np.flatnonzero(np.diff(low, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
      if stop - start >= self._use.unsure_frames:
        yield start, stop

  def _check_settings(self) -> None:
    """Compares the settings with those of an earlier run."""
    place = self._journal.folder
    path = place / 'settings.json'
    try:
      begun = journal.read_record(path)
    except journal.DamagedError as error:
      journal.warn(f'{error}: only what fits to the settings of now is kept')
      begun = None
    if begun is not None and begun[SOURCE] == self._identity[SOURCE]:
      check_same(place, begun, self._identity)
      return
    if begun is not None:
      if begun['--video'] != self._identity['--video']:
        check_same(place, begun, self._identity)
      journal.warn(
        f'{place} was begun with another content of {self._job.path}: it is '
        'colored from the start'
      )
    journal.write_record(path, self._identity)

  def _is_whole(self) -> bool:
    """Whether an earlier run has completed all outputs."""
    try:
      record = journal.read_record(self._whole)
      if record is None:
        return False
      outputs = absolute(track.target for track in self._job.tracks)
      check_same(
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
    # Some of them may already have been moved.
    check_free(self._job.tracks[0].target, self._overwrite, self._job.options)
    return False

  def _examine(self) -> None:
    """Finds the blocks that an earlier run has completed."""
    damaged = {}
    for task in self._all_tasks():
      wanted = False  # Whether the next block needs the state.
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
    """Assembles each output next to its final place."""
    blocks = [block for task in self._all_tasks() for block in task.blocks]
    with contextlib.ExitStack() as undo:
      measured = {}
      for index, track in enumerate(self._job.tracks):
        whole = video.partial_path(track.target)
        undo.callback(video.remove, whole)
        with video.explained('write', track.target):
          video.remove(whole)  # From a killed run.
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
    """Moves complete outputs to their final places."""
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
      # The output is about as large as its parts.
      file_bytes=2**24 + sum(part.stat().st_size for part in parts),
    )

  def _gather(self, track, blocks, path):
    """Links the images of all blocks into `path`."""
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


def _link(path: Path, place: Path) -> None:
  try:
    place.hardlink_to(path)
  except OSError:  # Another file system, or one without links.
    shutil.copyfile(path, place)
