"""Demo: removes the colors of a video and colorizes it from its first frame.

The network gets the gray frames and, as reference, the first true frame; it sees no
other color of the video. Results are compared with the true colors. For
black-and-white videos, see `colorize`.
"""

import collections
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tqdm

from vitexco_jax import color
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import metrics
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import image_grid, video

_logger = logging.getLogger(__name__)

_STRIP = 'strip.jpg'  # PNG would be four times as large.
_STRIP_COLUMNS = 4
_AHEAD = 8  # Gray frames prepared in advance.


def demo(
  colorizer: VideoColorizer, video_path: str | Path, output: str | Path
) -> dict[str, float]:
  """Removes the colors of a video, colorizes it, and prints the PSNR.

  Args:
    colorizer: the engine.
    video_path: a color video.
    output: folder for `<name>_gray.mp4`, `<name>_color.mp4` and `strip.jpg`,
      which are replaced if they exist.

  Returns:
    Mean PSNR `colored` and `gray` over all frames but the first, which is the
    reference.

  Raises:
    UserError: the video cannot be read, is broken or has a single frame, or the
      output cannot be written.
  """
  output = Path(output)
  stem = Path(video_path).stem
  paths = {
    'gray': output / f'{stem}_gray.mp4',
    'colored': output / f'{stem}_color.mp4',
  }
  psnr: dict[str, list[float]] = {name: [] for name in paths}
  columns = []
  with (
    video.VideoReader(video_path) as reader,
    video.VideoWriter(paths['gray'], reader.format, overwrite=True) as grays,
    video.VideoWriter(
      paths['colored'], reader.format, overwrite=True
    ) as colors,
    tqdm.tqdm(total=reader.num_frames, desc=stem, unit='frame') as bar,
  ):
    with video.VideoReader(video_path) as first:
      colorizer.set_reference(next(first).rgb, first_frame=True)
    last = (reader.num_frames or 1) - 1
    shown = set(np.linspace(0, last, _STRIP_COLUMNS).round().astype(int))
    for i, (frame, gray, colored) in enumerate(_colorized(colorizer, reader)):
      grays.write(frame._replace(rgb=gray))
      colors.write(frame._replace(rgb=colored))
      psnr['gray'].append(metrics.psnr(gray, frame.rgb))
      psnr['colored'].append(metrics.psnr(colored, frame.rgb))
      if i in shown:
        columns.append((frame.rgb, gray, colored))
      bar.update()
    if reader.lost:
      raise UserError(
        f'{video_path} is damaged or cut short ({reader.lost} frames lost): '
        'copy it again or use another video'
      )
    if i == 0:
      raise UserError(
        f'{video_path} has a single frame; the demo needs at least two'
      )

  labels = ('truth; its first frame is the reference', 'gray', 'colored')
  rows = list(zip(*columns, strict=True))
  video.write_image(output / _STRIP, image_grid.draw(rows, labels))
  mean = {name: float(np.mean(values[1:])) for name, values in psnr.items()}
  _logger.info(f'Mean PSNR to the true colors, frames 1 to {i}:')
  for name, path in paths.items():
    _logger.info(f'  {mean[name]:5.2f} dB  {path}')
  _logger.info(f'Comparison: {output / _STRIP}')
  return mean


def _colorized(
  colorizer: VideoColorizer, frames: Iterable[video.Frame]
) -> Iterator[tuple[video.Frame, np.ndarray, np.ndarray]]:
  """Yields frames, the same in gray, and colorized; all [h, w, 3] uint8."""
  # Pairs of true and gray frames in flight.
  pending: collections.deque[tuple[video.Frame, np.ndarray]]
  pending = collections.deque()

  def grays() -> Iterator[np.ndarray]:
    for frame in frames:
      gray = np.asarray(color.gray(frame.rgb))
      pending.append((frame, gray))
      yield gray

  for colored in colorizer.colorize(video.prefetch(grays(), _AHEAD)):
    yield *pending.popleft(), colored
