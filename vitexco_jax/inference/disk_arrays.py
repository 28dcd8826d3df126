"""Arrays in files, for which room is reserved."""

import os
from pathlib import Path

import numpy as np

_CHUNK = 2**24  # Bytes of a file that are reserved at a time.


def create(
  path: Path, dtype: type[np.generic], shape: tuple[int, ...]
) -> np.memmap:
  """Creates an array in a file; raises OSError if the disk is full."""
  array = np.lib.format.open_memmap(path, 'w+', dtype, shape)
  # To write to a place that the disk does not have would end the process.
  size = path.stat().st_size
  with open(path, 'r+b') as file:
    if hasattr(os, 'posix_fallocate'):
      os.posix_fallocate(file.fileno(), 0, size)
    else:
      file.seek(array.offset)
      for start in range(array.offset, size, _CHUNK):
        file.write(bytes(min(_CHUNK, size - start)))
  return array
