"""Jobs of a session: find shots, try frames, colorize."""

import functools
import itertools

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan, preview
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.serving import frame_trials, programs, storyboard, uploads
from vitexco_jax.serving.jobs import Job, JobQueue
from vitexco_jax.serving.sessions import Session


def find_shots(
  session: Session,
  queue: JobQueue,
  embed: plan.Embed,
  colorizer: VideoColorizer,
) -> None:
  """Queues a job that finds the shots and chooses their references.

  Args:
    session: has the video and the references.
    queue: runs the job.
    embed: a `retrieval.Embedder`.
    colorizer: tries the most similar references on each shot.

  Raises:
    UserError: there is no video, or no reference and no color prior.
  """
  session.check_idle()
  prior = colorizer.has_prior
  if not session.video_name or not (session.references or prior):
    raise UserError(
      'add a video first' if prior else 'add a video and a reference first'
    )
  work = functools.partial(
    _find_shots, session, embed=embed, colorizer=colorizer
  )
  session.start(queue, Job('shots', work))


def _find_shots(
  session: Session, job: Job, embed: plan.Embed, colorizer: VideoColorizer
) -> None:
  def progress(count: int, total: int | None, shots: int) -> None:
    for number, limit, unit in (
      (count, uploads.MAX_FRAMES, 'frames'),
      (shots, storyboard.MAX_SHOTS, 'shots'),
    ):
      if number > limit:
        raise UserError(
          f'{session.video_name} has more than {limit} {unit}: cut it into parts'
        )
    job.advance(count, total)

  with session.named():
    if session.survey is None:
      session.survey = plan.survey(session.video, embed, progress, job.sandbox)
    if session.rows:  # They may have been joined or divided.
      session.survey = storyboard.update(session.survey, session.rows, embed)
    choices = [x.choice for x in session.references.values()]
    scored: list[list[plan.Choice]] = [[] for _ in session.survey.plan.shots]
    if choices:
      programs.keep_only(session.video)
      scored = plan.scores(session.survey, choices, embed)
      job.begin('trials', len(scored))
      tried = itertools.count()
      scored = plan.try_all(
        session.survey,
        scored,
        colorizer,
        lambda: job.advance(next(tried), len(scored)),
      )
  session.rows = storyboard.make_rows(session.survey, scored)


def color(session: Session, queue: JobQueue, colorizer: VideoColorizer) -> None:
  """Queues a job that colorizes the video as planned, or continues it.

  Args:
    session: has a plan.
    queue: runs the job.
    colorizer: the engine, with its model.

  Raises:
    UserError: there is no plan yet, or it cannot be carried out.
  """
  planned, surveyed = session.check_plan()
  settings = session.settings

  def work(job: Job) -> None:
    with session.named():
      session.coloring.run(
        job, colorizer, session.video, planned, surveyed, settings
      )

  session.coloring.forget_result()
  session.forget_trials()
  session.start(queue, Job('colors', work))


def try_frames(
  session: Session,
  queue: JobQueue,
  colorizer: VideoColorizer,
  number: int | None = None,
) -> None:
  """Queues a job that colorizes a frame alone, or one of each shot.

  Args:
    session: has a plan.
    queue: runs the job.
    colorizer: the engine, with its model.
    number: of the frame; None: one of each shot.

  Raises:
    UserError: there is no plan yet, no such frame, or its shot stays as it is.
  """
  _, surveyed = session.check_plan()
  numbered = {
    index: (preview.choose(row.shot), row.shot)
    for index, row in enumerate(session.rows)
    if not row.shot.skipped
  }
  if number is not None:
    numbered = {
      index: (number, shot)
      for index, (_, shot) in numbered.items()
      if shot.start <= number < shot.stop
    }
  if not numbered:
    raise UserError('that shot stays as it is: choose a reference first')
  settings = session.settings

  def work(job: Job) -> None:
    with session.named():
      trials = frame_trials.colorize(
        job,
        colorizer,
        surveyed,
        session.frames,
        list(numbered.values()),
        settings,
      )
      for index, trial in zip(numbered, trials, strict=True):
        session.set_row(index, session.rows[index]._replace(trial=trial))
        job.preview = trial

  session.start(queue, Job('trial', work))
