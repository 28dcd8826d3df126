"""Files of weights: round trips, and refused content."""

import os
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from written_weights import (
  FLOAT,
  parameter,
  state_dict,
  storage,
  strides,
  tensor,
  text,
  write_archive,
  write_old_torch,
  write_row,
  write_safetensors,
  write_torch,
)

from vitexco_jax.errors import UserError
from vitexco_jax.pretrained import weight_files

_RNG = np.random.default_rng(0)
WEIGHTS = {
  'conv.weight': np.float32(_RNG.normal(size=(4, 3, 2))),
  'conv.bias': np.float32(_RNG.normal(size=4)),
  'scale': np.float32(_RNG.normal(size=())),
}


def _assert_reads(path, weights=WEIGHTS):
  entries = weight_files.read(path)
  assert list(entries) == list(weights)
  for name, array in weights.items():
    assert entries[name].dtype == array.dtype
    np.testing.assert_array_equal(entries[name], array)


@pytest.mark.parametrize(
  ('name', 'write'),
  [
    ('v.npz', lambda path, weights: np.savez(path, **weights)),
    ('v.safetensors', write_safetensors),
    ('v.pth', write_torch),
    ('v.bin', write_torch),
    ('old.pth', write_old_torch),
  ],
)
def test_arrays_are_read_by_name(tmp_path, name, write):
  write(tmp_path / name, WEIGHTS)
  _assert_reads(tmp_path / name)


def test_torch_parameters_are_read_as_tensors(tmp_path):
  write_torch(tmp_path / 'v.bin', WEIGHTS, wrap=parameter)
  _assert_reads(tmp_path / 'v.bin')


@pytest.mark.parametrize('old', [False, True])
def test_torch_views_of_one_storage_are_followed(tmp_path, old):
  items, stored, offset = {}, b'', 0
  total = sum(array.size for array in WEIGHTS.values())
  for name, array in WEIGHTS.items():
    turned = array.T  # Written in the other order, with strides to match.
    items[name] = tensor(
      storage('0', FLOAT, total, b'N' if old else b''),
      offset,
      array.shape,
      strides(np.ascontiguousarray(turned).reshape(turned.shape))[::-1],
    )
    stored += turned.tobytes()
    offset += array.size
  path, pickled = tmp_path / 'v.pth', state_dict(items)
  if old:
    write_row(path, pickled, ['0'], [struct.pack('<q', total), stored])
  else:
    write_archive(path, pickled, {'0': stored})
  _assert_reads(path)


@pytest.mark.parametrize(
  ('dtype', 'short', 'kind'),
  [
    (np.float16, 'F16', b'ctorch\nHalfStorage\n'),
    (jnp.bfloat16, 'BF16', b'ctorch\nBFloat16Storage\n'),
    (np.float64, 'F64', b'ctorch\nDoubleStorage\n'),
    (np.int64, None, b'ctorch\nLongStorage\n'),
  ],
)
def test_other_dtypes_are_preserved(tmp_path, dtype, short, kind):
  weights = {name: (10 * x).astype(dtype) for name, x in WEIGHTS.items()}
  write_torch(tmp_path / 'v.pth', weights, kind)
  _assert_reads(tmp_path / 'v.pth', weights)
  write_old_torch(tmp_path / 'old.pth', weights, kind)
  _assert_reads(tmp_path / 'old.pth', weights)
  if short:
    write_safetensors(tmp_path / 'v.safetensors', weights, short)
    _assert_reads(tmp_path / 'v.safetensors', weights)


# Refused files


