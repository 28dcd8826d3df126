"""Jobs of the page: queued, run one at a time, stopped by the user."""

import concurrent.futures
import itertools
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple, Self

from vitexco_jax.errors import UserError
from vitexco_jax.media.sandbox import Sandbox

_STOP_SECONDS = 1.0  # To wait for a job when the program ends.
_RATE_SECONDS = 3.0  # Of work before its rate is shown.


class Preview(NamedTuple):
  """The newest frame, as JPEG."""

  number: int
  before: bytes
  after: bytes


class Stopped(Exception):
  """The user stopped a job."""


class Job:
  """A unit of work that is queued, runs, and can be stopped.

  Attributes:
    kind: 'shots', 'trial' or 'colors'.
    state: 'waiting', 'running', 'stopped', 'failed' or 'done'.
    stopping: whether the work ends after its next step.
    future: of the queue, done when the work is over.
    phase: what `done` counts, such as 'frames'.
    done: number of completed steps of the phase.
    total: number of steps; None: not known.
    message: a sentence about the error, if any.
    preview: the newest colored frame.
    sandbox: opens the uploaded files.
  """

  def __init__(self, kind: str, work: Callable[['Job'], None]):
    """Sets the kind, and the work, which calls `advance`."""
    self.kind = kind
    self.state = 'waiting'
    self.stopping = False
    self.future: concurrent.futures.Future[None] | None = None
    self.phase = 'frames'
    self.done = 0
    self.total: int | None = None
    self.message = ''
    self.preview: Preview | None = None
    self.sandbox = Sandbox()
    self._work = work
    # Time and number of steps.
    self._first: tuple[float, int] | None = None
    self._last = (0.0, 0)

  @property
  def is_over(self) -> bool:
    """Whether the work is over, in whatever way."""
    return self.state in ('stopped', 'failed', 'done')

  def run(self) -> None:
    """Does the work; reports errors in `state` and `message`."""
    self.state = 'running'
    try:
      self._work(self)
      self.state = 'done'
    except Stopped:
      self.state = 'stopped'
    except UserError as error:
      self.message = str(error)
      self.state = 'stopped' if self.stopping else 'failed'
    except Exception:  # The next job must run.
      traceback.print_exc()
      self.message = 'internal error: see the terminal for details'
      self.state = 'failed'
    finally:
      self.sandbox.close()

  def stop(self) -> None:
    """Ends the work after its next step."""
    self.stopping = True
    self.sandbox.close()  # A step may wait for it.
    if self.future is None or self.future.cancel():  # It was not running.
      self.state = 'stopped'

  def begin(self, phase: str, total: int) -> None:
    """Begins another phase of the work, with this number of steps."""
    self.phase = phase
    self._first = None
    self.advance(0, total)

  def advance(self, done: int, total: int | None) -> None:
    """Records the progress; ends the work if the user stopped it."""
    if self.stopping:
      raise Stopped
    self.done, self.total = done, total
    self._last = time.monotonic(), done
    self._first = self._first or self._last

  @property
  def rate(self) -> float | None:
    """Steps per second; None before enough time has passed to measure it."""
    if self._first is None:
      return None
    seconds = self._last[0] - self._first[0]
    steps = self._last[1] - self._first[1]
    return steps / seconds if seconds >= _RATE_SECONDS else None


class JobQueue:
  """Runs jobs one after the other in a thread; a context manager.

  At exit it stops the jobs and waits for them for a moment only; `is_busy` says
  whether one is still running.
  """

  def __init__(self) -> None:
    self._pool = concurrent.futures.ThreadPoolExecutor(1, 'queue')
    # Jobs that are not over, in order.
    self._jobs: list[tuple[Job, concurrent.futures.Future[None]]] = []

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    for job, _ in self._jobs:
      job.stop()
    # A running computation or compilation cannot be stopped.
    concurrent.futures.wait([x for _, x in self._jobs], _STOP_SECONDS)
    self._pool.shutdown(wait=False)

  @property
  def is_busy(self) -> bool:
    """Whether a job is queued or running."""
    return any(not future.done() for _, future in self._jobs)

  def take(self, job: Job) -> None:
    """Queues a job."""
    future = job.future = self._pool.submit(job.run)
    waiting = [x for x in self._jobs if not x[0].is_over]
    self._jobs = [*waiting, (job, future)]

  def ahead(self, job: Job) -> int:
    """Number of jobs before one."""
    jobs = [other for other, _ in self._jobs]
    before = itertools.takewhile(lambda other: other is not job, jobs)
    return sum(not other.is_over for other in before)
