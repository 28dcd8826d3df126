"""Detection of truncated files by the sizes that their containers store."""

import os
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b'\x1a\x45\xdf\xa3', b'\x18\x53\x80\x67'
_PACKETS = 188, 192, 204  # Packet lengths of MPEG-TS.


def is_cut(path: str | os.PathLike, container: str) -> bool:
  """Whether a video file ends before it should.

  Args:
    path: the file.
    container: FFmpeg's name of its format.

  Returns:
    False also if the format stores no size, or if the file ends between two parts.

  Raises:
    OSError: the file cannot be read.
  """
  size = Path(path).stat().st_size
  if container == 'mpegts':
    return all(size % packet for packet in _PACKETS)
  find_end = {
    'mov,mp4,m4a,3gp,3g2,mj2': _mp4_end,
    'matroska,webm': _matroska_end,
    'avi': _avi_end,
  }.get(container)
  if find_end is None:
    return False
  with open(path, 'rb') as file:
    return find_end(file, size) > size


def _mp4_end(file: BinaryIO, size: int) -> int:
  """Returns the end of the last box."""
  end = 0
  while end < size:
    file.seek(end)
    header = file.read(16)
    length, kind = int.from_bytes(header[:4]), header[4:8]
    if length == 1:
      length = int.from_bytes(header[8:])
    if length < 8:  # 0: up to the end of the file.
      return size
    end += length
  # Anything else may be appended garbage.
  return end if kind in (b'mdat', b'moof', b'moov') else size


def _matroska_end(file: BinaryIO, size: int) -> int:
  """Returns the end of the segment; 0 if it is not stored."""
  end = 0
  for element in (_EBML, _SEGMENT):
    file.seek(end)
    header = file.read(12)
    if not header.startswith(element) or header[4:5] in (b'', b'\0'):
      return 0
    # The leading zeros of its first byte are the length of a number.
    extra = 8 - header[4].bit_length()
    length = int.from_bytes(header[4 : 5 + extra]) - (1 << 7 * (extra + 1))
    if length == (1 << 7 * (extra + 1)) - 1:
      return 0
    end += 5 + extra + length
  return end


def _avi_end(file: BinaryIO, size: int) -> int:
  """Returns the end of the last RIFF chunk."""
  end = 0
  while end < size:
    file.seek(end)
    header = file.read(8)
    if not header.startswith(b'RIFF'):
      return size
    end += 8 + int.from_bytes(header[4:], 'little')
  return end
