"""Random records for tests."""

import numpy as np
from scipy import ndimage

from vitexco_jax.data import records, records_writer

SIZE = (24, 40)


def random_rgb(seed, size=SIZE):
  noise = np.random.default_rng(seed).standard_normal((*size, 3))
  smooth = ndimage.gaussian_filter(noise, (1, 1, 0))
  return np.uint8(np.clip(128 + 200 * smooth, 0, 255))


def random_motion(seed):
  rng = np.random.default_rng(seed)
  flow = rng.uniform(-50, 50, (*SIZE, 2)).astype(np.float32)
  return flow, rng.integers(0, 2, (*SIZE, 1), np.uint8)


def write_parts(folder, lengths=(3, 5), references=(7, 2)):
  """Parts of one video with a run of each length, and references."""
  runs, start = [], 0
  with records_writer.PartWriter(folder / 'part') as writer:
    for frames in lengths:
      runs.append((0, start, frames))
      for i in range(start, start + frames):
        motion = None if i == start + frames - 1 else random_motion(i)
        writer.write(
          records.encode(random_rgb(i), 'x.mp4', i, motion, references)
        )
      start += frames
    for number in references:
      writer.write(
        records.encode(random_rgb(-number % 99), f'{number}.jpg', number)
      )
  return records_writer.Contents(
    size=SIZE,
    settings={'flow': 'dis'},
    videos=['x.mp4'],
    runs=runs,
    references=list(references),
    left_out={'y.mp4': 'too short'},
    fingerprint='abc',
    frame_parts=[records_writer.Part(folder / 'part', 0, start)],
    reference_parts=[
      records_writer.Part(folder / 'part', start, len(references))
    ],
  )
