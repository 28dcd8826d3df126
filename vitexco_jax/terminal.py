"""Standard streams that ignore errors.

A reader that exits (`| head`), a closed stream (`>&-`), or a name that the
terminal cannot show must not end hours of work.
"""

import io
import os
import sys
from typing import TextIO


def prepare() -> None:
  """Replaces the standard streams; call this before opening any file.

  Closed streams are redirected to the null device. Otherwise the next open file,
  such as the output video, would get the number of a standard stream, and
  libraries would print into it.
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


class _LossyFile(io.FileIO):
  """A file that ignores errors when writing."""

  # `BufferedWriter` passes only this type.
  def write(self, data: memoryview) -> int:  # type: ignore[override]
    try:
      return super().write(data)
    except OSError:
      return len(data)


def _text_stream(number: int, old: TextIO | None) -> io.TextIOWrapper:
  raw = _LossyFile(number, 'w', closefd=False)
  return io.TextIOWrapper(
    io.BufferedWriter(raw),  # type: ignore[type-var]
    encoding=old.encoding if old else 'utf-8',
    errors='backslashreplace',
    line_buffering=number == 2 or raw.isatty(),
  )
