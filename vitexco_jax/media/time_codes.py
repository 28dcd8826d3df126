"""SMPTE time codes: labels of frames such as 01:00:00:00.

A code is hours, minutes, seconds, and frames. With drop-frame counting, written
01:00:00;00, the labels of the first frames of each minute are skipped, except in
every tenth minute, so that labels of 29.97 or 59.94 frames per second follow the
clock. No frame is dropped.
"""

import re
from fractions import Fraction

import av

_CODE = re.compile(r'(\d\d):(\d\d):(\d\d)([:;.])(\d\d)', re.ASCII)
_NAME = 'timecode'  # Of FFmpeg's metadata; Matroska writes it in capitals.
_DROP = Fraction(30_000, 1001)  # Its multiples allow drop-frame counting.


def of(container: av.container.InputContainer) -> str:
  """Returns the time code of the first frame of a video file; '' if none."""
  sources = [container.metadata]
  sources += (stream.metadata for stream in container.streams)
  for tags in reversed(sources):
    for name, text in tags.items():
      if name.lower() == _NAME and _CODE.fullmatch(text):
        return text
  return ''


def after(code: str, count: int, frame_rate: Fraction) -> str:
  """Returns the time code of a later frame.

  Args:
    code: of a frame; '' if unknown.
    count: number of frames from there; after 24 hours, codes start at zero again.
    frame_rate: in frames per second.

  Returns:
    The code; '' if `code` does not exist at this frame rate.
  """
  first = index(code, frame_rate)
  if first is None:
    return ''
  base, skipped = round(frame_rate), _skipped(code, frame_rate)
  per_minute = 60 * base - skipped
  per_ten = 10 * per_minute + skipped
  number = (first + count) % (144 * per_ten)
  tens, rest = divmod(number, per_ten)
  # The labels that are skipped up to this frame.
  number += 9 * skipped * tens
  if rest >= 60 * base:
    number += skipped * (1 + (rest - 60 * base) // per_minute)
  seconds, frames = divmod(number, base)
  minutes, seconds = divmod(seconds, 60)
  hours, minutes = divmod(minutes, 60)
  mark = ';' if skipped else ':'
  return f'{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{frames:02d}'


def index(code: str, frame_rate: Fraction) -> int | None:
  """Returns the number of frames from 00:00:00:00 to a code, if it exists."""
  match = _CODE.fullmatch(code)
  base = round(frame_rate)
  if match is None or not 1 <= base <= 100:
    return None
  hours, minutes, seconds, frames = (int(match[i]) for i in (1, 2, 3, 5))
  if hours > 23 or minutes > 59 or seconds > 59 or frames >= base:
    return None
  skipped = _skipped(code, frame_rate)
  if is_drop(code) and not skipped:
    return None
  if minutes % 10 and not seconds and frames < skipped:
    return None  # This label is skipped.
  minutes += 60 * hours
  number = (60 * minutes + seconds) * base + frames
  return number - skipped * (minutes - minutes // 10)


def is_drop(code: str) -> bool:
  """Whether a code is of drop-frame counting."""
  return code[8:9] in (';', '.')


def _skipped(code: str, frame_rate: Fraction) -> int:
  """Returns how many labels are skipped at the start of a minute."""
  times = frame_rate / _DROP
  return 2 * int(times) if is_drop(code) and times.denominator == 1 else 0
