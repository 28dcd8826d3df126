"""--mode=colorize: colorizes a video file, a folder of frames, or an image."""

import collections
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tqdm

from vitexco_jax.inference import (
  cluster,
  film,
  joining,
  plan,
  preflight,
  ranges,
  run_summary,
  schedule,
)
from vitexco_jax.inference.film_job import Step
from vitexco_jax.inference.outputs import Options, part_folder
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import image_grid, video

_PREVIEW_SECONDS = 5.0
_PREVIEW_COLUMNS = 4

_DEFAULT_OPTIONS = Options()
_logger = logging.getLogger(__name__)


def colorize(
  colorizer: VideoColorizer,
  video_path: Path,
  pictures: Sequence[str],
  output: Path,
  overwrite: bool = False,
  options: Options = _DEFAULT_OPTIONS,
  *,
  plan_path: Path | None = None,
  references: Path | None = None,
  gallery: Path | None = None,
  config: ml_collections.ConfigDict | None = None,
  frame_rate: Fraction | None = None,
  keep_work: bool | None = False,
  frames: ranges.Span | None = None,
  workers: cluster.Workers | None = None,
) -> None:
  """Colorizes a video file, a folder of frames, or an image.

  Args:
    colorizer: the engine.
    video_path: what to colorize.
    pictures: color pictures for all shots, with `first-frame` for the first frame
      of the video; or only `auto` or only `none`; empty with `plan_path` or
      `references`.
    output: a video file, a folder, or an image.
    overwrite: whether to replace an output that exists.
    options: of the output.
    plan_path: a plan to follow.
    references: pictures to choose from; see `plan.list_references`.
    gallery: where `auto` searches.
    config: its `retrieval` sets how pictures are compared, which `references` and
      `gallery` need.
    frame_rate: of a folder of frames; None: 25, or the rate of the plan.
    keep_work: see `film.Film`.
    frames: the part to colorize; None: everything.
    workers: those of a cluster, which color instead of `colorizer`.

  Raises:
    UserError: an input cannot be used, or the output cannot be written.
  """
  if plan.NONE in pictures:
    colorizer.check_prior()
  warnings = preflight.check(
    video_path,
    pictures,
    output,
    overwrite,
    options,
    plan_path=plan_path,
    references=references,
    gallery=gallery,
    frame_rate=frame_rate,
    frames=frames,
  )
  for warning in warnings:
    _logger.warning('%s', warning)
  film_plan, part = get_plan(
    config,
    video_path,
    pictures,
    plan_path,
    references,
    gallery,
    frame_rate,
    frames,
    colorizer,
  )
  if workers is not None:  # They do not have the same current folder.
    video_path, output = video_path.absolute(), output.absolute()
    film_plan = film_plan.absolute()
  devices = jax.local_devices()[: schedule.count_parts(film_plan)]
  colorizers = [colorizer.on(device) for device in devices]
  job = film.Film(
    colorizers,
    video_path,
    film_plan,
    output,
    overwrite,
    options,
    keep_work=keep_work,
    frames=part,
    workers=workers,
  )
  preview = _Preview(part_folder(output) / 'preview.jpg')
  if workers is None:
    _logger.info(f'Preview, updated while it runs: {preview.path}')
    _logger.info('The networks are compiled first, which takes up to a minute')
  colored, seconds = _color(job, preview)
  for doubt in job.doubts():
    _logger.warning('%s', doubt)
  _logger.info(
    run_summary.summarize(
      options.outputs(output),
      film_plan,
      job.confidences,
      job.unsure(),
      colored,
      seconds,
    )
  )


def _color(job: film.Film, preview: '_Preview') -> tuple[int, float]:
  """Runs a job with a progress bar.

  Returns:
    The number of colorized frames and, without the compilation, the seconds.
  """
  steps = job.run()
  first = next(steps, None)
  if first is None:
    return 0, 0.0
  # Neither the compilation nor frames of an earlier run count as speed.
  with tqdm.tqdm(
    None, None, job.steps, unit='frame', initial=first.done, smoothing=0
  ) as bar:
    preview.show(first)
    colored = int(first.rgb is not None)
    for step in steps:
      bar.update(step.done - bar.n)
      preview.show(step)
      colored += step.rgb is not None
    return colored, bar.format_dict['elapsed']


def get_plan(
  config: ml_collections.ConfigDict | None,
  video_path: Path,
  pictures: Sequence[str],
  plan_path: Path | None = None,
  references: Path | None = None,
  gallery: Path | None = None,
  frame_rate: Fraction | None = None,
  frames: ranges.Span | None = None,
  colorizer: VideoColorizer | None = None,
) -> tuple[plan.Plan, range | None]:
  """Reads or makes a plan; see `colorize` for the arguments.

  Returns:
    The plan, and the numbers of the frames of the part, if there is one.
  """
  if plan_path is not None:
    film_plan = _read_plan(plan_path, video_path, frame_rate)
    if frames is None:
      return film_plan, None
    return film_plan, ranges.resolve(frames, _times(video_path, film_plan))
  film_plan, surveyed = plan.make_plan(
    config, video_path, pictures, references, gallery, frame_rate, colorizer
  )
  if references is not None or gallery is not None:
    _logger.info(plan.table(film_plan, surveyed.seconds))
  if frames is None:
    return film_plan, None
  return film_plan, ranges.resolve(frames, surveyed.seconds)


def _times(video_path: Path, film_plan: plan.Plan) -> Iterator[float]:
  """Yields the time of each frame of a plan, in seconds from the first."""
  with video.VideoReader(video_path) as reader:
    form = reader.format
    if reader.kind == 'folder':
      form = form.at(film_plan.frame_rate)
    stamps = (frame.pts or 0 for frame in reader)  # Readers set them.
    first = None
    for stamp in itertools.islice(stamps, film_plan.frames):
      first = stamp if first is None else first
      yield float((stamp - first) * form.tick)


def _read_plan(
  path: Path, video_path: Path, frame_rate: Fraction | None
) -> plan.Plan:
  """Reads a plan; warns if it omits frames at the end of the video."""
  film_plan = plan.read(path)
  if frame_rate is not None:
    film_plan = film_plan._replace(frame_rate=frame_rate)
  with video.VideoReader(video_path) as reader:
    expected = reader.num_frames or 0
  if expected > 1.05 * film_plan.frames:  # For some files an estimate.
    _logger.warning(
      '%s ends after %d frames, but %s may have %d: the others are left out',
      path,
      film_plan.frames,
      video_path,
      expected,
    )
  return film_plan


class _Preview:
  """An image of the newest frames, updated every few seconds."""

  def __init__(self, path: Path):
    self.path = path
    self._columns: collections.deque[list[np.ndarray]] = collections.deque(
      maxlen=_PREVIEW_COLUMNS
    )
    self._due = 0.0

  def show(self, step: Step) -> None:
    if step.rgb is None or time.monotonic() < self._due:
      return
    self._due = time.monotonic() + _PREVIEW_SECONDS
    self._columns.append(
      [joining.shallow(step.gray), joining.shallow(step.rgb)]
    )
    rows = list(zip(*self._columns, strict=True))
    labels = (f'up to frame {step.number}', 'colorized')
    video.write_image(self.path, image_grid.draw(rows, labels))
