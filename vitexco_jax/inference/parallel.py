"""Colorizes the stretches of a film on several devices at once."""

import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence

from vitexco_jax.inference.film_job import Step
from vitexco_jax.inference.stretches import Task
from vitexco_jax.inference.worker import Worker


def color(workers: Sequence[Worker], tasks: Iterable[Task]) -> Iterator[Step]:
  """Yields the steps of parallel workers; if one fails, all stop.

  Args:
    workers: one for each device.
    tasks: each goes to one worker; a long shot has several, between its stills.
  """
  waiting = iter(tasks)  # An idle worker takes the next one.
  taking = threading.Lock()
  # Workers wait for the consumer.
  steps: queue.Queue[Step] = queue.Queue(len(workers))
  stopped = threading.Event()

  def take() -> Task | None:
    with taking:
      return next(waiting, None)

  def work(worker: Worker) -> None:
    with worker:
      while (task := take()) is not None:
        with contextlib.closing(worker.color(task)) as worker_steps:
          for step in worker_steps:
            if stopped.is_set():
              return
            steps.put(step)

  with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
    futures = [pool.submit(work, worker) for worker in workers]
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
