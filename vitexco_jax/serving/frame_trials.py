"""Colorizes single frames, to try references before the whole video."""

from collections.abc import Iterator, Sequence

from vitexco_jax.inference import plan, preview
from vitexco_jax.inference.reference_pictures import ReferencePictures
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video
from vitexco_jax.serving import coloring, drawings, programs
from vitexco_jax.serving.film_frames import FilmFrames
from vitexco_jax.serving.jobs import Job, Preview
from vitexco_jax.serving.output_settings import Settings


def colorize(
  job: Job,
  colorizer: VideoColorizer,
  surveyed: plan.Survey,
  frames: FilmFrames,
  numbered: Sequence[tuple[int, plan.Shot]],
  settings: Settings,
) -> Iterator[Preview]:
  """Colorizes frames alone, by matching; yields each of them.

  Args:
    job: is advanced, frame by frame.
    colorizer: the engine.
    surveyed: of the video.
    frames: of the video.
    numbered: frames in order, with their shots, which are not skipped.
    settings: of the colors.

  Raises:
    UserError: the video or a reference cannot be read.
  """
  programs.keep_only(frames.path)
  planned = surveyed.plan
  own = coloring.sized(colorizer, settings)
  pictures = ReferencePictures(
    job.sandbox,
    frames.path,
    surveyed.interlaced > 0,
    (planned.height, planned.width),
    own.bound,
  )
  job.begin('trials', len(numbered))
  for done, (number, shot) in enumerate(numbered, 1):
    png = frames.read_still(surveyed, number, job.sandbox)
    gray = video.decode_image(png, frames.path)
    colored, _, _ = preview.colorize_frame(
      own, gray, shot, pictures, settings.options()
    )
    yield Preview(number, *map(drawings.preview, (gray, colored)))
    job.advance(done, len(numbered))
