"""--mode=prepare: builds a training set from videos and pictures (Sec. IV).

  video -> shots -> every `frame_step`-th frame -> scale and crop to `size` -> runs
  of at most `run_length` frames -> quality filter -> flow and visibility between
  consecutive frames -> references from a gallery -> records

A video is a file or a folder of images. With `images`, each still picture also
becomes a run of two frames, by a smooth warp with known flow (`synthetic_motion`).

A *job* is one video or a group of pictures. Jobs are independent: several processes
or other machines (Apache Beam) run them. Each job writes one file of records, and
finally a JSON note with its results. The records therefore do not depend on the
machine, and an interrupted preparation resumes with the jobs that have no note.
After all jobs, `records_writer.write` assembles the data set from their files.
"""

import concurrent.futures
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import ml_collections

from vitexco_jax import files
from vitexco_jax.config import check
from vitexco_jax.data import records, records_writer, run_jobs
from vitexco_jax.data.job import Job, find_jobs
from vitexco_jax.errors import UserError
from vitexco_jax.retrieval import embedding
from vitexco_jax.retrieval.gallery import Gallery

_logger = logging.getLogger(__name__)

_SETTINGS = 'settings.json'


def prepare(
  config: ml_collections.ConfigDict,
  videos: Path | None = None,
  images: Path | None = None,
  gallery: Path | None = None,
  beam: str | None = None,
  workers: int | None = None,
) -> records.Records:
  """Prepares videos and pictures for training in `config.data.records`.

  Args:
    config: `data` has the settings; `retrieval` configures the references.
    videos: a folder, searched recursively, or a text file with the path of a
      video on each line, relative to the current folder.
    images: a folder of pictures, searched recursively.
    gallery: source of references; None: no references.
    beam: options of an Apache Beam pipeline, such as `--runner=FlinkRunner`,
      that runs the jobs instead of local processes. Its workers must see all these
      folders under the same names.
    workers: number of processes; by default one per core.

  Returns:
    The data set of these videos and pictures. Parts of others, prepared earlier in
    the same folder, are kept but not included.

  Raises:
    UserError: nothing is usable, or the folder has records with other settings or
      cannot be written; the ViT is untrained.
  """
  check(config)
  embedding.check_trained(config)
  folder = Path(config.data.records)
  settings = _settings(config.data, config.seed, config.retrieval, gallery)
  jobs = list(find_jobs(config, videos, images, gallery))
  try:
    _begin(folder, settings)
    run_jobs.run_jobs(jobs, workers, beam)
    contents = _gather(jobs, settings)
    for name, reason in contents.left_out.items():
      _logger.info(f'left out {name}: {reason}')
    if not contents.runs:
      raise UserError(
        f'no usable training data in `videos={videos}`, `images={images}`: all '
        f'{len(contents.left_out)} are left out'
      )
    if _is_written(folder, contents):
      _logger.info(f'{folder} is up to date')
    else:
      records_writer.write(folder, contents)
  except concurrent.futures.BrokenExecutor as error:
    raise UserError(
      'a worker process was killed, perhaps because memory ran out: run the '
      'command again to resume'
    ) from error
  except OSError as error:
    raise UserError(
      f'cannot write records to {folder}: {error}; fix this and run the command '
      'again to resume'
    ) from error
  opened = records.Records(folder)
  _logger.info(
    f'{folder}: {len(opened)} frames of {len(contents.videos)} videos and '
    f'pictures in {len(opened.runs)} runs, {len(contents.references)} '
    f'references, {opened.bytes / 1e6:.0f} MB; fingerprint {opened.fingerprint}'
  )
  return opened


def _settings(
  data: ml_collections.ConfigDict,
  seed: int,
  retrieval: ml_collections.ConfigDict,
  gallery: Path | None,
) -> dict[str, Any]:
  """Returns the settings that the records depend on, as JSON values."""
  names = 'size frame_step run_length min_frames flow quality'
  settings = {name: data[name] for name in names.split()}
  settings['seed'] = seed
  if gallery is not None:
    opened = Gallery.open(gallery, retrieval.index)
    settings['retrieval'] = retrieval.to_dict()
    # The name in records of earlier versions.
    settings['retrieval']['grey'] = settings['retrieval'].pop('gray')
    del settings['retrieval']['weights']  # The gallery identifies them.
    settings['gallery'] = opened.fingerprint
  return json.loads(ml_collections.ConfigDict(settings).to_json())


def _begin(folder: Path, settings: dict[str, Any]) -> None:
  """Starts a preparation or resumes one with the same settings."""
  (folder / 'parts').mkdir(parents=True, exist_ok=True)
  path = folder / _SETTINGS
  if not path.exists():
    files.write(path, json.dumps(settings))
  begun = files.read_json(path)
  for name in settings.keys() | begun.keys():
    before, now = begun.get(name), settings.get(name)
    if before != now:
      raise UserError(
        f'{folder} has records prepared with {name}={before}, not {now}: name '
        'another folder with `config.data.records`, or remove this one'
      )


def _gather(
  jobs: list[Job], settings: dict[str, Any]
) -> records_writer.Contents:
  """Returns the contents of the data set according to the notes."""
  # To their indices, in the order of the jobs.
  videos: dict[str, int] = {}
  references: dict[int, int] = {}
  left_out: dict[str, str] = {}
  runs, frame_parts, reference_parts = [], [], []
  digest = hashlib.sha1()
  for job in jobs:
    note = files.read_json(job.note)
    left_out |= note['left_out']
    digest.update(note['digest'].encode())
    for video, start, frames in note['runs']:
      place = videos.setdefault(video, len(videos))
      runs.append((place, start, frames))
    if note['runs']:
      frame_parts.append(records_writer.Part(job.part, 0, note['frames']))
    for place, number in enumerate(note['references'], note['frames']):
      if number not in references:
        references[number] = len(references)
        reference_parts.append(records_writer.Part(job.part, place, 1))
  return records_writer.Contents(
    size=tuple(settings['size']),
    settings=settings,
    videos=list(videos),
    runs=runs,
    references=list(references),
    left_out=left_out,
    fingerprint=digest.hexdigest(),
    frame_parts=frame_parts,
    reference_parts=reference_parts,
  )


def _is_written(folder: Path, contents: records_writer.Contents) -> bool:
  """Whether the data set already exists with these contents."""
  try:
    opened = records.Records(folder)
  except (FileNotFoundError, UserError):
    return False
  return (opened.fingerprint, opened.left_out) == (
    contents.fingerprint,
    contents.left_out,
  )
