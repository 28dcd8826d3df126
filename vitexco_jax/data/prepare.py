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
After all jobs, `records.write` assembles the data set from their files.
"""

import collections
import concurrent.futures
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import shlex
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files, flow
from vitexco_jax.config import check
from vitexco_jax.data import records, synthetic_motion
from vitexco_jax.errors import UserError
from vitexco_jax.media import quality, shots
from vitexco_jax.media.video import (
  IMAGE_SUFFIXES,
  VideoReader,
  image_files,
  read_image,
)
from vitexco_jax.retrieval import embedding
from vitexco_jax.retrieval.gallery import Gallery, open_with_embedder

_SETTINGS = 'settings.json'
_IMAGES_PER_JOB = 256
_MOTION_STEP = 4  # Frames between measurements of motion.


class _Job(NamedTuple):
  """A unit of work for one process."""

  paths: dict[str, Path]  # By name: a video, or pictures.
  stills: bool
  folder: Path  # Of the parts.
  config: str  # JSON.
  gallery: Path | None

  @property
  def part(self) -> Path:
    """The file of its records, with a readable and unique name."""
    digest = hashlib.sha1(os.fsencode('\n'.join(self.paths))).hexdigest()[:10]
    stem = re.sub('[^A-Za-z0-9_-]', '_', Path(next(iter(self.paths))).stem)
    return self.folder / f'{stem[:60]}-{digest}.array_record'

  @property
  def note(self) -> Path:
    """The file of its results."""
    return self.part.with_suffix('.json')


class _UnusableError(Exception):
  """A video cannot be used at all; the message is the reason."""


class _Frame(NamedTuple):
  """A frame of a video."""

  shot: int
  index: int  # In the video.
  rgb: np.ndarray  # [h, w, 3] uint8, at the records' size.
  measures: quality.Measures


class _Run(NamedTuple):
  """Consecutive frames to be written."""

  video: str
  indices: list[int]  # Of the frames in the video.
  rgb: list[np.ndarray]
  motion: list[tuple[np.ndarray, np.ndarray] | None]  # None for the last.


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
  settings = _settings(config, gallery)
  jobs = list(_jobs(config, videos, images, gallery))
  try:
    _begin(folder, settings)
    _run_all(jobs, workers, beam)
    contents = _gather(jobs, settings)
    for name, reason in contents.left_out.items():
      print(f'left out {name}: {reason}')
    if not contents.runs:
      raise UserError(
        f'no usable training data in --videos={videos}, --images={images}: all '
        f'{len(contents.left_out)} are left out'
      )
    if _is_written(folder, contents):
      print(f'{folder} is up to date')
    else:
      records.write(folder, contents)
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
  print(
    f'{folder}: {len(opened)} frames of {len(contents.videos)} videos and '
    f'pictures in {len(opened.runs)} runs, {len(contents.references)} '
    f'references, {opened.bytes / 1e6:.0f} MB; fingerprint {opened.fingerprint}'
  )
  return opened


def _settings(
  config: ml_collections.ConfigDict, gallery: Path | None
) -> dict[str, Any]:
  """Returns the settings that the records depend on, as JSON values."""
  data = config.data
  names = 'size frame_step run_length min_frames flow quality'
  settings = {name: data[name] for name in names.split()}
  settings['seed'] = config.seed
  if gallery is not None:
    opened = Gallery.open(gallery, config.retrieval.index)
    retrieval = config.retrieval.to_dict()
    retrieval['grey'] = retrieval.pop(
      'gray'
    )  # As in records of earlier versions.
    del retrieval['weights']  # The gallery identifies them.
    settings['retrieval'] = retrieval
    settings['gallery'] = opened.fingerprint
  return json.loads(ml_collections.ConfigDict(settings).to_json())


def prepare_job(job: _Job):
  """Writes the usable records of a job and its note."""
  job.part.unlink(missing_ok=True)
  config = ml_collections.ConfigDict(json.loads(job.config))
  make_runs = _still_runs if job.stills else _video_runs
  note = {'runs': [], 'frames': 0, 'references': [], 'left_out': {}}
  try:
    with records.PartWriter(job.part) as writer:
      for run in make_runs(job, config, note['left_out']):
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
  except _UnusableError as error:
    (name,) = job.paths
    note |= {'runs': [], 'references': [], 'left_out': {name: str(error)}}
  note['digest'] = writer.digest if note['runs'] else ''
  note['bytes'] = _bytes(job)
  files.write(job.note, json.dumps(note))


def _video_runs(
  job: _Job, config: ml_collections.ConfigDict, left_out: dict[str, str]
) -> Iterator[_Run]:
  """Yields the usable runs of a video; adds reasons of others to `left_out`."""
  ((name, path),) = job.paths.items()
  refused = collections.Counter()
  seen = 0
  for frames in _read_runs(path, config.data):
    seen += len(frames)
    if len(frames) < config.data.min_frames:
      reason = f'shots of fewer than {config.data.min_frames} frames'
    else:
      measures = [frame.measures for frame in frames]
      sampled = [frame.rgb for frame in frames[::_MOTION_STEP]]
      reason = quality.why_refused(measures, sampled, config.data.quality)
    if reason:
      refused[reason] += len(frames)
      continue
    rgb = [frame.rgb for frame in frames]
    motion = [
      _estimate_motion(*pair, config.data.flow)
      for pair in itertools.pairwise(rgb)
    ]
    yield _Run(name, [frame.index for frame in frames], rgb, [*motion, None])
  if refused:
    left_out[name] = ', '.join(
      reason if count == seen else f'{reason} ({count} of {seen} frames)'
      for reason, count in refused.items()
    )


def _still_runs(
  job: _Job, config: ml_collections.ConfigDict, left_out: dict[str, str]
) -> Iterator[_Run]:
  """Yields a pair of frames for each usable picture."""
  for name, path in job.paths.items():
    digest = hashlib.sha1(f'{config.seed} {name}'.encode()).digest()
    rng = np.random.default_rng(list(digest))
    try:
      decoded = read_image(path)
      scaled = _scale_and_crop(decoded, config.data.size)
      measures = [quality.measure(decoded, scaled)]
      reason = quality.why_refused(measures, [scaled], config.data.quality)
    except UserError as error:
      reason = _without_path(error, path)
    if reason:
      left_out[name] = reason
      continue
    pair = synthetic_motion.make_pair(decoded, config.data.size, rng)
    yield _Run(name, [0, 0], list(pair.rgb), [(pair.flow, pair.visible), None])


def _read_runs(
  path: Path, data: ml_collections.ConfigDict
) -> Iterator[list[_Frame]]:
  """Yields every `frame_step`-th frame of a video, in runs within shots.

  Raises:
    _UnusableError: the video cannot be read to its end.
  """
  try:
    with VideoReader(path) as reader:
      shots_ = itertools.groupby(_read(reader, data), lambda frame: frame.shot)
      for _, frames in shots_:
        yield from _split(frames, data.run_length)
      lost = reader.lost
  except UserError as error:
    raise _UnusableError(_without_path(error, path)) from error
  if lost:
    raise _UnusableError(f'damaged or cut short ({lost} frames lost)')


def _without_path(error: UserError, path: Path) -> str:
  return str(error).removeprefix(str(path)).lstrip(': ')


def _read(
  reader: VideoReader, data: ml_collections.ConfigDict
) -> Iterator[_Frame]:
  """Yields every `frame_step`-th frame at the size of the records."""
  shot = 0
  marked = shots.mark_cuts(frame.rgb for frame in reader)
  for index, (rgb, begins_shot) in enumerate(marked):
    shot += begins_shot
    if index % data.frame_step:
      continue
    scaled = _scale_and_crop(rgb, data.size)
    yield _Frame(shot, index, scaled, quality.measure(rgb, scaled))


def _split(frames: Iterable[_Frame], longest: int) -> Iterator[list[_Frame]]:
  """Splits a shot into runs of at most `longest` frames.

  The runs of a longer shot have at least `longest / 2` frames. At most
  `2 * longest` frames are in memory.
  """
  buffer = []
  for frame in frames:
    buffer.append(frame)
    if len(buffer) == 2 * longest:
      yield buffer[:longest]
      del buffer[:longest]
  parts = -(-len(buffer) // longest)
  for part in range(parts):
    first, last = (len(buffer) * i // parts for i in (part, part + 1))
    yield buffer[first:last]


def _scale_and_crop(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Scales to cover `size` = (height, width) and crops the center."""
  height, width = rgb.shape[:2]
  scale = max(size[0] / height, size[1] / width)
  scaled = cv2.resize(
    rgb,
    (max(round(width * scale), size[1]), max(round(height * scale), size[0])),
    interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
  )
  top = (scaled.shape[0] - size[0]) // 2
  left = (scaled.shape[1] - size[1]) // 2
  return scaled[top : top + size[0], left : left + size[1]]


