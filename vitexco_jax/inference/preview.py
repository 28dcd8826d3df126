"""--preview: colorizes one frame of each shot into contact sheets."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tqdm

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import joining
from vitexco_jax.inference.outputs import Options
from vitexco_jax.inference.reference_pictures import ReferencePictures
from vitexco_jax.inference.shot_plan import Plan, Shot, clock
from vitexco_jax.inference.source import Source
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import image_grid, sandbox, video

_ROWS = 60  # Shots of a sheet.
_DEFAULT_OPTIONS = Options()
_logger = logging.getLogger(__name__)


def check_output(output: Path, overwrite: bool, inputs: Iterable[Path]) -> None:
  """Raises UserError unless contact sheets can be written."""
  if video.output_kind(output) != 'image':
    raise UserError(
      f'`output={output}` must be an image for a preview, such as preview.jpg'
    )
  files.check_writable(output.with_name(f'{output.stem}_999{output.suffix}'))
  files.check_apart([output], inputs)
  video.check_free(output, overwrite)


def preview(
  colorizer: VideoColorizer,
  video_path: Path,
  plan: Plan,
  output: Path,
  overwrite: bool = False,
  options: Options = _DEFAULT_OPTIONS,
  frames: range | None = None,
) -> None:
  """Writes contact sheets: a frame of each shot, gray and in color.

  The frame is colorized alone, by matching. Colors that motion would carry from a
  bound still may differ in the film.

  Args:
    colorizer: the engine.
    video_path: the film.
    plan: of the film.
    output: the first sheet. Others, of sixty shots each, are named _2 and so on.
    overwrite: whether to replace images that exist.
    options: saturation, smoothing, and deinterlacing.
    frames: only shots with these are drawn; None: all.

  Raises:
    UserError: an input cannot be read, or an output cannot be written.
  """
  shown = range(plan.frames) if frames is None else frames
  numbered = [
    (number, shot)
    for number, shot in enumerate(plan.shots, 1)
    if shot.start < shown.stop and shot.stop > shown.start
  ]
  pages = [
    output if start == 0 else output.with_stem(f'{output.stem}_{place}')
    for place, start in enumerate(range(0, len(numbered), _ROWS), 1)
  ]
  for page in pages:
    video.check_free(page, overwrite)
  shots = [x for _, x in numbered]
  rows = _colorize(colorizer, video_path, plan, shots, options)
  bar = tqdm.tqdm(rows, 'preview', len(numbered), unit='shot')
  rows = iter(bar)
  for place, page in enumerate(pages):
    part = numbered[place * _ROWS : (place + 1) * _ROWS]
    pictures, labels = [], []
    for number, shot in part:
      frame, confidence, row = next(rows)
      names = ', '.join(Path(x.picture).name for x in shot.references)
      time = clock(frame / plan.frame_rate)
      label = f'{number}, {time}, frame {frame}: {names or "stays as it is"}'
      if confidence is not None:
        label += f', confidence {confidence:.2f}'
      pictures.append(row)
      labels.append(label)
    video.write_image(page, image_grid.draw(pictures, labels))
  bar.close()
  _logger.info(f'Preview of {len(numbered)} shots: {" ".join(map(str, pages))}')


def choose(shot: Shot) -> int:
  """Returns the frame of a shot that its bound references show least.

  It is the farthest from all of them, or the one in the middle.
  """
  bound = sorted(x.frame for x in shot.references if x.frame is not None)
  if not bound:
    return (shot.start + shot.alone_stop) // 2
  numbers = range(shot.start, shot.alone_stop)
  return max(numbers, key=lambda x: min(abs(x - frame) for frame in bound))


def colorize_frame(
  colorizer: VideoColorizer,
  gray: np.ndarray,
  shot: Shot,
  pictures: ReferencePictures,
  options: Options,
) -> tuple[np.ndarray, float, list[np.ndarray]]:
  """Colorizes a frame alone, by matching.

  Args:
    colorizer: the engine.
    gray: [h, w, 3] uint8, the frame.
    shot: has the references, and is not skipped.
    pictures: read them.
    options: saturation and smoothing.

  Returns:
    The frame in color, its mean confidence, and the references.

  Raises:
    UserError: a reference cannot be read.
  """
  references = [
    pictures.read(x, shot.borders)
    for x in (() if shot.by_prior else shot.references)
  ]
  colorizer.set_reference(*references)
  (block,) = colorizer.predict([shot.borders.crop(gray)])
  colored = gray.copy()
  (inner,) = joining.join(block.rgb, block.ab, options)
  shot.borders.crop(colored)[:] = inner
  return colored, float(np.mean(block.confidence)), references


def _colorize(
  colorizer: VideoColorizer,
  path: Path,
  plan: Plan,
  shots: Sequence[Shot],
  options: Options,
) -> Iterator[tuple[int, float | None, list[np.ndarray]]]:
  """Yields for each shot a frame, its confidence, and a row of pictures."""
  deinterlace = options.deinterlace
  opened = sandbox.DIRECT, path, deinterlace
  pictures = ReferencePictures(
    *opened, (plan.height, plan.width), colorizer.bound
  )
  source = Source(sandbox.DIRECT, path, deinterlace=deinterlace)
  with contextlib.closing(source):
    for shot in shots:
      number = choose(shot)
      frame = next(source.frames(number, number + 1), None)
      if frame is None:
        raise UserError(
          f'{path} has no frame {number}, but its plan does: make another plan'
        )
      if shot.skipped:
        yield number, None, [frame.rgb]
        continue
      colored, confidence, references = colorize_frame(
        colorizer, frame.rgb, shot, pictures, options
      )
      row = [frame.rgb, colored]
      row.extend(references)
      yield number, confidence, row
