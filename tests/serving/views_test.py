"""views: what the page gets to show."""

import json

from page_inputs import Stub, embed

from vitexco_jax.serving import session_jobs, views
from vitexco_jax.serving.jobs import JobQueue
from vitexco_jax.serving.sessions import Session


def test_a_new_session_shows_nothing(tmp_path):
  session = Session(tmp_path / 'session')
  with JobQueue() as queue:
    state = views.describe(session, queue, {'video': 5})
  json.dumps(state)
  assert state['limits'] == {'video': 5, 'references': 24}
  assert not state['planned'] and state['job'] is None
  assert state['colored'] == [] and state['kept'] == 0
  assert views.describe_shots(session) == []


def test_no_path_is_shown(tmp_path, film):
  session = Session(tmp_path / 'session')
  session.new_path().write_bytes(film)
  session.set_video(session.folder / 'incoming-1', 'film.mp4')
  with JobQueue() as queue:
    session_jobs.find_shots(session, queue, embed, Stub())
    session.job.future.result(60)
    state = views.describe(session, queue, {'video': 5})
  text = json.dumps([state, views.describe_shots(session)])
  assert state['planned'] and str(tmp_path) not in text
