"""What the page gets to show: JSON and pictures."""

from typing import Any

from aiohttp import web

from vitexco_jax.inference import plan
from vitexco_jax.serving import sessions
from vitexco_jax.serving.jobs import Job, JobQueue
from vitexco_jax.serving.sessions import Session
from vitexco_jax.serving.storyboard import Row

NUMBER = r'{number:\d{1,9}}'  # As part of a route.


def describe(
  session: Session, queue: JobQueue, limits: dict[str, int]
) -> dict[str, Any]:
  """Returns the state of a session.

  Args:
    session: the session.
    queue: has its job.
    limits: of uploads, in MB.
  """
  planned, job = session.plan, session.job
  return {
    'limits': limits | {'references': sessions.MAX_REFERENCES},
    'video': session.video_name,
    'facts': session.facts and session.facts._asdict(),
    'references': [
      {'number': number, 'name': x.name, 'frame': x.choice.frame}
      for number, x in session.references.items()
    ],
    'planned': planned is not None,
    'frames': planned.frames if planned else 0,
    'edits': session.edits,
    'busy': session.is_busy,
    'jobs': session.jobs,
    'job': job and _describe_job(job, queue.ahead(job)),
    'colored': session.colored,
    'kept': session.coloring.kept,
    'warnings': session.warnings,
    'result': session.result_name,
  }


def _describe_job(job: Job, ahead: int) -> dict[str, Any]:
  return {
    'kind': job.kind,
    'state': job.state,
    'stopping': job.stopping,
    'ahead': ahead,
    'phase': job.phase,
    'done': job.done,
    'total': job.total,
    'rate': job.rate,
    'message': job.message,
    'frame': job.preview and job.preview.number,
  }


def describe_shots(session: Session) -> list[dict[str, Any]]:
  """Returns the shots of a session with a plan."""
  planned = session.plan
  if planned is None:
    return []
  return [
    _describe_row(session, row, plan.clock(row.shot.start / planned.frame_rate))
    for row in session.rows
  ]


def _describe_row(session: Session, row: Row, start: str) -> dict[str, Any]:
  shot, candidates = row.shot, row.candidates
  used = () if shot.by_prior else shot.references
  return {
    'start': shot.start,
    'stop': shot.stop,
    'from': start,
    'scores': [choice.score for choice in candidates],
    'verdicts': [choice.verdict for choice in candidates],
    'coverages': [choice.coverage for choice in candidates],
    'skipped': shot.skipped,
    'references': [session.number_of(x) for x in used],
    'trial': row.trial and row.trial.number,
  }


def picture(data: bytes) -> web.Response:
  """Returns a JPEG as a response."""
  return web.Response(body=data, content_type='image/jpeg')
