"""Weight files, written byte by byte as their libraries do."""

import json
import pickle
import struct
import zipfile


def write_safetensors(path, weights, dtype='F32'):
  header, body = {'__metadata__': {'format': 'pt'}}, b''
  for name, array in weights.items():
    data = array.tobytes()
    header[name] = {
      'dtype': dtype,
      'shape': array.shape,
      'data_offsets': [len(body), len(body) + len(data)],
    }
    body += data
  head = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(head)) + head + body)


# The pickle of a state dict, opcode by opcode, as torch.save writes it.

ORDERED_DICT = b'ccollections\nOrderedDict\n)R'
FLOAT = b'ctorch\nFloatStorage\n'


def text(string):
  return b'X' + struct.pack('<I', len(string)) + string.encode()


def integers(*numbers):
  items = b''.join(b'J' + struct.pack('<i', number) for number in numbers)
  return b'(' + items + b't'


def storage(key, kind, count, rest=b''):
  return (
    b'('
    + text('storage')
    + kind
    + text(key)
    + text('cpu')
    + b'J'
    + struct.pack('<i', count)
    + rest
    + b'tQ'
  )


def tensor(stored, offset, size, stride):
  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n('
    + stored
    + b'J'
    + struct.pack('<i', offset)
    + integers(*size)
    + integers(*stride)
    + b'\x89'
    + ORDERED_DICT
    + b'tR'
  )


def parameter(pickled):
  return (
    b'ctorch._utils\n_rebuild_parameter\n('
    + pickled
    + b'\x88'
    + ORDERED_DICT
    + b'tR'
  )


def strides(array):
  return [step // array.itemsize for step in array.strides]


def state_dict(items):
  pairs = b''.join(text(name) + value for name, value in items.items())
  metadata = b'}' + text('_metadata') + ORDERED_DICT + b'sb'
  return b'\x80\x02' + ORDERED_DICT + b'(' + pairs + b'u' + metadata + b'.'


def write_archive(path, pickled, storages):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', pickled)
    for key, data in storages.items():
      archive.writestr(f'archive/data/{key}', data)
    archive.writestr('archive/version', '3\n')


def write_torch(path, weights, kind=FLOAT, wrap=lambda x: x):
  items, storages = {}, {}
  for i, (name, array) in enumerate(weights.items()):
    stored = storage(str(i), kind, array.size)
    items[name] = wrap(tensor(stored, 0, array.shape, strides(array)))
    storages[str(i)] = array.tobytes()
  write_archive(path, state_dict(items), storages)


def write_old_torch(path, weights, kind=FLOAT):
  """As torch wrote before 1.6: pickles, then the storages in any order."""
  items, storages = {}, {}
  for i, (name, array) in enumerate(weights.items()):
    stored = storage(str(i), kind, array.size, b'N')  # No view of another.
    items[name] = tensor(stored, 0, array.shape, strides(array))
    storages[str(i)] = struct.pack('<q', array.size) + array.tobytes()
  keys = sorted(storages, reverse=True)
  write_row(path, state_dict(items), keys, [storages[key] for key in keys])


def write_row(path, pickled, keys, storages):
  head = (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})
  path.write_bytes(
    b''.join(pickle.dumps(part, 2) for part in head)
    + pickled
    + pickle.dumps(keys, 2)
    + b''.join(storages)
  )
