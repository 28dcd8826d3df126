"""Sessions of the page of `--mode=serve`, without HTTP.

A `Session` holds one user's folder, which no other user of the machine can open,
and the results computed from its files by `session_jobs`. Uploaded files must have
passed `uploads`.
"""

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan
from vitexco_jax.inference.plan import Choice, Plan, Survey
from vitexco_jax.media import video
from vitexco_jax.serving import (
  disk_quota,
  drawings,
  storyboard,
  uploads,
)
from vitexco_jax.serving.coloring import Coloring
from vitexco_jax.serving.film_frames import FilmFrames
from vitexco_jax.serving.jobs import Job, JobQueue
from vitexco_jax.serving.output_settings import Settings
from vitexco_jax.serving.storyboard import Row

MAX_REFERENCES = 24


class Reference(NamedTuple):
  """An uploaded picture in color."""

  name: str  # To show.
  choice: Choice  # Of the stored copy.
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
    settings: of the result.
    frames: single frames of the video.
    coloring: the result.
    job: the newest job.
    jobs: number of jobs so far.
    edits: number of changes of the shots so far.
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
    self.survey: Survey | None = None
    self.edits = 0
    self._rows: list[Row] = []
    self.settings = Settings()
    self.frames = FilmFrames(self.video)
    self.coloring = Coloring(self._quota)
    self.job: Job | None = None
    self.jobs = 0
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

  @property
  def rows(self) -> list[Row]:
    """The shots with their references; empty until they have been found."""
    return self._rows

  @rows.setter
  def rows(self, rows: list[Row]) -> None:
    self._rows = rows
    self.edits += 1

  def set_row(self, number: int, row: Row) -> None:
    """Replaces the row of a shot."""
    rows = list(self.rows)
    rows[number] = row
    self.rows = rows

  @property
  def plan(self) -> Plan | None:
    """The references of each shot; None until the shots have been found."""
    if self.survey is None or not self.rows:
      return None
    shots = tuple(row.shot for row in self.rows)
    return self.survey.plan._replace(shots=shots)

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
    self.check_idle()
    path.replace(self.video)
    self.video_name, self.facts = uploads.shown(name), facts
    self.survey, self.rows, self.job = None, [], None
    self.frames.forget()
    self.coloring.forget()

  def add_reference(self, drawing: drawings.Drawing, name: str) -> None:
    """Adds a reference.

    A shot uses it at once if it is bound to a frame of the shot.

    Args:
      drawing: of `uploads.redraw`.
      name: the user's name of the file; ref_00123.png is frame 123 of the video.

    Raises:
      UserError: a job is not over, or there are too many references.
    """
    self.check_idle()
    if len(self.references) == MAX_REFERENCES:
      raise UserError(f'at most {MAX_REFERENCES} references are allowed')
    self._quota.check(len(drawing.png))
    name, number = uploads.shown(name), next(self._numbers)
    path = self.folder / f'reference-{number}.png'
    with video.explained('keep', name):
      path.write_bytes(drawing.png)
    choice = Choice(str(path), frame=plan.named_frame(Path(name).stem))
    self.references[number] = Reference(name, choice, drawing.thumbnail)
    self.rows = [storyboard.add_reference(x, choice) for x in self.rows]

  def remove_reference(self, number: int) -> None:
    """Removes a reference; UserError if the number does not exist."""
    self.check_idle()
    if number not in self.references:
      raise UserError(f'there is no reference {number}')
    picture = self.references.pop(number).choice.picture
    Path(picture).unlink()
    self.rows = [storyboard.remove_reference(x, picture) for x in self.rows]

  def choose(
    self, shot: int, numbers: Sequence[int], prior: bool = False
  ) -> None:
    """Sets the references of a shot.

    Args:
      shot: index from 0.
      numbers: of references, at least one unless `prior`.
      prior: whether the shot can be colorized without a reference.

    Raises:
      UserError: there is no such shot or reference.
    """
    row = self._row(shot)
    valid = set(numbers) <= set(self.references)
    if not valid or not (numbers or prior):
      raise UserError(f'shot {shot + 1} needs one of the references')
    compared = dict(zip(self.references, row.candidates, strict=True))
    references = tuple(compared[x] for x in sorted(set(numbers)))
    self.set_row(shot, row.using(references or storyboard.BY_PRIOR))

  def skip(self, shot: int, skipped: bool) -> None:
    """Leaves a shot as it is, or colorizes it as before.

    Args:
      shot: index from 0.
      skipped: whether the shot stays as it is.

    Raises:
      UserError: there is no such shot.
    """
    row = self._row(shot)
    self.set_row(shot, row.skip() if skipped else row.unskip())

  def join(self, shot: int) -> None:
    """Joins a shot with the next one; UserError if there is none."""
    row = self._row(shot)
    joined = storyboard.join(row, self._row(shot + 1))
    self.rows = self.rows[:shot] + [joined] + self.rows[shot + 2 :]

  def divisible(self, frame: int) -> int:
    """Returns the index of a shot that can be divided at a frame.

    Raises:
      UserError: a shot begins there, there is no such frame, or there are too many
        shots.
    """
    self.check_idle()
    if len(self.rows) >= storyboard.MAX_SHOTS:
      raise UserError(f'at most {storyboard.MAX_SHOTS} shots are allowed')
    for index, row in enumerate(self.rows):
      if row.shot.start < frame < row.shot.stop:
        return index
    raise UserError(f'no shot can be divided at frame {frame}')

  def divide(self, frame: int, looks: Sequence[storyboard.Look]) -> None:
    """Divides a shot.

    Args:
      frame: the first one of the second part.
      looks: a frame of each part; see `storyboard.middles`.

    Raises:
      UserError: see `divisible`.
    """
    index = self.divisible(frame)
    parts = storyboard.divide(self.rows[index], frame, looks)
    self.rows = self.rows[:index] + parts + self.rows[index + 1 :]

  def set_settings(self, settings: Settings) -> None:
    """Sets the settings of the result."""
    self.check_idle()
    self.settings = settings
    self.forget_trials()

  def forget_trials(self) -> None:
    """Forgets the colors of single frames."""
    self.rows = [row._replace(trial=None) for row in self.rows]

  def read_colored(self, number: int) -> bytes | None:
    """Returns a frame in color as JPEG; None: it is not colorized yet."""
    trials = (row.trial for row in self.rows if row.trial)
    for trial in trials:
      if trial.number == number:
        return trial.after
    return self.coloring.read(number)

  @property
  def colored(self) -> list[list[int]]:
    """[start, stop] of frames in color."""
    ranges = self.coloring.ranges
    for row in self.rows:
      if row.trial:
        ranges.append([row.trial.number, row.trial.number + 1])
    return ranges

  @property
  def warnings(self) -> list[str]:
    """Sentences about the video and the result."""
    sentences = []
    if self.rows and self.survey:
      if self.survey.damaged:
        sentences.append(plan.damage(self.video_name, self.survey))
      if self.survey.interlaced:
        sentences.append(
          f'{self.video_name} is interlaced; the result is progressive'
        )
    return sentences + self.coloring.warnings

  @property
  def result_name(self) -> str | None:
    """File name of the result, if there is one."""
    if self.coloring.result is None:
      return None
    suffix = self.coloring.result.suffix
    return f'{Path(self.video_name).stem}_color{suffix}'

  def number_of(self, choice: Choice) -> int:
    """Number of the reference that a choice of the plan refers to."""
    return next(
      number
      for number, reference in self.references.items()
      if reference.choice.picture == choice.picture
    )

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

  def start(self, queue: JobQueue, job: Job) -> None:
    """Queues a job; the session is then busy."""
    self.job = job
    self.jobs += 1
    queue.take(job)

  def check_idle(self) -> None:
    """Raises UserError if a job is not over."""
    if self.is_busy:
      raise UserError('stop the running job first')

  def check_plan(self) -> tuple[Plan, Survey]:
    """Returns the plan and the survey; UserError unless they can be used."""
    self.check_idle()
    planned = self.plan
    if planned is None or self.survey is None:
      raise UserError('find the shots first')
    with self.named():
      plan.check(self.video_name, planned)
    return planned, self.survey

  def _row(self, shot: int) -> Row:
    """Returns a row; UserError if a job is not over or there is no such shot."""
    self.check_idle()
    if not 0 <= shot < len(self.rows):
      raise UserError(f'there is no shot {shot + 1}')
    return self.rows[shot]

  @contextlib.contextmanager
  def named(self, names: dict[Path, str] | None = None) -> Iterator[None]:
    """Replaces paths in errors by the user's names of the files."""
    texts = {str(path): name for path, name in (names or {}).items()}
    texts[str(self.video)] = self.video_name
    texts[str(self.folder / 'colored')] = 'the result'
    for reference in self.references.values():
      texts[str(reference.choice.picture)] = reference.name
    try:
      yield
    except UserError as error:
      text = str(error)
      for path, name in texts.items():
        text = text.replace(path, name)
      raise UserError(text.replace(str(self.folder), '')) from error
