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
other inputs. A finished film may keep its segments in OUTPUT.work, from which the next
run takes all blocks whose inputs have not changed. The output is the same, byte for
byte: each block is encoded separately. When all outputs are complete, next to their
final places, the file .OUTPUT.whole is written; then they only have to be moved.

The state is reset at each shot. See `stretches` for the parts of a shot and `worker`
for how they are colorized.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from vitexco_jax.config import flatten
from vitexco_jax.errors import UserError
from vitexco_jax.inference import (
  assembly,
  cluster,
  completed,
  doubts,
  journal,
  kept_work,
  parallel,
  schedule,
)
from vitexco_jax.inference.film_job import Job, Progress, Step
from vitexco_jax.inference.film_settings import (
  SOURCE,
  check_same,
  describe_shots,
  hash_pictures,
  hash_source,
  name_settings,
  program_version,
  without_shots,
)
from vitexco_jax.inference.outputs import (
  Options,
  Track,
  absolute,
  check,
  check_free,
  left_out,
  list_tracks,
  part_folder,
  whole_file,
  work_folder,
)
from vitexco_jax.inference.shot_plan import FIRST_FRAME, NONE, Plan, clock
from vitexco_jax.inference.stretches import Block
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.inference.worker import Worker
from vitexco_jax.media import sandbox, video

_DEFAULT_OPTIONS = Options()
_ADOPTED = 'from a finished film'  # Name of a setting.
_logger = logging.getLogger(__name__)


