"""A colour video is made grey and coloured again, from its first frame's colours.

The network gets the grey pictures and, as reference, the first true frame; no
other colour of the video reaches it. As the truth is known, each result can be
compared with it. For videos that are grey to begin with, see `colorize`.
"""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from vitexco_jax import color
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import metrics
from vitexco_jax.media import strips, video

_STRIP = 'strip.jpg'  # PNG would be four times as large.
_STRIP_COLUMNS = 4
_AHEAD = 8  # Frames made grey while others are coloured.


def demo(
  colorizer: Any, video_path: str | Path, output: str | Path
) -> dict[str, float]:
  """Greys and colours a video, and prints how close to the truth it comes.

  Args:
    colorizer: `colorize.VideoColorizer`, or what has its `set_reference` and
      `colorize`.
    video_path: a colour video.
    output: folder for `<name>_grey.mp4`, `<name>_colour.mp4` and `strip.jpg`,
      which are replaced if they are there.

  Returns:
    Mean PSNR `coloured` and `grey` over all frames but the first, whose colours
    are given away.

  Raises:
    UserError: the video cannot be read, is broken or has a single frame, or the
      output cannot be written.
  """
  output = Path(output)
  stem = Path(video_path).stem
  grey_path = output / f'{stem}_grey.mp4'
  colour_path = output / f'{stem}_colour.mp4'
  read = collections.deque()  # Frames on their way: the true one, the grey one.
  psnr = {'grey': [], 'coloured': []}
  columns = []

  with (
    video.VideoReader(video_path) as reader,
    video.VideoWriter(grey_path, reader.format, overwrite=True) as grey_writer,
    video.VideoWriter(colour_path, reader.format, overwrite=True) as writer,
    tqdm.tqdm(total=reader.num_frames, desc=stem, unit='frame') as bar,
  ):

    def grey_frames() -> Iterator[np.ndarray]:
      for frame in reader:
        grey = np.asarray(color.grey(frame.rgb))
        read.append((frame, grey))
        yield grey

    with video.VideoReader(video_path) as first:
      colorizer.set_reference(next(first).rgb, first_frame=True)
    last = (reader.num_frames or 1) - 1
    shown = set(np.linspace(0, last, _STRIP_COLUMNS).round().astype(int))
    ahead = video.prefetch(grey_frames(), _AHEAD)
    for i, coloured in enumerate(colorizer.colorize(ahead)):
      frame, grey = read.popleft()
      grey_writer.write(frame._replace(rgb=grey))
      writer.write(frame._replace(rgb=coloured))
      psnr['grey'].append(metrics.psnr(grey, frame.rgb))
      psnr['coloured'].append(metrics.psnr(coloured, frame.rgb))
      if i in shown:
        columns.append((frame.rgb, grey, coloured))
      bar.update()
    if reader.lost:
      raise UserError(
        f'{video_path} is damaged or cut short ({reader.lost} frames lost): '
        'copy it anew or take another'
      )
    if i == 0:
      raise UserError(f'{video_path} has a single frame; the demo needs more')

  labels = ('truth; its first frame is the reference', 'grey', 'coloured')
  rows = list(zip(*columns, strict=True))
  video.write_image(output / _STRIP, strips.strip(rows, labels))
  mean = {name: float(np.mean(values[1:])) for name, values in psnr.items()}
  print(f'Mean PSNR to the true colours, frames 1 to {i}:')
  print(f'  {mean["grey"]:5.2f} dB  {grey_path}')
  print(f'  {mean["coloured"]:5.2f} dB  {colour_path}')
  print(f'To look at: {output / _STRIP}')
  return mean
