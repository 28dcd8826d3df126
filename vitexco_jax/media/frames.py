"""Frames of a video and their format.

A frame is RGB, [h, w, 3] uint8 or uint16, upright. Gray pictures have three equal
channels; alpha is dropped, not composited.
"""

import collections
import concurrent.futures
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

DEFAULT_FRAME_RATE = Fraction(25)  # Of images, which have no time stamps.

_Item = TypeVar('_Item')


class _End:
  """Marks the end of an iterable."""


class Frame(NamedTuple):
  """One frame of a video.

  Attributes:
    rgb: [h, w, 3] uint8 or uint16.
    pts: time stamp, in ticks of `Format.time_base`; None: one frame after the
      previous one.
    name: file name of a folder's frame.
    duration: in ticks; None: until the next frame, or one frame.
  """

  rgb: np.ndarray
  pts: int | None = None
  name: str | None = None
  duration: int | None = None


class Format(NamedTuple):
  """Properties of a video that a writer needs in addition to its frames.

  Attributes:
    height: in pixels.
    width: in pixels.
    frame_rate: frames per second; the mean if it varies.
    time_base: seconds per tick; None: 1 / frame_rate.
    pixel_aspect: width of a pixel over its height.
    primaries: tag of the color primaries.
    transfer: tag of the transfer function.
    matrix: tag of the YCbCr matrix.
    field_order: 'tt' or 'bb' if interlaced, else empty; see `interlacing`.
    time_code: of the first frame, or empty; see `time_codes`.
  """

  height: int
  width: int
  frame_rate: Fraction = DEFAULT_FRAME_RATE
  time_base: Fraction | None = None
  pixel_aspect: Fraction = Fraction(1)
  primaries: int = ColorPrimaries.BT709
  transfer: int = ColorTrc.BT709
  matrix: int = Colorspace.ITU709
  field_order: str = ''
  time_code: str = ''

  @property
  def tick(self) -> Fraction:
    """Seconds per tick."""
    return self.time_base or 1 / self.frame_rate

  @property
  def ticks(self) -> int:
    """Ticks from a frame to the next, at the mean rate."""
    if self.time_base is None:
      return 1
    return max(1, round(1 / (self.frame_rate * self.time_base)))

  def at(self, frame_rate: Fraction) -> 'Format':
    """Returns the format with a constant frame rate."""
    return self._replace(frame_rate=frame_rate, time_base=1 / frame_rate)


def check_rgb(rgb: np.ndarray) -> None:
  """Raises TypeError unless the array is [h, w, 3] uint8 or uint16."""
  known = rgb.dtype in (np.uint8, np.uint16)
  if not known or rgb.ndim != 3 or rgb.shape[-1] != 3:
    raise TypeError(
      f'expected uint8 or uint16 [h, w, 3], got {rgb.dtype} {list(rgb.shape)}'
    )


def prefetch(iterable: Iterable[_Item], size: int = 4) -> Iterator[_Item]:
  """Yields the items of an iterable, computed ahead in another thread.

  An exception of the iterable is raised at the position of its next item. When the
  generator is closed or deleted, the thread ends after the current item.

  Args:
    iterable: the source of the items.
    size: maximum number of items computed ahead.
  """
  iterator = iter(iterable)
  end = _End()
  pool = concurrent.futures.ThreadPoolExecutor(1, 'prefetch')
  try:
    ahead = collections.deque(
      pool.submit(next, iterator, end) for _ in range(size)
    )
    while not isinstance(item := ahead.popleft().result(), _End):
      ahead.append(pool.submit(next, iterator, end))
      yield item
  finally:
    pool.shutdown(cancel_futures=True)
