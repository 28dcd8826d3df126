"""Colorizes the shots of a film on several devices at once."""

import concurrent.futures
import contextlib
import itertools
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence

from vitexco_jax.inference.film_job import Step
from vitexco_jax.inference.stretches import Task
from vitexco_jax.inference.worker import Worker


def color(
  workers: Sequence[Worker], shots: Iterable[Sequence[Task]]
) -> Iterator[Step]:
  """Yields the steps of parallel workers; if one fails, all stop.

  Args:
    workers: one for each device.
    shots: the tasks of each shot.
  """
  waiting = iter(shots)  # An idle worker takes the next one.
  # Workers wait for the consumer.
  steps: queue.Queue[Step] = queue.Queue(len(workers))
  stopped = threading.Event()

  def work(worker: Worker) -> None:
    with worker:
      for task in itertools.chain.from_iterable(waiting):
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
