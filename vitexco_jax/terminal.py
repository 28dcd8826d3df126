"""Standard streams that cannot stop the program.

What the program prints is a by-product: a reader that goes away (`| head`), a
stream that was closed (`>&-`), or a name that the terminal cannot show must not
end hours of work.
"""

import io
import os
import sys


def prepare() -> None:
  """Replaces the standard streams; call it before any file is opened.

  Closed streams lead to the null device. Otherwise the next files to be opened,
  such as the output video, would take their numbers, and what libraries print
  would go into them.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # Takes the lowest free number.
  if sys.stdin is None:
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
  sys.stdout = _text_stream(1, sys.stdout)
  sys.stderr = _text_stream(2, sys.stderr)


class _Forgiving(io.FileIO):
  """Drops what cannot be written."""

  def write(self, data):
    try:
      return super().write(data)
    except OSError:
      return len(data)


def _text_stream(number: int, old: io.TextIOWrapper | None) -> io.TextIOWrapper:
  raw = _Forgiving(number, 'w', closefd=False)
  return io.TextIOWrapper(
    io.BufferedWriter(raw),
    encoding=old.encoding if old else 'utf-8',
    errors='backslashreplace',
    line_buffering=number == 2 or raw.isatty(),
  )