class _Touch:
  """Its pickle would create a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), 'w')


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('place', ['archive', 'object', 'keys'])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, protocol, place):
  marker, path = tmp_path / 'marker', tmp_path / 'v.pth'
  pickled = pickle.dumps({'conv.bias': _Touch(marker)}, protocol)
  pickle.loads(pickled)['conv.bias'].close()
  assert marker.exists()  # The attack works without the check.
  marker.unlink()
  if place == 'archive':
    write_archive(path, pickled, {})
  elif place == 'object':
    write_row(path, pickled, [], [])
  else:
    write_row(path, state_dict({}), [_Touch(marker)], [])
  with pytest.raises(UserError, match='could run code'):
    weight_files.read(path)
  assert not marker.exists()


@pytest.mark.parametrize(
  'name',
  ['OrderedDict.fromkeys', 'namedtuple', 'OrderedDict.__init__.__globals__'],
)
def test_names_similar_to_an_accepted_one_are_rejected(tmp_path, name):
  pickled = b'\x80\x04' + text('collections') + text(name) + b'\x93)R.'
  write_archive(tmp_path / 'v.pth', pickled, {})
  with pytest.raises(UserError, match='collections.*could run code'):
    weight_files.read(tmp_path / 'v.pth')


def test_objects_in_an_npz_are_refused(tmp_path):
  marker = tmp_path / 'marker'
  np.savez(tmp_path / 'v.npz', cls=np.array([_Touch(marker)], object))
  with pytest.raises(UserError, match='v.npz is damaged'):
    weight_files.read(tmp_path / 'v.npz')
  assert not marker.exists()


_EIGHT = storage('0', FLOAT, 8)


@pytest.mark.parametrize(
  'pickled',
  [
    tensor(_EIGHT, 1, (8,), (1,)),
    tensor(_EIGHT, 0, (2, 2), (7, 1)),
    tensor(_EIGHT, -1, (2,), (1,)),
    tensor(_EIGHT, 4, (2,), (-1,)),
    tensor(_EIGHT, 0, (1000, 1000), (0, 0)),
    # A view in place of a storage; its rows have larger distances.
    tensor(tensor(_EIGHT, 0, (4, 2), (2, 1)), 3, (4,), (1,)),
    tensor(tensor(_EIGHT, 0, (4,), (2,)), 3, (1,), (1,)),
  ],
)
def test_tensors_stay_within_their_storage(tmp_path, pickled):
  pickled = state_dict({'conv.bias': pickled})
  write_archive(tmp_path / 'v.pth', pickled, {'0': bytes(32)})
  with pytest.raises(UserError, match='exceeds its storage'):
    weight_files.read(tmp_path / 'v.pth')


@pytest.mark.parametrize('count', [-1, 2**31 - 1])
def test_an_old_storage_is_no_larger_than_its_file(tmp_path, count):
  stored = storage('0', FLOAT, count, b'N')
  pickled = state_dict({'conv.bias': tensor(stored, 0, (1,), (1,))})
  write_row(tmp_path / 'v.pth', pickled, ['0'], [])
  with pytest.raises(UserError, match='larger than the file'):
    weight_files.read(tmp_path / 'v.pth')


@pytest.mark.parametrize('missing', [1, 4, 20, 24, 40])
def test_a_truncated_old_file_is_refused(tmp_path, missing):
  path = tmp_path / 'v.pth'
  write_old_torch(path, WEIGHTS)
  path.write_bytes(path.read_bytes()[:-missing])
  with pytest.raises(UserError, match='v.pth is damaged'):
    weight_files.read(path)


@pytest.mark.parametrize(
  ('suffix', 'write'),
  [
    ('npz', lambda path, weights: np.savez(path, **weights)),
    ('safetensors', write_safetensors),
    ('pth', write_torch),
    ('pth', write_old_torch),
  ],
)
def test_damaged_files_are_refused(tmp_path, suffix, write):
  path = tmp_path / f'v.{suffix}'
  write(path, WEIGHTS)
  whole = path.read_bytes()
  for data in (whole[: len(whole) // 2], b'', b'not weights' * 20):
    path.write_bytes(data)
    with pytest.raises(UserError, match=f'v.{suffix} is damaged'):
      weight_files.read(path)


def test_a_training_checkpoint_is_not_a_state_dict(tmp_path):
  state = state_dict({'model': state_dict({})[2:-1]})
  write_archive(tmp_path / 'v.pth', state, {})
  with pytest.raises(UserError, match='is not a state dict'):
    weight_files.read(tmp_path / 'v.pth')


def test_missing_files_folders_and_unknown_formats_are_named(tmp_path):
  (tmp_path / 'folder.pth').mkdir()
  for name, message in (
    ('none.npz', 'cannot read .*none.npz: No such file'),
    ('folder.pth', 'cannot read .*folder.pth: it is a folder'),
    (
      'v.onnx',
      'format of .*v.onnx is unknown: .*.npz, .safetensors, .pth, .bin',
    ),
  ):
    with pytest.raises(UserError, match=message):
      weight_files.read(tmp_path / name)


@pytest.mark.parametrize('name', ['v.npz', 'v.pth'])
def test_archives_that_would_fill_the_memory_are_refused(tmp_path, name):
  with zipfile.ZipFile(tmp_path / name, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('a/data.pkl', state_dict({}))
    archive.writestr('a/data/0', bytes(2**23))
  with pytest.raises(UserError, match='unpacked size is too'):
    weight_files.read(tmp_path / name)


def test_arrays_that_claim_too_much_data_are_refused(tmp_path):
  header = (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"
  )
  with zipfile.ZipFile(tmp_path / 'v.npz', 'w') as archive:
    size = struct.pack('<H', len(header))
    archive.writestr('a.npy', b'\x93NUMPY\x01\x00' + size + header)
  with pytest.raises(UserError, match='v.npz is damaged'):
    weight_files.read(tmp_path / 'v.npz')


def test_tensors_share_the_storage_that_they_view(tmp_path):
  """A small file that names one storage a thousand times stays small."""
  view = tensor(storage('0', FLOAT, 4), 0, (4,), (1,))
  pickled = state_dict({f'x{i}': view for i in range(1000)})
  write_archive(tmp_path / 'v.pth', pickled, {'0': bytes(16)})
  entries = weight_files.read(tmp_path / 'v.pth').values()
  assert len({x.__array_interface__['data'][0] for x in entries}) == 1


def test_old_storages_together_are_no_larger_than_their_file(tmp_path):
  stored = {
    f'x{i}': tensor(storage(str(i), FLOAT, 100, b'N'), 0, (1,), (1,))
    for i in range(20)
  }
  write_row(tmp_path / 'v.pth', state_dict(stored), [], [bytes(300)])
  with pytest.raises(UserError, match='larger than the file'):
    weight_files.read(tmp_path / 'v.pth')


def test_deeply_nested_tuples_are_refused(tmp_path):
  """Hashing them would crash the process."""
  deep = b'\x80\x02}N' + b'\x85' * 1_000_000 + b'Ns.'
  write_archive(tmp_path / 'v.pth', deep, {})
  with pytest.raises(UserError, match='too many parts'):
    weight_files.read(tmp_path / 'v.pth')


@pytest.mark.parametrize('suffix', ['npz', 'safetensors', 'pth', 'bin'])
def test_a_pipe_is_refused(tmp_path, suffix):
  os.mkfifo(tmp_path / f'v.{suffix}')
  with pytest.raises(UserError, match='is a pipe or a device'):
    weight_files.read(tmp_path / f'v.{suffix}')


def test_a_header_that_is_nested_too_deeply_is_refused(tmp_path):
  header = b'[' * 100_000
  path = tmp_path / 'v.safetensors'
  path.write_bytes(struct.pack('<Q', len(header)) + header)
  with pytest.raises(UserError, match='v.safetensors is damaged'):
    weight_files.read(path)
