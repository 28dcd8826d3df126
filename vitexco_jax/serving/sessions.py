"""What the page of `--mode=serve` does for its visitors, HTTP left out.

A `Session` is one person's folder, which no other user of the machine may open, and
what was made of the files in it. A `JobQueue` does the work of all sessions, one `Job`
at a time, in the order in which they came.

What visitors send has passed `uploads`.
"""

import asyncio
import concurrent.futures
import contextlib
import itertools
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.inference import film, plan
from vitexco_jax.media import mux, video
from vitexco_jax.media.sandbox import Sandbox
from vitexco_jax.serving import disk_quota, drawings, uploads

MAX_REFERENCES = 24
MAX_SHOTS = 5000  # Each is shown, and a long film has 3,000.

_PREVIEW = 960  # Width, in pixels.
_PREVIEW_SECONDS = 1.0
_STOP_SECONDS = 1.0  # That a job has to stop when the program ends.
_BY_PRIOR = (plan.Choice(plan.NONE),)
_RATE_SECONDS = 3.0  # Of work, before its rate is told.
_OUTPUTS = ('.mp4', '.mkv', '.mov')


class Preview(NamedTuple):
  """The newest frame, as JPEG."""

  number: int
  before: bytes
  after: bytes


class _Stopped(Exception):
  """The visitor wants no more of a job."""


class Job:
  """Work that waits, goes on, and can be stopped.

  Attributes:
    kind: 'shots' or 'colors'.
    state: 'waiting', 'running', 'stopped', 'failed' or 'done'.
    stopping: whether the work ends with its next step.
    future: of the queue, done when the work is over.
    done: steps.
    total: how many there will be; None: not known.
    message: what went wrong, a sentence.
    preview: of frames that were colored.
    sandbox: where the work opens what the visitor sent.
  """

  def __init__(self, kind: str, work: Callable[['Job'], None]):
    self.kind = kind
    self.state = 'waiting'
    self.stopping = False
    self.future: concurrent.futures.Future | None = None
    self.done, self.total = 0, None
    self.message = ''
    self.preview: Preview | None = None
    self.sandbox = Sandbox()
    self._work = work
    self._first = self._last = None  # Time and steps.

  @property
  def is_over(self) -> bool:
    return self.state in ('stopped', 'failed', 'done')

  def run(self) -> None:
    """Does the work; whatever goes wrong is told by `state` and `message`."""
    self.state = 'running'
    try:
      self._work(self)
      self.state = 'done'
    except _Stopped:
      self.state = 'stopped'
    except UserError as error:
      self.message = str(error)
      self.state = 'stopped' if self.stopping else 'failed'
    except Exception:  # The next one in the queue is not to suffer.
      traceback.print_exc()
      self.message = 'this failed for a reason that the terminal tells'
      self.state = 'failed'
    finally:
      self.sandbox.close()

  def stop(self) -> None:
    """Has the work end with its next step; what it made is removed."""
    self.stopping = True
    self.sandbox.close()  # A step may wait for it.
    if self.future.cancel():  # It was waiting.
      self.state = 'stopped'

  def advance(self, done: int, total: int | None) -> None:
    """Notes how far the work is; ends it if it is to stop."""
    if self.stopping:
      raise _Stopped
    self.done, self.total = done, total
    self._last = time.monotonic(), done
    self._first = self._first or self._last

  @property
  def rate(self) -> float | None:
    """Steps a second, once that can be told: they come in blocks."""
    if not self._first:
      return None
    seconds, steps = np.subtract(self._last, self._first)
    return float(steps / seconds) if seconds >= _RATE_SECONDS else None


