"""--mode=prepare: a folder of videos becomes a training set (Sec. IV).

  video -> every `frame_step`-th frame -> scaled and cropped to `size` -> runs of
  at most `run_length` frames -> flow and visibility between neighbours -> record

A video is a file or a folder of images. Each is prepared by itself, by one of
several processes, into a shard of its own with a note (JSON) of what became of
it; the note is written last. So the records do not depend on the number of
processes, and a preparation that was stopped goes on with the videos that have
no note yet. The manifest gathers the notes when all are there.
"""

import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files, flow, records
from vitexco_jax.errors import UserError
from vitexco_jax.video import IMAGE_SUFFIXES, VideoReader

_SETTINGS = 'settings.json'
_GREY_BELOW = 2.0  # Mean chroma in Lab; compression tints grey film by about 1.


class _Job(NamedTuple):
  """One video to prepare."""

  video: str  # Its name in the manifest.
  path: Path
  folder: Path  # Where records go.
  settings: dict[str, Any]

  @property
  def shard(self) -> str:
    """File name: readable, and different for any two videos."""
    digest = hashlib.sha1(os.fsencode(self.video)).hexdigest()[:10]
    stem = re.sub('[^A-Za-z0-9_-]', '_', Path(self.video).stem)[:60]
    return f'{stem}-{digest}.array_record'

  @property
  def note(self) -> Path:
    return self.folder / self.shard.replace('.array_record', '.json')


def prepare(
  config: ml_collections.ConfigDict, videos: Path, workers: int | None = None
) -> records.Manifest:
  """Prepares videos for training, into `config.data.records`.

  Args:
    config: its `data` says how.
    videos: a folder, searched through and through, or a text file with the path
      of a video on each line, from where the program runs.
    workers: processes; by default one for each core.

  Returns:
    The manifest, as it was written: of these videos. Records of others that
    were prepared into the same folder stay there, unlisted.

  Raises:
    UserError: `videos` is missing or holds nothing usable, or the records'
      folder holds records of other settings.
  """
  folder = Path(config.data.records)
  settings = _settings(config.data)
  paths = _find_videos(videos, folder)
  jobs = [_Job(video, path, folder, settings) for video, path in paths.items()]
  try:
    _begin(folder, settings)
    _run_all(jobs, workers)
    manifest = _gather(jobs, settings)
    if manifest.records:
      manifest.write(folder)
  except concurrent.futures.BrokenExecutor as error:
    raise UserError(
      'a process of the preparation was killed, perhaps for want of memory; '
      'run again, what is prepared is kept'
    ) from error
  except OSError as error:
    raise UserError(
      f'cannot write records to {folder}: {error}; mend that and run again, '
      'what is prepared is kept'
    ) from error

  for video, reason in manifest.left_out.items():
    print(f'left out {video}: {reason}')
  if not manifest.records:
    raise UserError(
      f'nothing to train on in --videos={videos}: '
      f'every one of {len(jobs)} videos is left out'
    )
  frames = sum(entry.frames for entry in manifest.records)
  sources = len({entry.video for entry in manifest.records})
  print(
    f'{folder}: {frames} frames of {sources} videos in '
    f'{len(manifest.records)} records'
  )
  return manifest


def _settings(data: ml_collections.ConfigDict) -> dict[str, Any]:
  """What the records depend on, as JSON gives it back."""
  if min(data.size) < 32 or any(side % 16 for side in data.size):
    raise UserError(
      f'config.data.size={tuple(data.size)} must be at least 32 and a multiple '
      'of 16 on both sides'
    )
  if data.frame_step < 1:
    raise UserError(
      f'config.data.frame_step={data.frame_step} must be at least 1'
    )
  if not 2 <= data.min_frames <= (data.run_length + 1) // 2:
    raise UserError(
      f'config.data.min_frames={data.min_frames} must be at least 2 and at '
      f'most half of config.data.run_length={data.run_length}'
    )
  if data.flow not in flow.METHODS:
    raise UserError(
      f'config.data.flow={data.flow} must be {" or ".join(flow.METHODS)}'
    )
  return {
    'size': list(data.size),
    'frame_step': data.frame_step,
    'run_length': data.run_length,
    'min_frames': data.min_frames,
    'flow': data.flow,
  }


def _find_videos(videos: Path, folder: Path) -> dict[str, Path]:
  """Names and paths, in an order that does not depend on the file system."""
  if videos.is_dir():
    found = dict(_search(videos, folder))
  elif videos.is_file():
    try:
      lines = [line.strip() for line in videos.read_text().splitlines()]
    except UnicodeDecodeError as error:
      raise UserError(
        f'--videos={videos} must be a folder of videos or a text file that '
        'lists them'
      ) from error
    found = {line: Path(line) for line in lines if line}
  else:
    raise UserError(f'--videos={videos} does not exist')
  if not found:
    raise UserError(f'--videos={videos} holds no files')
  return found


