"""jobs: order, stopping, and errors."""

import threading
import time

import pytest

from vitexco_jax.serving import jobs
from vitexco_jax.serving.jobs import Job, JobQueue


@pytest.fixture
def queue():
  with JobQueue() as queue:
    yield queue


def test_queued_jobs_keep_their_order_and_can_be_stopped(queue):
  may_go = threading.Event()
  jobs = [Job('colors', lambda _: may_go.wait(60)) for _ in range(4)]
  for job in jobs:
    queue.take(job)
  assert [queue.ahead(job) for job in jobs] == [0, 1, 2, 3]
  jobs[1].stop()
  assert jobs[1].state == 'stopped'
  assert [queue.ahead(job) for job in jobs[2:]] == [1, 2]
  may_go.set()
  jobs[3].future.result(60)
  assert [job.state for job in jobs] == ['done', 'stopped', 'done', 'done']


def test_the_rate_is_known_after_some_time(monkeypatch):
  job = Job('colors', None)
  assert job.rate is None
  # Frames come in blocks.
  for now, done, rate in ((9, 1, None), (9.01, 8, None), (19, 41, 4.0)):
    monkeypatch.setattr(time, 'monotonic', lambda now=now: now)
    job.advance(done, 80)
    assert job.rate == rate


def test_a_failed_job_does_not_end_the_queue(queue, capsys):
  def fail(_):
    raise ZeroDivisionError

  jobs = Job('colors', fail), Job('colors', lambda _: None)
  for job in jobs:
    queue.take(job)
  jobs[1].future.result(60)
  assert [job.state for job in jobs] == ['failed', 'done']
  assert 'see the terminal' in jobs[0].message
  assert 'ZeroDivisionError' in capsys.readouterr().err


def test_the_queue_does_not_wait_for_a_running_job(monkeypatch):
  monkeypatch.setattr(jobs, '_STOP_SECONDS', 0.1)
  may_go = threading.Event()
  with JobQueue() as queue:
    queue.take(Job('colors', lambda _: may_go.wait(60)))
    queue.take(second := Job('colors', lambda _: None))
  assert queue.is_busy and second.state == 'stopped'
  may_go.set()
