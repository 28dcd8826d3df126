"""Runs the jobs of the preparation, in processes or with Apache Beam."""

import concurrent.futures
import functools
import itertools
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import jax
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import beam as pipeline
from vitexco_jax import files
from vitexco_jax.data import records, records_writer, runs
from vitexco_jax.data.job import Job, file_sizes, is_done
from vitexco_jax.retrieval.embedding import Embedder
from vitexco_jax.retrieval.gallery import Gallery, open_with_embedder


def run_jobs(
  jobs: list[Job], workers: int | None = None, beam: str | None = None
) -> None:
  """Runs the jobs that are not done yet.

  Args:
    jobs: all jobs of a preparation.
    workers: number of processes; None: one per core.
    beam: options of an Apache Beam pipeline that runs the jobs instead.

  Raises:
    UserError: Apache Beam is not installed, or its options are wrong.
    BrokenExecutor: a process was killed.
    OSError: a file cannot be written.
  """
  total = sum(len(job.paths) for job in jobs)
  remaining = [job for job in jobs if not is_done(job)]
  if beam is not None:
    pipeline.run('prepare', prepare_job, remaining, beam)
    return
  left = sum(len(job.paths) for job in remaining)
  workers = min(workers or os.cpu_count() or 1, len(remaining))
  with tqdm.tqdm(
    total=total, initial=total - left, unit='file', desc='prepare'
  ) as progress:
    if workers <= 1:
      for job in remaining:
        prepare_job(job)
        progress.update(len(job.paths))
      return
    # Spawned, because a fork of a process that runs JAX can hang.
    with concurrent.futures.ProcessPoolExecutor(
      workers,
      multiprocessing.get_context('spawn'),
      initializer=_start_worker,
    ) as pool:
      futures = {pool.submit(prepare_job, job): job for job in remaining}
      try:
        for future in concurrent.futures.as_completed(futures):
          future.result()
          progress.update(len(futures[future].paths))
      except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def _start_worker() -> None:
  cv2.setNumThreads(1)  # There is one process per core.
  jax.config.update('jax_platforms', 'cpu')  # Processes cannot share a GPU.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends a worker whose parent was killed; it would continue to write."""
  parent = multiprocessing.parent_process()
  assert parent is not None
  parent.join()
  os._exit(1)


def prepare_job(job: Job) -> None:
  """Writes the usable records of a job and its note."""
  job.part.unlink(missing_ok=True)
  config = ml_collections.ConfigDict(json.loads(job.config))
  note: dict[str, Any] = {
    'runs': [],
    'frames': 0,
    'references': [],
    'left_out': {},
  }
  try:
    with records_writer.PartWriter(job.part) as writer:
      for run in _make_runs(job, config.data, config.seed, note['left_out']):
        of_frames = _find_references(job, run.rgb)
        note['references'] += itertools.chain(*of_frames)
        note['runs'].append([run.video, run.indices[0], len(run.rgb)])
        rows = zip(run.rgb, run.indices, run.motion, of_frames, strict=True)
        for rgb, index, motion, references in rows:
          writer.write(
            records.encode(rgb, run.video, index, motion, references)
          )
      note['frames'] = writer.count
      note['references'] = list(dict.fromkeys(note['references']))
      for number in note['references']:
        _write_reference(job, number, config.data.size, writer)
  except runs.UnusableError as error:
    (name,) = job.paths
    note |= {'runs': [], 'references': [], 'left_out': {name: str(error)}}
  note['digest'] = writer.digest if note['runs'] else ''
  note['bytes'] = file_sizes(job)
  files.write(job.note, json.dumps(note))


def _make_runs(
  job: Job,
  data: ml_collections.ConfigDict,
  seed: int,
  left_out: dict[str, str],
) -> Iterator[runs.DecodedRun]:
  if job.stills:
    return runs.from_pictures(job.paths, data, seed, left_out)
  ((name, path),) = job.paths.items()
  return runs.from_video(name, path, data, left_out)


def _find_references(job: Job, rgb: list[np.ndarray]) -> list[list[int]]:
  """Returns for each frame the numbers of the most similar pictures."""
  if job.gallery is None:
    return [[]] * len(rgb)
  embed, gallery = _open_gallery(job.gallery, job.config)
  settings = ml_collections.ConfigDict(json.loads(job.config)).retrieval
  best = gallery.best(embed(rgb), settings.count, settings.near_duplicate)
  return [[number for number, _ in pictures] for pictures in best]


@functools.lru_cache(1)
def _open_gallery(path: Path, config: str) -> tuple[Embedder, Gallery]:
  """Opens the gallery once per process."""
  config = ml_collections.ConfigDict(json.loads(config))
  return open_with_embedder(config, path)


def _write_reference(
  job: Job,
  number: int,
  size: tuple[int, int],
  writer: records_writer.PartWriter,
) -> None:
  _, gallery = _open_gallery(job.gallery, job.config)
  rgb = runs.scale_and_crop(gallery.read(number), size)
  writer.write(records.encode(rgb, gallery.name(number), number))