def _estimate_motion(
  earlier: np.ndarray, later: np.ndarray, method: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns flow and visibility from the earlier to the later frame."""
  there = flow.estimate_flow(earlier, later, method)
  back = flow.estimate_flow(later, earlier, method)
  return there, flow.visible_mask(there, back)


def _find_references(job: _Job, rgb: list[np.ndarray]) -> list[list[int]]:
  """Returns for each frame the numbers of the most similar pictures."""
  if job.gallery is None:
    return [[]] * len(rgb)
  embed, gallery = _open_gallery(job.gallery, job.config)
  settings = ml_collections.ConfigDict(json.loads(job.config)).retrieval
  best = gallery.best(embed(rgb), settings.count, settings.near_duplicate)
  return [[number for number, _ in pictures] for pictures in best]


@functools.lru_cache(1)
def _open_gallery(path: Path, config: str):
  """Opens the gallery once per process."""
  config = ml_collections.ConfigDict(json.loads(config))
  return open_with_embedder(config, path)


def _write_reference(
  job: _Job, number: int, size: tuple[int, int], writer: records.PartWriter
):
  _, gallery = _open_gallery(job.gallery, job.config)
  rgb = _scale_and_crop(gallery.read(number), size)
  writer.write(records.encode(rgb, gallery.name(number), number))


# --- Jobs and their results ---


def _jobs(
  config: ml_collections.ConfigDict,
  videos: Path | None,
  images: Path | None,
  gallery: Path | None,
) -> Iterator[_Job]:
  """Yields all jobs in an order that depends only on names."""
  folder = Path(config.data.records)
  make = functools.partial(
    _Job, folder=folder / 'parts', config=config.to_json(), gallery=gallery
  )
  if videos is not None:
    for name, path in _find_videos(videos, folder).items():
      yield make({name: path}, stills=False)
  if images is not None:
    by_folder = collections.defaultdict(list)
    for path in _files(images, folder):
      if path.suffix.lower() in IMAGE_SUFFIXES:
        name = path.relative_to(images).as_posix()
        by_folder[path.parent].append((name, path))
    if not by_folder:
      raise UserError(f'--images={images} has no pictures')
    # By folder, so that a new picture does not change the jobs of other folders.
    for pictures in by_folder.values():
      for first in range(0, len(pictures), _IMAGES_PER_JOB):
        group = dict(pictures[first : first + _IMAGES_PER_JOB])
        yield make(group, stills=True)


def _find_videos(videos: Path, folder: Path) -> dict[str, Path]:
  """Returns names and paths in an order independent of the file system."""
  if videos.is_file():
    try:
      lines = [line.strip() for line in files.read_text(videos).splitlines()]
    except UserError as error:
      raise UserError(
        f'--videos={videos} must be a folder of videos or a text file that '
        f'lists them: {error}'
      ) from error
    paths = {line: Path(line) for line in lines if line}
  elif videos.is_dir():
    paths = {}
    for path in _files(videos, folder):
      suffix = path.suffix.lower()
      if suffix in IMAGE_SUFFIXES and suffix != '.gif':  # A folder of frames.
        path = path.parent
      paths[path.relative_to(videos).as_posix()] = path
  else:
    raise UserError(f'--videos={videos} does not exist')
  if not paths:
    raise UserError(f'--videos={videos} has no files')
  return paths


def _files(root: Path, folder: Path) -> Iterator[Path]:
  """Yields files below a folder except hidden ones and those in `folder`."""
  if not root.is_dir():
    raise UserError(f'--images={root} is not a folder')
  for path in sorted(root.rglob('*')):
    name = path.relative_to(root)
    hidden = any(part.startswith('.') for part in name.parts)
    is_output = folder.resolve() in path.resolve().parents
    if not hidden and not is_output and path.is_file():
      yield path


def _begin(folder: Path, settings: dict[str, Any]):
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
        'another folder with --config.data.records, or remove this one'
      )


def _run_all(jobs: list[_Job], workers: int | None, beam: str | None):
  """Runs the jobs that are not done yet."""
  total = sum(len(job.paths) for job in jobs)
  jobs = [job for job in jobs if not _is_done(job)]
  if beam is not None:
    return _run_by_beam(jobs, beam)
  left = sum(len(job.paths) for job in jobs)
  workers = min(workers or os.cpu_count() or 1, len(jobs))
  with tqdm.tqdm(
    total=total, initial=total - left, unit='file', desc='prepare'
  ) as progress:
    if workers <= 1:
      for job in jobs:
        prepare_job(job)
        progress.update(len(job.paths))
      return
    # Spawned, because a fork of a process that runs JAX can hang.
    with concurrent.futures.ProcessPoolExecutor(
      workers,
      multiprocessing.get_context('spawn'),
      initializer=_start_worker,
    ) as pool:
      futures = {pool.submit(prepare_job, job): job for job in jobs}
      try:
        for future in concurrent.futures.as_completed(futures):
          future.result()
          progress.update(len(futures[future].paths))
      except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def _run_by_beam(jobs: list[_Job], options: str):
  """Runs the jobs in an Apache Beam pipeline."""
  try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as error:
    raise UserError(
      '--beam needs Apache Beam: `pip install -r requirements-beam.txt`, '
      'preferably in a separate environment'
    ) from error
  with apache_beam.Pipeline(
    options=PipelineOptions(shlex.split(options))
  ) as pipeline:
    _ = (
      pipeline
      | 'jobs' >> apache_beam.Create(jobs)
      | 'spread' >> apache_beam.Reshuffle()
      | 'prepare' >> apache_beam.Map(prepare_job)
    )


def _start_worker():
  cv2.setNumThreads(1)  # There is one process per core.
  jax.config.update('jax_platforms', 'cpu')  # Processes cannot share a GPU.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
  """Ends a worker whose parent was killed; it would continue to write."""
  multiprocessing.parent_process().join()
  os._exit(1)


def _is_done(job: _Job) -> bool:
  """Whether there is a note for the same files, and its part exists."""
  try:
    note = files.read_json(job.note)
    part = not note['runs'] or job.part.exists()
    return part and note['bytes'] == _bytes(job)
  except (UserError, KeyError):  # The note is missing or damaged.
    return False


def _gather(jobs: list[_Job], settings: dict[str, Any]) -> records.Contents:
  """Returns the contents of the data set according to the notes."""
  videos, references = {}, {}  # To their indices, in the order of the jobs.
  runs, frame_parts, reference_parts, left_out = [], [], [], {}
  digest = hashlib.sha1()
  for job in jobs:
    note = files.read_json(job.note)
    left_out |= note['left_out']
    digest.update(note['digest'].encode())
    for video, start, frames in note['runs']:
      place = videos.setdefault(video, len(videos))
      runs.append((place, start, frames))
    if note['runs']:
      frame_parts.append(records.Part(job.part, 0, note['frames']))
    for place, number in enumerate(note['references'], note['frames']):
      if number not in references:
        references[number] = len(references)
        reference_parts.append(records.Part(job.part, place, 1))
  return records.Contents(
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


def _is_written(folder: Path, contents: records.Contents) -> bool:
  """Whether the data set already exists with these contents."""
  try:
    opened = records.Records(folder)
  except (FileNotFoundError, UserError):
    return False
  return (opened.fingerprint, opened.left_out) == (
    contents.fingerprint,
    contents.left_out,
  )


def _bytes(job: _Job) -> list[int | None]:
  """Returns the sizes of a job's files, to detect changes."""

  def size(path):
    try:
      frames = image_files(path) if path.is_dir() else [path]
      return sum(frame.stat().st_size for frame in frames)
    except OSError:
      return None

  return [size(path) for path in job.paths.values()]
