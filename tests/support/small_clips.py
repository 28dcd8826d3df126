"""Small clips and a fake method, for tests of the evaluation."""

import cv2
import numpy as np

from configs.vitexco import get_config
from vitexco_jax.evaluation import evaluate, subjects
from vitexco_jax.media import video

SIZE = (48, 64)


class Brighter:
  """Returns each frame 10 brighter, two frames later, and counts calls."""

  config = get_config('tiny')

  def __init__(self):
    self.references = []

  def set_reference(self, *rgb, first_frame=False):
    self.references.append((rgb, first_frame))

  def colorize(self, frames):
    waiting = []
    for rgb in frames:
      waiting.append(rgb + np.uint8(10))
      if len(waiting) > 2:
        yield waiting.pop(0)
    yield from waiting


def write_clip(folder, frames, seed=0):
  """Writes smooth colorful frames as PNG; returns them."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(seed)
  clip = []
  for i in range(frames):
    small = rng.integers(20, 220, (4, 5, 3), np.uint8)
    rgb = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    assert cv2.imwrite(str(folder / f'{i:05}.png'), rgb[..., ::-1])
    clip.append(rgb)
  return np.stack(clip)


def run_evaluate(folder, colorizer, **arguments):
  return evaluate.evaluate(
    get_config('tiny'),
    subjects.network(colorizer, folder / 'weights'),
    str(folder / 'data'),
    folder / 'out',
    **arguments,
  )


def read_row(summary, clip, protocol='first-frame', method='vitexco'):
  return summary['protocols'][protocol]['clips'][clip]['methods'][method]


def read_frames(folder, clip, *numbers):
  paths = [folder / f'data/{clip}/{number:05}.png' for number in numbers]
  return [video.read_image(path) for path in paths]
