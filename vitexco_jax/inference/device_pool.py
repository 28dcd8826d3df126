"""Colorizes clips on several devices."""

import collections
import concurrent.futures
import queue
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vitexco_jax.inference.video_colorizer import VideoColorizer


class Clip(NamedTuple):
  """Frames and their references."""

  frames: Iterable[np.ndarray]  # [h, w, 3] uint8 each, all of one size.
  references: Sequence[np.ndarray]  # [H, W, 3] uint8 each, of any sizes.


def colorize_clips(
  colorizers: Sequence[VideoColorizer], clips: Iterable[Clip]
) -> Iterator[np.ndarray]:
  """Colorizes clips in parallel, one clip per colorizer at a time.

  Args:
    colorizers: of the same weights, each on its own device.
    clips: of any lengths and sizes; read when they are needed.

  Yields:
    For each clip, in order, [t, h, w, 3] uint8: what `VideoColorizer.colorize`
    yields after `set_reference`.
  """
  free: queue.SimpleQueue[VideoColorizer] = queue.SimpleQueue()
  for colorizer in colorizers:
    free.put(colorizer)

  def run(clip: Clip) -> np.ndarray:
    colorizer = free.get()
    try:
      colorizer.set_reference(*clip.references)
      return np.stack(list(colorizer.colorize(clip.frames)))
    finally:
      free.put(colorizer)

  with concurrent.futures.ThreadPoolExecutor(len(colorizers)) as pool:
    pending: collections.deque[concurrent.futures.Future[np.ndarray]] = (
      collections.deque()
    )
    for clip in clips:
      pending.append(pool.submit(run, clip))
      if len(pending) > len(colorizers):
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
