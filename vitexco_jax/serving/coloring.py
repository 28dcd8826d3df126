"""The colored video of a session: made by a job, continued after a stop.

Segments of the video stay in the folder of the session (see `inference.film`), so
that a job that stopped or failed continues, and a change recolors only what it
touches.
"""

import contextlib
import shutil
import time
from pathlib import Path

import jax
import numpy as np

from vitexco_jax.config import override
from vitexco_jax.inference import film, kept_work, outputs, plan, schedule
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video
from vitexco_jax.serving import disk_quota, drawings, programs, uploads
from vitexco_jax.serving.jobs import Job, Preview
from vitexco_jax.serving.output_settings import Settings

_PREVIEW_SECONDS = 1.0


class Coloring:
  """The colored video of one session.

  Attributes:
    result: the video, once it is complete.
    warnings: sentences about it.
  """

  def __init__(self, quota: disk_quota.DiskQuota):
    """Writes nothing yet.

    Args:
      quota: of a parent folder.
    """
    self._quota = quota
    self._settings = Settings()
    self._output: Path | None = None
    self._confidences = np.empty(0)
    self.result: Path | None = None
    self.warnings: list[str] = []

  def run(
    self,
    job: Job,
    colorizer: VideoColorizer,
    path: Path,
    planned: plan.Plan,
    surveyed: plan.Survey,
    settings: Settings,
  ) -> None:
    """Colorizes a video, or what an earlier run has not done.

    Args:
      job: is advanced.
      colorizer: the engine.
      path: of the video, in the folder of the session.
      planned: its plan.
      surveyed: its survey.
      settings: of the result.

    Raises:
      UserError: the video cannot be colorized, or there is no room.
    """
    self.forget_result()
    programs.keep_only(path)
    output = uploads.result_path(path, job.sandbox, settings.coding)
    if (output, settings) != (self._output, self._settings):
      self.forget()
    self._output, self._settings = output, settings
    colorizer = sized(colorizer, settings)
    devices = jax.local_devices()[: schedule.count_parts(planned)]
    work = film.Film(
      [colorizer.on(device) for device in devices],
      path,
      planned,
      output,
      # Browsers do not deinterlace, so combing would be visible.
      options=settings.options(deinterlace=surveyed.interlaced > 0),
      opener=job.sandbox,
      keep_work=True,
    )
    self.warnings = [f'left out of {missing}' for missing in work.left_out]
    self._confidences = work.confidences
    try:
      self._check_room(planned, colorizer, len(devices))
      self._follow(job, work, schedule.count_steps(planned))
    except disk_quota.FullError:
      self.forget()  # Others need the room.
      raise
    self.warnings += work.doubts()
    self.result = output

  def _check_room(
    self, planned: plan.Plan, colorizer: VideoColorizer, workers: int
  ) -> None:
    size = tuple(colorizer.config.use.size)
    scratch = schedule.scratch_bytes(planned, size, workers)
    # The segments are copied into one file.
    self._quota.check(scratch + sum(map(disk_quota.size, self._kept())))

  def _follow(self, job: Job, work: film.Film, total: int) -> None:
    """Runs a film and shows its progress."""
    due = 0.0
    with contextlib.closing(work.run()) as steps:
      for step in steps:
        job.advance(step.done, total)
        last = step.done == total
        self._quota.check(last and sum(map(disk_quota.size, self._kept())))
        if step.rgb is not None and (last or time.monotonic() >= due):
          due = time.monotonic() + _PREVIEW_SECONDS
          job.preview = Preview(
            step.number, *map(drawings.preview, (step.gray, step.rgb))
          )

  @property
  def ranges(self) -> list[list[int]]:
    """[start, stop] of the frames in color, in order."""
    edges = np.diff(~np.isnan(self._confidences), prepend=False, append=False)
    return np.flatnonzero(edges).reshape(-1, 2).tolist()

  @property
  def kept(self) -> int:
    """Number of frames in color."""
    return int((~np.isnan(self._confidences)).sum())

  def read(self, number: int) -> bytes | None:
    """Returns a frame in color as JPEG; None: it is not colorized yet.

    Raises:
      UserError: a job writes it again now.
    """
    place = self._output and kept_work.find_segment(self._output, number)
    if not place:
      return None
    segment, index = place
    with video.VideoReader(segment) as reader:
      reader.skip(index)
      frame = next(reader, None)
    return None if frame is None else drawings.preview(frame.rgb)

  def forget_result(self) -> None:
    """Removes the result; its segments stay."""
    self.warnings = []
    if self.result:
      self.result.unlink(missing_ok=True)
      self.result = None

  def forget(self) -> None:
    """Removes the result and its segments."""
    self.forget_result()
    for folder in self._kept():
      shutil.rmtree(folder, ignore_errors=True)
    self._output, self._confidences = None, np.empty(0)

  def _kept(self) -> list[Path]:
    """Folders of segments."""
    if self._output is None:
      return []
    return [
      outputs.part_folder(self._output),
      outputs.work_folder(self._output),
    ]


def sized(colorizer: VideoColorizer, settings: Settings) -> VideoColorizer:
  """Returns a colorizer without references at the working size of settings."""
  own = colorizer.on(jax.local_devices()[0])
  if settings.working_size is not None:
    own.config = override(own.config, {'use.size': settings.working_size})
  return own
