"""Validation of FAISS index files before FAISS reads them.

FAISS allocates any size that a file claims. Galleries use only one kind of index,
an `IndexIVFFlat` over an `IndexFlatIP` (see `ivf.build_index`). Its layout is
fixed, little-endian, without padding:

  header of the index, b'IwFl'; lists, probes        uint64 each
  header of the centers, b'IxFI'; count; values      uint64; float32 [lists, d]
  an empty direct map                                9 zero bytes
  b'ilar'; lists; bytes of a row; kind of sizes      4s, uint64, uint64, 4s
  count; sizes of the lists                          uint64; uint64 [count]
  rows and their numbers, list by list               4 d + 8 bytes per row

Sizes of kind `full` are one per list; those of kind `sprs` are pairs of list and
size. A header is kind, d, rows, two constants, whether it is trained, and the
metric.
"""

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np

from vitexco_jax import files

_HEADER = struct.Struct('<4siqqq?i')


def read_index(path: Path, width: int) -> faiss.Index:
  """Maps an index into memory.

  Args:
    path: a file written by `ivf.build_index`; not trusted.
    width: of its embeddings, d.

  Raises:
    ValueError: the layout differs, or its sizes do not match the file.
    RuntimeError: FAISS cannot read the file.
    UserError: the path is not a regular file.
    OSError: the file cannot be read.
  """
  files.check_regular(path)
  with open(path, 'rb') as file:
    _check(file, width)
  return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def _check(file: BinaryIO, width: int) -> None:
  size = os.fstat(file.fileno()).st_size

  def read(layout: str) -> tuple[Any, ...]:
    text = file.read(struct.calcsize(layout))
    try:
      return struct.unpack(layout, text)
    except struct.error as error:
      raise ValueError('it is cut short') from error

  def expect(content: bytes) -> None:
    if file.read(len(content)) != content:
      raise ValueError('it has another layout')

  def header(kind: bytes, count: int) -> bytes:
    return _HEADER.pack(kind, width, count, 2**20, 2**20, True, 0)

  rows = read(_HEADER.format)[2]
  if not 0 < rows <= size:
    raise ValueError('it has another layout')
  file.seek(0)
  expect(header(b'IwFl', rows))
  lists, _ = read('<QQ')
  if not 0 < lists <= rows:
    raise ValueError('it has another layout')
  expect(header(b'IxFI', lists) + struct.pack('<Q', lists * width))
  file.seek(4 * lists * width, os.SEEK_CUR)
  expect(bytes(9) + struct.pack('<4sQQ', b'ilar', lists, 4 * width))
  kind, count = read('<4sQ')
  if (kind, count) != (b'full', lists) and not (
    kind == b'sprs' and count % 2 == 0 and count <= 2 * lists
  ):
    raise ValueError('it has another layout')
  sizes = np.frombuffer(file.read(8 * count), '<u8')
  if kind == b'sprs':
    numbers, sizes = sizes[::2], sizes[1::2]
    if np.any(numbers >= lists):
      raise ValueError('it has another layout')
  if sum(sizes.tolist()) != rows:
    raise ValueError('its lists do not hold all rows')
  if file.tell() + rows * (4 * width + 8) != size:
    raise ValueError('it is cut short')