class JobQueue:
  """Does jobs, one after the other, in a thread; a context manager.

  In the end jobs are stopped, and hardly waited for; `is_busy` tells of one that
  is still at work.
  """

  def __init__(self):
    self._pool = concurrent.futures.ThreadPoolExecutor(1, 'queue')
    self._jobs = []  # That are not over, in their order.

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for job in self._jobs:
      job.stop()
    # A network that computes or compiles cannot be stopped.
    concurrent.futures.wait([job.future for job in self._jobs], _STOP_SECONDS)
    self._pool.shutdown(wait=False)

  @property
  def is_busy(self) -> bool:
    return any(not job.future.done() for job in self._jobs)

  def take(self, job: Job) -> None:
    """Queues a job."""
    self._jobs = [job for job in self._jobs if not job.is_over] + [job]
    job.future = self._pool.submit(job.run)

  def ahead(self, job: Job) -> int:
    """How many jobs come before one."""
    before = itertools.takewhile(lambda other: other is not job, self._jobs)
    return sum(not other.is_over for other in before)


class Reference(NamedTuple):
  """A picture in color that a visitor gave."""

  name: str  # To show.
  choice: plan.Choice  # Of the picture that is kept.
  thumbnail: bytes  # JPEG.


class Session:
  """What one visitor has here.

  Its methods are for one thread; the queue's changes it only while `is_busy`, when
  no method but `stop` and `leave` does.

  Attributes:
    client: where its page is, see `connections.client`.
    seen: when its page last asked for something, by `time.monotonic`.
    video_name: to show; empty: there is no video.
    upload: held while a file comes in.
    references: by their numbers.
    survey: of the video; None: not made yet.
    scored: for each shot all references, compared with it.
    plan: what colors are made by; None until shots are found with the references
      as they are.
    warnings: sentences on what was made.
    result: the colored video, once it is whole.
    job: the newest.
  """

  def __init__(
    self,
    folder: Path,
    client: str = '',
    quota: disk_quota.DiskQuota | None = None,
  ):
    """Makes the folder, which must not be there.

    Args:
      folder: for the session's files.
      client: see the attribute.
      quota: of a folder above; None: without a limit.
    """
    folder.mkdir(mode=0o700)
    self.folder, self.client = folder, client
    self._quota = quota or disk_quota.DiskQuota(folder)
    self.seen = time.monotonic()
    self.video_name = ''
    self.upload = asyncio.Lock()
    self.references: dict[int, Reference] = {}
    self.survey: plan.Survey | None = None
    self.scored: list[list[plan.Choice]] = []
    self.plan: plan.Plan | None = None
    self.warnings: list[str] = []
    self.result: Path | None = None
    self.job: Job | None = None
    self._numbers = itertools.count(1)

  @property
  def video(self) -> Path:
    return self.folder / 'video'

  @property
  def is_busy(self) -> bool:
    return self.job is not None and not self.job.is_over

  @property
  def is_empty(self) -> bool:
    return not (self.video_name or self.references)

  def new_path(self) -> Path:
    """Where a file may grow that comes in."""
    return self.folder / f'incoming-{next(self._numbers)}'

  def set_video(self, path: Path, name: str) -> None:
    """Takes a video in the place of an earlier one, with all made of that.

    Args:
      path: of `new_path`, after `uploads.check_video`; the file is moved.
      name: what the visitor calls it.

    Raises:
      UserError: a job is not over.
    """
    self._check_idle()
    path.replace(self.video)
    self.video_name, self.survey = uploads.shown(name), None
    self._forget_plan()

  def add_reference(self, drawing: drawings.Drawing, name: str) -> None:
    """Takes a picture to choose from.

    Args:
      drawing: of `uploads.redraw`.
      name: what the visitor calls it; ref_00123.png is frame 123 of the video.

    Raises:
      UserError: a job is not over, or there are enough.
    """
    self._check_idle()
    if len(self.references) == MAX_REFERENCES:
      raise UserError(f'{MAX_REFERENCES} references are all that fit here')
    self._quota.check(len(drawing.png))
    name, number = uploads.shown(name), next(self._numbers)
    path = self.folder / f'reference-{number}.png'
    with video.explained('keep', name):
      path.write_bytes(drawing.png)
    choice = plan.Choice(str(path), frame=plan.named_frame(Path(name).stem))
    self.references[number] = Reference(name, choice, drawing.thumbnail)
    self._forget_plan()

  def remove_reference(self, number: int) -> None:
    """Removes a picture; UserError if there is none of that number."""
    self._check_idle()
    if number not in self.references:
      raise UserError(f'there is no reference {number}')
    Path(self.references.pop(number).choice.picture).unlink()
    self._forget_plan()

  def find_shots(
    self,
    queue: JobQueue,
    embed: Callable[[Sequence[np.ndarray]], np.ndarray],
    prior: bool = False,
  ) -> None:
    """Queues the making of a plan: shots, and the references they take.

    Args:
      queue: where it is queued.
      embed: a `retrieval.Embedder`.
      prior: whether shots can be colorized without a reference.

    Raises:
      UserError: there is no video or no reference yet.
    """
    self._check_idle()
    if not self.video_name or not (self.references or prior):
      raise UserError(
        'a video comes first' if prior else 'a video and a reference come first'
      )
    self._forget_plan()
    self._start(queue, Job('shots', lambda job: self._find_shots(job, embed)))

  def _find_shots(self, job, embed):
    def progress(count, total, shots):
      for found, bound, things in (
        (count, uploads.MAX_FRAMES, 'frames'),
        (shots, MAX_SHOTS, 'shots'),
      ):
        if found > bound:
          raise UserError(
            f'{self.video_name} has more than {bound} {things}: cut it in parts'
          )
      job.advance(count, total)

    with self.named():
      if self.survey is None:
        self.survey = plan.survey(self.video, embed, progress, job.sandbox)
      choices = [x.choice for x in self.references.values()]
      scored = [[] for _ in self.survey.plan.shots]
      if choices:
        scored = plan.scores(self.survey, choices, embed)
    self.warnings = self._damage()
    made = self.survey.plan
    self.scored = scored
    self.plan = made._replace(
      shots=tuple(
        shot._replace(references=plan.chosen(choices) if choices else _BY_PRIOR)
        for shot, choices in zip(made.shots, scored, strict=True)
      )
    )

  def choose(
    self, shot: int, numbers: Sequence[int], prior: bool = False
  ) -> None:
    """Gives a shot other references.

    Args:
      shot: from 0.
      numbers: of references, one at least unless `prior`.
      prior: whether the shot can be colorized without a reference.

    Raises:
      UserError: there is no such shot or reference.
    """
    self._check_idle()
    if self.plan is None or not 0 <= shot < len(self.plan.shots):
      raise UserError(f'there is no shot {shot + 1}')
    if not (numbers or prior) or not set(numbers) <= set(self.references):
      raise UserError(f'shot {shot + 1} needs one of the references here')
    compared = dict(zip(self.references, self.scored[shot], strict=True))
    shots = list(self.plan.shots)
    references = tuple(compared[number] for number in sorted(set(numbers)))
    references = references or _BY_PRIOR
    shots[shot] = shots[shot]._replace(references=references)
    self.plan = self.plan._replace(shots=tuple(shots))

  def color(self, queue: JobQueue, colorizer: Any) -> None:
    """Queues the coloring by the plan.

    Args:
      queue: where it is queued.
      colorizer: a `colorize.VideoColorizer`.

    Raises:
      UserError: there is no plan yet, or it cannot be carried out.
    """
    self._check_idle()
    if self.plan is None:
      raise UserError('the shots come first')
    with self.named():
      plan.check(self.video_name, self.plan)
    self._forget_result()
    self._start(queue, Job('colors', lambda job: self._color(job, colorizer)))

  def _color(self, job, colorizer):
    devices = jax.local_devices()[: len(self.plan.shots)]
    colorizers = [colorizer.on(device) for device in devices]
    output = self._output(job.sandbox)
    total = film.count_steps(self.plan)
    due = 0.0
    try:
      with self.named({output: 'the result'}):
        work = film.Film(
          colorizers,
          self.video,
          self.plan,
          output,
          # Browsers show interlaced video as it is, with combs.
          options=film.Options(deinterlace=self.survey.interlaced > 0),
          opener=job.sandbox,
        )
        self.warnings = [
          *self._damage(),
          *self._fields(),
          *(f'left out of {missing}' for missing in work.left_out),
        ]
        size = tuple(colorizer.config.use.size)
        self._quota.check(film.scratch_bytes(self.plan, size, len(devices)))
        with contextlib.closing(work.run()) as steps:
          for step in steps:
            job.advance(step.done, total)
            last = step.done == total
            # In the end the parts are copied into one file.
            self._quota.check(last and disk_quota.size(self.folder))
            if step.rgb is not None and (last or time.monotonic() >= due):
              due = time.monotonic() + _PREVIEW_SECONDS
              job.preview = Preview(
                step.number,
                *map(_preview, (step.grey, step.rgb)),
              )
    finally:
      shutil.rmtree(film.part_folder(output), ignore_errors=True)
      # Each size of video has programs compiled, 100 MB that would stay.
      jax.clear_caches()
    self.warnings += work.doubts()
    self.result = output

  def _fields(self) -> list[str]:
    if not self.survey.interlaced:
      return []
    return [f'{self.video_name} is interlaced; the result is progressive']

  def _damage(self) -> list[str]:
    broken = self.survey.damaged
    return [plan.damage(self.video_name, self.survey)] if broken else []

  def _output(self, sandbox: Sandbox) -> Path:
    """MP4, which browsers play, or else the next that the sound fits into."""
    for suffix in _OUTPUTS:
      output = self.folder / f'colored{suffix}'
      with contextlib.suppress(UserError):
        sandbox.call(mux.left_out, self.video, output, about=self.video)
        return output
    raise UserError(
      f'the sound of {self.video_name} fits into none of {" ".join(_OUTPUTS)}: '
      'give the video with its sound as AAC'
    )

  @property
  def result_name(self) -> str:
    """What to call the result."""
    return f'{Path(self.video_name).stem}_color{self.result.suffix}'

  def number_of(self, choice: plan.Choice) -> int:
    """Of the reference that a choice of the plan is."""
    return next(
      number
      for number, reference in self.references.items()
      if reference.choice.picture == choice.picture
    )

  def thumbnail(self, shot: int) -> bytes:
    """A frame of a shot, JPEG."""
    return self.survey.thumbnails[shot]

  def stop(self) -> None:
    """Stops the job, if there is one."""
    if self.is_busy:
      self.job.stop()

  def leave(self) -> None:
    """Stops what goes on, and removes the folder, at the latest behind it."""
    if not self.is_busy:
      shutil.rmtree(self.folder, ignore_errors=True)
      return
    self.job.future.add_done_callback(
      lambda _: shutil.rmtree(self.folder, ignore_errors=True)
    )
    self.job.stop()

  def _start(self, queue, job):
    self.job = job
    queue.take(job)

  def _check_idle(self):
    if self.is_busy:
      raise UserError('stop what is going on first')

  def _forget_plan(self):
    self.scored, self.plan = [], None
    self._forget_result()

  def _forget_result(self):
    self.job = None
    self.warnings = []
    if self.result:
      self.result.unlink()
      self.result = None

  @contextlib.contextmanager
  def named(self, names: dict[Path, str] | None = None) -> Iterator[None]:
    """Has errors call files as the visitor does, and no folder."""
    names = {str(path): name for path, name in (names or {}).items()}
    names[str(self.video)] = self.video_name
    for reference in self.references.values():
      names[reference.choice.picture] = reference.name
    try:
      yield
    except UserError as error:
      text = str(error)
      for path, name in names.items():
        text = text.replace(path, name)
      raise UserError(text.replace(str(self.folder), '')) from error


def _preview(rgb: np.ndarray) -> bytes:
  return video.encode_image('.jpg', drawings.shrunk(rgb, _PREVIEW))
