"""session_jobs: the trials of pictures are counted."""

import pytest
from documents import picture
from page_inputs import Stub, embed, encoded

from vitexco_jax.errors import UserError
from vitexco_jax.serving import jobs, session_jobs, uploads
from vitexco_jax.serving.sessions import Session


@pytest.fixture
def session(tmp_path, film):
  session = Session(tmp_path / 'session')
  session.new_path().write_bytes(film)
  session.set_video(session.folder / 'incoming-1', 'film.mp4')
  path = session.new_path()
  path.write_bytes(encoded(picture(1)))
  session.add_reference(uploads.redraw(path), 'one.png')
  return session


def test_trials_of_pictures_are_counted(session, monkeypatch):
  counts = []
  advance = jobs.Job.advance

  def record(job, done, total):
    counts.append((job.phase, done, total))
    advance(job, done, total)

  monkeypatch.setattr(jobs.Job, 'advance', record)
  with jobs.JobQueue() as queue:
    session_jobs.find_shots(session, queue, embed, Stub())
    session.job.future.result(60)
    assert session.job.state == 'done'
  trials = [x for x in counts if x[0] == 'trials']
  assert trials == [('trials', 0, 2), ('trials', 0, 2), ('trials', 1, 2)]


def test_shots_come_first(session):
  with jobs.JobQueue() as queue:
    for job in (session_jobs.color, session_jobs.try_frames):
      with pytest.raises(UserError, match='find the shots first'):
        job(session, queue, Stub())
