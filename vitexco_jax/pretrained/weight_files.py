"""Reads files of pretrained weights as named arrays.

`read` supports `.npz` of numpy, `.safetensors`, and `.pth` and `.bin` of torch:
zip archives, and the format before torch 1.6, which is a sequence of pickles and
storages.

Files of torch are pickles, which can run code. The unpickler here accepts only
the few names that a state dict needs.
"""

import collections
import functools
import io
import json
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from vitexco_jax import files
from vitexco_jax.errors import UserError

Entries = dict[str, np.ndarray]
_EXPANSION = 8  # Maximum ratio of unpacked and packed size.
_TUPLES = 20_000  # Maximum in a state dict, which has four per tensor.


def read(path: Path) -> Entries:
  """Reads all arrays of a file, with the dtypes in the file.

  Raises:
    UserError: the file is missing, damaged, or unsafe, or its format is unknown.
  """
  if path.suffix not in READERS:
    raise UserError(
      f'the format of {path} is unknown: use a file that ends in '
      + ', '.join(READERS)
    )
  files.check_regular(path)
  try:
    return READERS[path.suffix](path)
  except UserError:
    raise
  except OSError as error:
    raise UserError(
      f'{path} cannot be opened: {error.strerror or error}'
    ) from error
  except Exception as error:  # A damaged file can fail a parser anywhere.
    raise UserError(
      f'{path} is damaged or has another format than its name '
      f'({type(error).__name__}: {error}); download it again'
    ) from error


def _read_npz(path: Path) -> Entries:
  with zipfile.ZipFile(path) as archive:  # Other files may be pickles.
    _check_expansion(archive)
  with np.load(path, allow_pickle=False) as archive:
    return {name: archive[name] for name in archive.files}


def _read_safetensors(path: Path) -> Entries:
  """Reads 8 bytes of header length, a JSON header, then the plain arrays."""
  dtypes = {
    'F64': np.float64,
    'F32': np.float32,
    'F16': np.float16,
    'BF16': jnp.bfloat16,
  }
  data = memoryview(path.read_bytes())
  start = 8 + int.from_bytes(data[:8], 'little')
  header = json.loads(bytes(data[8:start]))
  header.pop('__metadata__', None)
  entries = {}
  for name, entry in header.items():
    first, last = entry['data_offsets']
    values = np.frombuffer(data[start:][first:last], dtypes[entry['dtype']])
    entries[name] = values.reshape(entry['shape'])
  return entries


def _read_torch(path: Path) -> Entries:
  with open(path, 'rb') as file:
    if zipfile.is_zipfile(file):
      entries = _read_torch_archive(file)
    else:
      file.seek(0)
      entries = _read_old_torch(file)
  if not isinstance(entries, dict) or not all(
    isinstance(array, np.ndarray) for array in entries.values()
  ):
    raise UserError(
      f'{path} is not a state dict; save the model with '
      'torch.save(model.state_dict(), path)'
    )
  return dict(entries)


def _read_torch_archive(file: BinaryIO) -> Any:
  """Reads a zip archive with a pickle and a file for each storage."""
  with zipfile.ZipFile(file) as archive:
    _check_expansion(archive)
    (pickled,) = [
      name for name in archive.namelist() if name.endswith('/data.pkl')
    ]
    folder = pickled.split('/')[0]

    @functools.lru_cache(None)  # Several tensors may share a storage.
    def storage(key: str, dtype: np.dtype, _: int) -> np.ndarray:
      return np.frombuffer(archive.read(f'{folder}/data/{key}'), dtype)

    with archive.open(pickled) as stream:
      return _unpickle(stream, file.name, storage)


def _check_expansion(archive: zipfile.ZipFile) -> None:
  """Raises ValueError if an archive would fill the memory.

  Compression hardly reduces the size of weights.
  """
  packed = sum(entry.compress_size for entry in archive.infolist())
  if sum(x.file_size for x in archive.infolist()) > _EXPANSION * packed + 2**20:
    raise ValueError('its unpacked size is too large')