def _check_plan(
  plan: Plan,
  video_path: Path,
  form: video.Format,
  tracks: Sequence[Track],
  count: int,
) -> None:
  """Raises UserError if a plan does not fit the video or an output."""
  if (plan.height, plan.width) != (form.height, form.width):
    raise UserError(
      f'the plan is of a video of {plan.width}x{plan.height} pixels, but '
      f'{video_path} has {form.width}x{form.height}: make another plan'
    )
  for track in tracks:
    track.coding.check_format(track.target, form)
    if track.kind == 'image' and count > 1:
      raise UserError(
        f'{track.target} is one image but {video_path} has {count} '
        'frames: name a video or a folder'
      )


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
    keep_work: bool | None = False,
    frames: range | None = None,
    workers: cluster.Workers | None = None,
  ):
    """Checks inputs and outputs; writes nothing.

    Args:
      colorizers: of the same weights, one for each device. Stretches
        are distributed over them.
      video_path: a video, a folder of frames, or an image.
      plan: of the video.
      output: a video, a folder, or an image. Sound and other streams are
        copied from video to video.
      overwrite: whether to replace an output that exists.
      options: of the output.
      opener: opens the video, perhaps in another process.
      keep_work: whether a finished film keeps its segments, so that later
        changes recolor only what they touch; None: if there is room for them.
      frames: those of the output; None: all. Then no segments are kept or used.
      workers: those of a cluster, which color instead of `colorizers`. All paths
        must be absolute.

    Raises:
      UserError: an input cannot be used, or the output exists.
    """
    pictures = {x.picture for y in plan.shots for x in y.references}
    read = [Path(x) for x in pictures if x not in (FIRST_FRAME, NONE)]
    check(video_path, output, overwrite, options, read)
    self._plan, self._overwrite = plan, overwrite
    self._frames = range(plan.frames) if frames is None else frames
    self._keep_work = keep_work if frames is None else False
    self._work = None if frames is not None else work_folder(output)
    self._use = colorizers[0].config.use
    self._cluster = workers
    tracks = list_tracks(output, options)
    if any(shot.by_prior for shot in plan.shots):
      colorizers[0].check_prior()
    with opener.open(video_path, deinterlace=options.deinterlace) as reader:
      form = reader.format
    if reader.kind == 'folder':
      form = form.at(plan.frame_rate)
    _check_plan(plan, video_path, form, tracks, len(self._frames))
    self.left_out = left_out(reader, video_path, output, options, opener)
    self._journal = journal.Journal(
      part_folder(output), [track.name for track in tracks]
    )
    self._whole = whole_file(output)
    self._job = Job(
      video_path,
      opener,
      reader.kind,
      form,
      plan.frames,
      options,
      tracks,
      self._journal,
      Progress(plan.frames),
    )
    self._workers = [Worker(self._job, colorizer) for colorizer in colorizers]
    self._identify(colorizers[0])
    self._tasks = schedule.make_tasks(
      plan, self._settings, self._pictures_sha256, self._frames
    )

  def _identify(self, colorizer: VideoColorizer) -> None:
    """Sets the settings on which the output depends."""
    options = self._job.options
    self._pictures_sha256 = hash_pictures(self._plan)
    used = {name: colorizer.config[name] for name in ('model', 'use')}
    self._settings = {
      'vitexco': program_version(),
      SOURCE: hash_source(self._job.path),
      'weights': colorizer.fingerprint,
      **name_settings('config.', flatten(used).items()),
      **name_settings('', options.items()),
      'frame_rate': str(self._job.format.frame_rate),
    }
    self._sound = {'audio': options.audio}
    self._identity = {
      'video': self._job.path.name,
      'frames': f'{self._frames.start}:{self._frames.stop}',
      **self._settings,
      **describe_shots(self._plan, self._pictures_sha256),
    }

  @property
  def steps(self) -> int:
    """Number of steps of the whole run."""
    return sum(task.steps for task in self._tasks)

  @property
  def confidences(self) -> np.ndarray:
    """[frames], mean confidence of each frame; NaN: not colorized yet."""
    return self._job.progress.confidences

  def run(self) -> Generator[Step, None, None]:
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
    with self._journal.opened(self._work) as adopted:
      if not self._is_whole():
        self._check_settings(adopted)
        completed.find(self._job, self._tasks)
        if adopted:
          kept_work.report(self.confidences)
        yield from self._color()
        self._finish()
      self._move()

  def _color(self) -> Iterator[Step]:
    if self._cluster is not None:
      cluster.color(self._cluster, self._job, self._tasks)
    elif len(self._workers) == 1:
      with self._workers[0] as worker:
        for task in self._tasks:
          yield from worker.color(task)
    else:
      yield from parallel.color(self._workers, self._tasks)

  def doubts(self) -> Iterator[str]:
    """Yields warnings of time ranges that need another reference."""
    facts, form = self._job.progress.facts, self._job.format
    stamps = {
      number: stamp
      for block, fact in facts.items()
      for number, stamp in enumerate(fact['pts'], block.start)
    }
    tick = form.time_base or 1 / form.frame_rate
    first_known = min(stamps, default=0)
    origin = stamps.get(first_known, 0) * tick - first_known / form.frame_rate
    for start, stop in self.unsure():
      first, last = (
        clock(stamps[number] * tick - origin) for number in (start, stop - 1)
      )
      yield (
        f'from {first} to {last} (frames {start} to {stop - 1}) the references '
        'do not match well: give one more, bound to a frame there, best to '
        f'frame {doubts.worst(start, stop, self.confidences)}'
      )

  def unsure(self) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of frames that need another reference."""
    return doubts.find(self._plan, self.confidences, self._use)

  def _check_settings(self, adopted: bool) -> None:
    """Compares the settings with those of an unfinished run.

    Shots may change, and in a run that started from a finished film everything:
    blocks with other keys are colorized again.
    """
    place = self._journal.folder
    path = place / cluster.SETTINGS
    try:
      earlier = journal.read_record(path)
    except journal.DamagedError as error:
      _logger.warning(
        '%s: only blocks with the present settings are used', error
      )
      earlier = None
    adopted = adopted or bool(earlier and earlier.get(_ADOPTED))
    if adopted:
      journal.write_record(path, self._identity | {_ADOPTED: True})
      return
    if earlier is not None and earlier[SOURCE] == self._identity[SOURCE]:
      check_same(place, *map(without_shots, (earlier, self._identity)))
      journal.write_record(path, self._identity)
      return
    if earlier is not None:
      if earlier.get('video') != self._identity['video']:
        check_same(place, earlier, self._identity)
      _logger.warning(
        '%s was begun with another content of %s: all frames are colorized '
        'again',
        place,
        self._job.path,
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
          checksums = record['outputs'][str(track.target.absolute())]
          journal.verify(partial, checksums)
        elif not track.target.exists():
          raise journal.DamagedError(f'{track.target} is gone')
      return True
    except journal.DamagedError as error:
      _logger.warning('%s: the outputs are assembled again', error)
    video.remove(self._whole)
    # Some of them may already have been moved.
    check_free(self._job.tracks[0].target, self._overwrite, self._job.options)
    return False

  def _finish(self) -> None:
    """Assembles the outputs and records that they are complete."""
    with (
      assembly.assemble(
        self._job, self._blocks(), self._work is None
      ) as checksums,
      video.explained('write', self._whole),
    ):
      journal.write_record(
        self._whole,
        {'settings': self._identity | self._sound, 'outputs': checksums},
      )

  def _move(self) -> None:
    """Moves complete outputs to their final places."""
    for track in self._job.tracks:
      with video.explained('write', track.target):
        video.move(video.partial_path(track.target), track.target)
    if self._job.kind == 'image':
      self._keep_work = bool(self._keep_work)  # It is colorized in a second.
    names = [
      name
      for block in self._blocks()
      for name in (
        f'{block.name}.json',
        *(track.segment(block) for track in self._job.tracks),
      )
    ]
    # A change of the next shot touches only a dissolve.
    names += [
      block.state
      for task in self._tasks
      for block in task.blocks
      if task.stretch.propagates_forwards
      and block.stop == task.stretch.dissolving.start < task.stretch.stop
    ]
    kept_work.keep(self._journal, self._work, self._keep_work, names)
    self._whole.unlink()

  def _blocks(self) -> list[Block]:
    """Returns the blocks of the output."""
    blocks = (block for task in self._tasks for block in task.blocks)
    return [block for block in blocks if block.shown]
