"""Sessions of the page of `--mode=serve`, without HTTP.

A `Session` holds one user's folder, which no other user of the machine can open,
and the results computed from its files by `jobs`. Uploaded files must have passed
`uploads`.
"""

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from vitexco_jax.errors import UserError
from vitexco_jax.inference import film, plan, schedule
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video
from vitexco_jax.serving import disk_quota, drawings, uploads
from vitexco_jax.serving.jobs import Job, JobQueue, Preview

MAX_REFERENCES = 24
MAX_SHOTS = 5000  # All are shown; a long film has 3,000.

_PREVIEW_SECONDS = 1.0
_BY_PRIOR = (plan.Choice(plan.NONE),)


class Reference(NamedTuple):
  """An uploaded picture in color."""

  name: str  # To show.
  choice: plan.Choice  # Of the stored copy.
  thumbnail: bytes  # JPEG.


class Session:
  """The files, plan, and jobs of one user.

  Call its methods from one thread. The queue's thread changes the session only
  while `is_busy`; meanwhile no method but `stop` and `leave` changes it.

  Attributes:
    client: address of the user, see `connections.client`.
    seen: time of the last request of its page, by `time.monotonic`.
    video_name: to show; empty: there is no video.
    facts: of the video, if known.
    upload: locked while a file is uploaded.
    references: by their numbers.
    survey: of the video; None: not computed yet.
    scored: for each shot the scores of all references.
    plan: the references of each shot; None until the shots have been found with
      the current references.
    warnings: sentences about the plan or the result.
    result: the colored video, once it is complete.
    job: the newest job.
  """

  def __init__(
    self,
    folder: Path,
    client: str = '',
    quota: disk_quota.DiskQuota | None = None,
  ):
    """Creates the folder, which must not exist.

    Args:
      folder: for the session's files.
      client: see the attribute.
      quota: of a parent folder; None: without a limit.
    """
    folder.mkdir(mode=0o700)
    self.folder, self.client = folder, client
    self._quota = quota or disk_quota.DiskQuota(folder)
    self.seen = time.monotonic()
    self.video_name = ''
    self.facts: uploads.Facts | None = None
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
    """Path of the video."""
    return self.folder / 'video'

  @property
  def is_busy(self) -> bool:
    """Whether a job is queued or running."""
    return self.job is not None and not self.job.is_over

  @property
  def is_empty(self) -> bool:
    """Whether nothing has been uploaded."""
    return not (self.video_name or self.references)

  def new_path(self) -> Path:
    """Returns a new path for an upload."""
    return self.folder / f'incoming-{next(self._numbers)}'

  def set_video(
    self, path: Path, name: str, facts: uploads.Facts | None = None
  ) -> None:
    """Sets the video; drops an earlier video and its results.

    Args:
      path: of `new_path`, after `uploads.check_video`; the file is moved.
      name: the user's name of the file.
      facts: of `uploads.check_video`, to show.

    Raises:
      UserError: a job is not over.
    """
    self._check_idle()
    path.replace(self.video)
    self.video_name, self.facts = uploads.shown(name), facts
    self.survey = None
    self._forget_plan()

  def add_reference(self, drawing: drawings.Drawing, name: str) -> None:
    """Adds a reference.

    Args:
      drawing: of `uploads.redraw`.
      name: the user's name of the file; ref_00123.png is frame 123 of the video.

    Raises:
      UserError: a job is not over, or there are too many references.
    """
    self._check_idle()
    if len(self.references) == MAX_REFERENCES:
      raise UserError(f'at most {MAX_REFERENCES} references are allowed')
    self._quota.check(len(drawing.png))
    name, number = uploads.shown(name), next(self._numbers)
    path = self.folder / f'reference-{number}.png'
    with video.explained('keep', name):
      path.write_bytes(drawing.png)
    choice = plan.Choice(str(path), frame=plan.named_frame(Path(name).stem))
    self.references[number] = Reference(name, choice, drawing.thumbnail)
    self._forget_plan()

  def remove_reference(self, number: int) -> None:
    """Removes a reference; UserError if the number does not exist."""
    self._check_idle()
    if number not in self.references:
      raise UserError(f'there is no reference {number}')
    Path(self.references.pop(number).choice.picture).unlink()
    self._forget_plan()

  def find_shots(
    self, queue: JobQueue, embed: plan.Embed, colorizer: VideoColorizer
  ) -> None:
    """Queues a job that finds the shots and chooses their references.

    Args:
      queue: runs the job.
      embed: a `retrieval.Embedder`.
      colorizer: tries the most similar references on each shot.

    Raises:
      UserError: there is no video, or no reference and no color prior.
    """
    self._check_idle()
    prior = colorizer.has_prior
    if not self.video_name or not (self.references or prior):
      raise UserError(
        'add a video first' if prior else 'add a video and a reference first'
      )
    self._forget_plan()
    self._start(
      queue, Job('shots', lambda job: self._find_shots(job, embed, colorizer))
    )

  def _find_shots(
    self, job: Job, embed: plan.Embed, colorizer: VideoColorizer
  ) -> None:
    def progress(count: int, total: int | None, shots: int) -> None:
      for number, limit, unit in (
        (count, uploads.MAX_FRAMES, 'frames'),
        (shots, MAX_SHOTS, 'shots'),
      ):
        if number > limit:
          raise UserError(
            f'{self.video_name} has more than {limit} {unit}: cut it into parts'
          )
      job.advance(count, total)

    with self.named():
      if self.survey is None:
        self.survey = plan.survey(self.video, embed, progress, job.sandbox)
      choices = [x.choice for x in self.references.values()]
      scored: list[list[plan.Choice]] = [[] for _ in self.survey.plan.shots]
      if choices:
        scored = plan.scores(self.survey, choices, embed)
        scored = plan.try_all(
          self.survey,
          scored,
          colorizer,
          lambda: job.advance(job.done, job.total),
        )
        jax.clear_caches()
    self.warnings = self._damage(self.survey)
    planned = self.survey.plan
    self.scored = scored
    self.plan = planned._replace(
      shots=tuple(
        shot._replace(references=plan.select(choices) if choices else _BY_PRIOR)
        for shot, choices in zip(planned.shots, scored, strict=True)
      )
    )

  def choose(
    self, shot: int, numbers: Sequence[int] | None, prior: bool = False
  ) -> None:
    """Sets the references of a shot.

    Args:
      shot: index from 0.
      numbers: of references, at least one unless `prior`; None: the shot stays
        as it is.
      prior: whether the shot can be colorized without a reference.

    Raises:
      UserError: there is no such shot or reference.
    """
    self._check_idle()
    if self.plan is None or not 0 <= shot < len(self.plan.shots):
      raise UserError(f'there is no shot {shot + 1}')
    valid = set(numbers or ()) <= set(self.references)
    if not valid or not (numbers or numbers is None or prior):
      raise UserError(f'shot {shot + 1} needs one of the references')
    compared = dict(zip(self.references, self.scored[shot], strict=True))
    shots = list(self.plan.shots)
    references: tuple[plan.Choice, ...] = ()
    if numbers is not None:
      references = tuple(compared[x] for x in sorted(set(numbers)))
      references = references or _BY_PRIOR
    shots[shot] = shots[shot]._replace(references=references)
    self.plan = self.plan._replace(shots=tuple(shots))

  def color(self, queue: JobQueue, colorizer: VideoColorizer) -> None:
    """Queues a job that colorizes the video as planned.

    Args:
      queue: runs the job.
      colorizer: the engine, with its model.

    Raises:
      UserError: there is no plan yet, or it cannot be carried out.
    """
    self._check_idle()
    if self.plan is None or self.survey is None:
      raise UserError('find the shots first')
    planned, surveyed = self.plan, self.survey
    with self.named():
      plan.check(self.video_name, planned)
    self._forget_result()
    self._start(
      queue,
      Job('colors', lambda job: self._color(job, colorizer, planned, surveyed)),
    )

  def _color(
    self,
    job: Job,
    colorizer: VideoColorizer,
    planned: plan.Plan,
    surveyed: plan.Survey,
  ) -> None:
    devices = jax.local_devices()[: len(planned.shots)]
    colorizers = [colorizer.on(device) for device in devices]
    with self.named():
      output = uploads.result_path(self.video, job.sandbox)
    total = schedule.count_steps(planned)
    due = 0.0
    try:
      with self.named({output: 'the result'}):
        work = film.Film(
          colorizers,
          self.video,
          planned,
          output,
          # Browsers do not deinterlace, so combing would be visible.
          options=film.Options(deinterlace=surveyed.interlaced > 0),
          opener=job.sandbox,
        )
        self.warnings = [
          *self._damage(surveyed),
          *(f'left out of {missing}' for missing in work.left_out),
        ]
        if surveyed.interlaced:
          self.warnings.append(
            f'{self.video_name} is interlaced; the result is progressive'
          )
        size = tuple(colorizer.config.use.size)
        self._quota.check(schedule.scratch_bytes(planned, size, len(devices)))
        with contextlib.closing(work.run()) as steps:
          for step in steps:
            job.advance(step.done, total)
            last = step.done == total
            # The last step copies the parts into one file.
            self._quota.check(last and disk_quota.size(self.folder))
            if step.rgb is not None and (last or time.monotonic() >= due):
              due = time.monotonic() + _PREVIEW_SECONDS
              job.preview = Preview(
                step.number, *map(drawings.preview, (step.gray, step.rgb))
              )
    finally:
      shutil.rmtree(film.part_folder(output), ignore_errors=True)
      # Free the programs compiled for this video's size, about 100 MB.
      jax.clear_caches()
    self.warnings += work.doubts()
    self.result = output

  def _damage(self, surveyed: plan.Survey) -> list[str]:
    if not surveyed.damaged:
      return []
    return [plan.damage(self.video_name, surveyed)]

  @property
  def result_name(self) -> str | None:
    """File name of the result, if there is one."""
    if self.result is None:
      return None
    return f'{Path(self.video_name).stem}_color{self.result.suffix}'

  def number_of(self, choice: plan.Choice) -> int:
    """Number of the reference that a choice of the plan refers to."""
    return next(
      number
      for number, reference in self.references.items()
      if reference.choice.picture == choice.picture
    )

  def thumbnail(self, shot: int) -> bytes:
    """A frame of a shot, as JPEG; IndexError if there is no such shot."""
    return self.survey.thumbnails[shot] if self.survey else b''

  def stop(self) -> None:
    """Stops the job, if there is one."""
    if self.job is not None and self.is_busy:
      self.job.stop()

  def leave(self) -> None:
    """Stops the job, if there is one, and removes the folder after it."""
    job = self.job
    if job is None or job.future is None or job.is_over:
      shutil.rmtree(self.folder, ignore_errors=True)
      return
    job.future.add_done_callback(
      lambda _: shutil.rmtree(self.folder, ignore_errors=True)
    )
    job.stop()

  def _start(self, queue: JobQueue, job: Job) -> None:
    self.job = job
    queue.take(job)

  def _check_idle(self) -> None:
    if self.is_busy:
      raise UserError('stop the running job first')

  def _forget_plan(self) -> None:
    self.scored, self.plan = [], None
    self._forget_result()

  def _forget_result(self) -> None:
    self.job = None
    self.warnings = []
    if self.result:
      self.result.unlink()
      self.result = None

  @contextlib.contextmanager
  def named(self, names: dict[Path, str] | None = None) -> Iterator[None]:
    """Replaces paths in errors by the user's names of the files."""
    texts = {str(path): name for path, name in (names or {}).items()}
    texts[str(self.video)] = self.video_name
    for reference in self.references.values():
      texts[str(reference.choice.picture)] = reference.name
    try:
      yield
    except UserError as error:
      text = str(error)
      for path, name in texts.items():
        text = text.replace(path, name)
      raise UserError(text.replace(str(self.folder), '')) from error