# The file begins with a pickle of torch's magic number.
_OLD_TORCH = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def _read_old_torch(file: io.BufferedReader) -> Any:
  """Reads four pickles, of which the last is the state dict, then all storages.

  Storages are created when the state dict refers to them, and filled at the end.
  """
  if file.read(len(_OLD_TORCH)) != _OLD_TORCH:
    raise ValueError('it does not begin like a file of torch')
  size = file.seek(0, io.SEEK_END)
  file.seek(len(_OLD_TORCH))
  storages: dict[str, np.ndarray] = {}

  def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
    if key not in storages:
      room = size - sum(values.nbytes for values in storages.values())
      if not 0 <= count * dtype.itemsize <= room:
        raise ValueError('a storage is larger than the file')
      storages[key] = np.zeros(count, dtype)
    return storages[key]

  def load() -> Any:
    return _unpickle(file, file.name, storage)

  load()  # Version of the protocol.
  load()  # Sizes of types in C.
  entries = load()
  for key in load():
    values = storages[key]
    count = int.from_bytes(file.read(8), 'little')
    read = file.readinto(values.view(np.uint8).data)
    if count != len(values) or read != values.nbytes:
      raise ValueError('the size of a storage is wrong')
  return entries


_Storage = Callable[[str, np.dtype, int], np.ndarray]  # Key, dtype, size.


def _unpickle(stream: IO[bytes], name: str, storage: _Storage) -> Any:
  """Loads one pickle, after a check that it is safe to load.

  Python computes the hash of a tuple recursively, so hundreds of thousands of
  nested tuples would crash the process.
  """
  start = stream.tell()
  opcodes = (opcode.name for opcode, _, _ in pickletools.genops(stream))
  if sum('TUPLE' in x or x == 'FROZENSET' for x in opcodes) > _TUPLES:
    raise ValueError('it has too many parts')
  stream.seek(start)
  return _TorchUnpickler(stream, name, storage).load()


class _TorchUnpickler(pickle.Unpickler):
  """Reads the pickle of a state dict and nothing else.

  A tensor is pickled as a call that makes a view of a storage, and a storage as a
  persistent id.
  """

  # Strings, so that a pickle has no type to call or to modify.
  _STORAGES = {
    'DoubleStorage': 'float64',
    'FloatStorage': 'float32',
    'HalfStorage': 'float16',
    'BFloat16Storage': 'bfloat16',
    'LongStorage': 'int64',  # Step counters of BatchNorm.
  }

  def __init__(self, stream: IO[bytes], name: str, storage: _Storage) -> None:
    """Stores the name of the file, and a function that returns storages."""
    super().__init__(stream)
    self._name = name
    self._storage = storage

  def find_class(self, module: str, name: str) -> Any:
    """Returns one of a few harmless names; raises UserError for others."""
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _rebuild_tensor
    if (module, name) == ('torch._utils', '_rebuild_parameter'):
      return _rebuild_parameter
    if module == 'torch' and name in self._STORAGES:
      return self._STORAGES[name]
    raise UserError(
      f'{self._name} uses {module}.{name}, which no state dict needs and '
      'which could run code; use the .safetensors file instead'
    )

  def persistent_load(self, pid: Any) -> np.ndarray:
    """Returns a storage by its persistent id, as 1D array."""
    _, dtype, key, _, count, *_ = pid
    return self._storage(key, jnp.dtype(dtype), count)


def _rebuild_tensor(
  storage: np.ndarray,
  offset: int,
  size: Sequence[int],
  stride: Sequence[int],
  *_: Any,
) -> np.ndarray:
  """Implements torch's `_rebuild_tensor_v2`, and checks the bounds."""
  last = offset + sum(
    (n - 1) * step for n, step in zip(size, stride, strict=True)
  )
  plain = storage.ndim == 1 and storage.flags.c_contiguous
  inside = min([offset, *size, *stride]) >= 0 and last < storage.size
  if not (plain and inside and math.prod(size) <= storage.size):
    raise ValueError('a tensor exceeds its storage')
  return np.lib.stride_tricks.as_strided(
    storage[offset:],
    size,
    [step * storage.itemsize for step in stride],
    writeable=False,
  )


def _rebuild_parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
  return tensor


READERS = {
  '.npz': _read_npz,
  '.safetensors': _read_safetensors,
  '.pth': _read_torch,
  '.bin': _read_torch,
}