def _search(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
  """Yields the names and paths of what may be videos below a folder."""
  for path in sorted(root.rglob('*')):
    name = path.relative_to(root)
    hidden = any(part.startswith('.') for part in name.parts)
    ours = folder.resolve() in path.resolve().parents
    if hidden or ours or not path.is_file():
      continue
    if path.suffix.lower() in IMAGE_SUFFIXES:
      path, name = path.parent, name.parent
    yield name.as_posix(), path


def _begin(folder: Path, settings: dict[str, Any]):
  """Starts a preparation, or goes on with one of the same settings."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / _SETTINGS
  if not path.exists():
    files.write(path, json.dumps(settings))
  begun = json.loads(path.read_text())
  for name, value in settings.items():
    if begun[name] != value:
      raise UserError(
        f'{folder} holds records prepared with config.data.{name}='
        f'{begun[name]}, not {value}; name another folder by '
        '--config.data.records or remove that one'
      )


def _run_all(jobs: list[_Job], workers: int | None):
  """Prepares the videos that are not done yet."""
  total = len(jobs)
  jobs = [job for job in jobs if not _is_done(job)]
  workers = min(workers or os.cpu_count() or 1, len(jobs))
  with tqdm.tqdm(
    total=total, initial=total - len(jobs), unit='video', desc='prepare'
  ) as progress:
    if workers <= 1:
      for job in jobs:
        _prepare_video(job)
        progress.update()
      return
    # Spawned, because a fork of a process that runs JAX can hang.
    with concurrent.futures.ProcessPoolExecutor(
      workers,
      multiprocessing.get_context('spawn'),
      initializer=_start_worker,
    ) as pool:
      futures = [pool.submit(_prepare_video, job) for job in jobs]
      try:
        for future in concurrent.futures.as_completed(futures):
          future.result()
          progress.update()
      except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def _start_worker():
  cv2.setNumThreads(1)  # There is a process for every core.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
  """Workers would outlive a parent that is killed, and write on."""
  multiprocessing.parent_process().join()
  os._exit(1)


def _is_done(job: _Job) -> bool:
  """Whether there is a note on this very file, and the shard it speaks of."""
  try:
    note = json.loads(job.note.read_text())
  except FileNotFoundError:
    return False
  shard = not note['runs'] or (job.folder / job.shard).exists()
  return shard and note['bytes'] == _bytes(job.path)


def _gather(jobs: list[_Job], settings: dict[str, Any]) -> records.Manifest:
  entries, left_out = [], {}
  for job in jobs:
    note = json.loads(job.note.read_text())
    for index, (start, frames) in enumerate(note['runs']):
      entries.append(records.Entry(job.shard, index, job.video, start, frames))
    if note['left_out']:
      left_out[job.video] = note['left_out']
  return records.Manifest(settings, entries, left_out)


def _prepare_video(job: _Job):
  """Writes the shard of a video, if anything is usable, and its note."""
  shard = job.folder / job.shard
  shard.unlink(missing_ok=True)
  runs = []
  frames_seen = 0
  try:
    with records.ShardWriter(shard) as writer:
      for rgb in _split(_read(job), job.settings['run_length']):
        start = frames_seen
        frames_seen += len(rgb)
        if len(rgb) < job.settings['min_frames'] or _is_grey(rgb):
          continue
        run = _with_flow(rgb, job.settings['flow'])
        writer.write(records.encode(run))
        runs.append((start, len(rgb)))
    left_out = _why_left_out(job, frames_seen, sum(n for _, n in runs))
  except UserError as error:
    runs, left_out = [], str(error).removeprefix(str(job.path)).lstrip(': ')
  note = {
    'video': job.video,
    'bytes': _bytes(job.path),
    'runs': runs,
    'left_out': left_out,
  }
  files.write(job.note, json.dumps(note))


def _why_left_out(job: _Job, seen: int, kept: int) -> str:
  if seen < job.settings['min_frames']:
    return f'too short ({seen} of at least {job.settings["min_frames"]} frames)'
  if kept == 0:
    return 'black-and-white'
  if kept < seen:
    return f'black-and-white in part ({seen - kept} of {seen} frames)'
  return ''


def _read(job: _Job) -> Iterator[np.ndarray]:
  """Yields every `frame_step`-th frame at the records' size."""
  with VideoReader(job.path) as reader:
    for index, frame in enumerate(reader):
      if index % job.settings['frame_step'] == 0:
        yield _scale_and_crop(frame.rgb, job.settings['size'])
    if reader.lost:
      raise UserError(f'damaged or cut short ({reader.lost} frames lost)')


def _scale_and_crop(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Scales to cover `size` = (height, width), crops what stands out evenly."""
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


def _split(frames: Iterable[np.ndarray], longest: int) -> Iterator[np.ndarray]:
  """Splits a video into runs [t, h, w, 3] of at most `longest` frames.

  No run of a longer video has less than half of that, and no more than twice
  that is held at a time.
  """
  held = []
  for frame in frames:
    held.append(frame)
    if len(held) == 2 * longest:
      yield np.stack(held[:longest])
      del held[:longest]
  parts = -(-len(held) // longest)
  for part in range(parts):
    first, last = (len(held) * i // parts for i in (part, part + 1))
    yield np.stack(held[first:last])


def _is_grey(rgb: np.ndarray) -> bool:
  small = [cv2.resize(frame, None, fx=0.25, fy=0.25) for frame in rgb]
  lab = cv2.cvtColor(np.float32(np.concatenate(small)) / 255, cv2.COLOR_RGB2LAB)
  return np.linalg.norm(lab[..., 1:], axis=-1).mean() < _GREY_BELOW


def _with_flow(rgb: np.ndarray, method: str) -> records.Run:
  forward, visible = [], []
  for earlier, later in zip(rgb[:-1], rgb[1:], strict=True):
    there = flow.estimate_flow(earlier, later, method)
    back = flow.estimate_flow(later, earlier, method)
    forward.append(there)
    visible.append(flow.visible_mask(there, back))
  return records.Run(rgb, np.stack(forward), np.stack(visible))


def _bytes(path: Path) -> int | None:
  """The size of a file, by which a changed one is known; None if missing."""
  try:
    return path.stat().st_size
  except OSError:
    return None
