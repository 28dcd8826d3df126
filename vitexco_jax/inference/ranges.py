"""Ranges of a film: parts such as 100:240 or 0:04:00-0:05:10."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from vitexco_jax.errors import UserError
from vitexco_jax.inference import times as film_times
from vitexco_jax.inference.shot_plan import clock

_FRAMES = re.compile(r'(\d{0,9}):(\d{0,9})', re.ASCII)
# A time has a colon or a dot, so 100-240 is none.
_TIME = r'(?:\d+(?::\d\d){1,2}(?:\.\d*)?|\d*\.\d+)?'
_TIMES = re.compile(f'({_TIME})-({_TIME})', re.ASCII)
_LATE = 1.0  # Seconds by which the end of a range may exceed that of the film.


class Span(NamedTuple):
  """A part of a film; `stop` is not included."""

  start: float
  stop: float  # Infinite: up to the end.
  in_seconds: bool  # Otherwise frames.
  text: str  # For messages.


def parse(text: str | None) -> Span | None:
  """Parses START:STOP in frames or START-STOP in times; either may be missing.

  Args:
    text: such as 100:240, 100:, 0:04:00-0:05:10, or 3.5-8.25. None: no range.

  Raises:
    UserError: the text is no range, or the range is empty.
  """
  if text is None:
    return None
  frames, times = _FRAMES.fullmatch(text), _TIMES.fullmatch(text)
  found = frames or times
  try:
    if found is None or not any(found.groups()):
      raise ValueError
    read = int if frames else film_times.parse_seconds
    start, stop = (
      read(part) if part else default
      for part, default in zip(found.groups(), (0, math.inf), strict=True)
    )
  except ValueError as error:
    raise UserError(
      f'`frames={text}` is no range: write frames, such as 100:240, or times, '
      'such as 0:04:00-0:05:10'
    ) from error
  if start >= stop:
    raise UserError(f'`frames={text}` ends before it starts')
  return Span(start, stop, times is not None, text)


def check(span: Span, frames: int, frame_rate: float) -> None:
  """Raises UserError if a range starts after the end of a film.

  Args:
    span: the range.
    frames: their number, perhaps estimated.
    frame_rate: in frames per second.
  """
  end = frames / frame_rate if span.in_seconds else frames
  if span.start > 1.05 * end + 1:
    raise UserError(_too_late(span, frames, frames / frame_rate))


def resolve(span: Span, seconds: Iterable[float]) -> range:
  """Returns the numbers of the frames of a range.

  Args:
    span: the range.
    seconds: time of each frame from the first; is read up to the end of the range.

  Raises:
    UserError: the film has no such frames.
  """
  numbers, count, time = [], 0, 0.0
  for number, time in enumerate(seconds):
    place = time if span.in_seconds else number
    if place >= span.stop:
      break
    count += 1
    if place >= span.start:
      numbers.append(number)
  else:
    end = time + _LATE if span.in_seconds else count
    if math.isfinite(span.stop) and span.stop > end:
      numbers = []
  if not numbers:
    raise UserError(_too_late(span, count, time))
  return range(numbers[0], numbers[-1] + 1)


def _too_late(span: Span, frames: int, seconds: float) -> str:
  return (
    f'`frames={span.text}` is not within the video, which has {frames} frames '
    f'and ends at {clock(seconds)}'
  )
