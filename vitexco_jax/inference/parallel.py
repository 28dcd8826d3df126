"""Colorizes the stretches of a film on several devices at once."""

import concurrent.futures
import contextlib
import itertools
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from vitexco_jax.inference.film_job import Step
from vitexco_jax.inference.stretches import Task
from vitexco_jax.inference.worker import Worker


def color(workers: Sequence[Worker], tasks: Sequence[Task]) -> Iterator[Step]:
  """Yields the steps of parallel workers; if one fails, all stop.

  Each stretch goes to one worker. If a stretch between two bound stills is more than
  the share of one worker, its two directions are colorized at the same time, and mixed
  afterwards.

  Args:
    workers: one for each device.
    tasks: the stretches.
  """
  share = sum(task.steps for task in tasks) / len(workers)
  both = [
    task
    for task in tasks
    if task.stretch.has_both_directions and task.steps > share
  ]
  passes = itertools.product(both, (False, True))
  first: list[_Work] = [_Store(*one) for one in passes]
  first += [_Color(task) for task in tasks if task not in both]
  yield from _share(workers, first)
  yield from _share(workers, [_Color(task) for task in both])


class _Store(NamedTuple):
  """Stores one direction of a stretch."""

  task: Task
  forwards: bool

  def run(self, worker: Worker) -> Generator[Step, None, None]:
    return worker.store(self.task, self.forwards)


class _Color(NamedTuple):
  """Colorizes a stretch."""

  task: Task

  def run(self, worker: Worker) -> Generator[Step, None, None]:
    return worker.color(self.task)


_Work = _Store | _Color


def _share(workers: Sequence[Worker], work: Iterable[_Work]) -> Iterator[Step]:
  """Distributes work over workers."""
  waiting = iter(work)  # An idle worker takes the next one.
  taking = threading.Lock()
  # Workers wait for the consumer.
  steps: queue.Queue[Step] = queue.Queue(len(workers))
  stopped = threading.Event()

  def take() -> _Work | None:
    with taking:
      return next(waiting, None)

  def serve(worker: Worker) -> None:
    with worker:
      while (one := take()) is not None:
        with contextlib.closing(one.run(worker)) as worker_steps:
          for step in worker_steps:
            if stopped.is_set():
              return
            steps.put(step)

  with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
    futures = [pool.submit(serve, worker) for worker in workers]
    try:
      while True:
        with contextlib.suppress(queue.Empty):
          yield steps.get(timeout=0.1)
          continue
        for future in futures:
          if future.done():
            future.result()  # Raises the exception of the worker.
        if all(future.done() for future in futures) and steps.empty():
          return
    finally:
      stopped.set()
      while not all(future.done() for future in futures):
        with contextlib.suppress(queue.Empty):
          steps.get(timeout=0.1)
