"""Times of a film as text: 83.4 or 0:01:23.4."""

import math
import re
from fractions import Fraction

_TIME = re.compile(r'(\d+:){0,2}(\d+\.?\d*|\.\d+)', re.ASCII)


def parse_seconds(time: str) -> float:
  """Parses a time such as 83.4 or 0:01:23.4; raises ValueError if it is none."""
  if not _TIME.fullmatch(time.strip()):
    raise ValueError
  seconds = 0.0
  for part in time.split(':'):
    seconds = 60 * seconds + float(part)
  if not math.isfinite(seconds):
    raise ValueError
  return seconds


def format_time(seconds: Fraction) -> str:
  """Formats seconds as h:mm:ss.sss."""
  thousandths = round(1000 * seconds)
  minutes, rest = divmod(thousandths, 60_000)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}'
