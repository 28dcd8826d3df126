"""disk_arrays: room on the disk is reserved."""

import os

import numpy as np
import pytest

from vitexco_jax.inference import disk_arrays


@pytest.mark.parametrize('everywhere', [True, False])
def test_room_for_an_array_is_reserved(tmp_path, monkeypatch, everywhere):
  monkeypatch.setattr(disk_arrays, '_CHUNK', 1000)
  if not everywhere:  # As on macOS and Windows.
    monkeypatch.delattr(os, 'posix_fallocate')
  path = tmp_path / 'a.npy'
  array = disk_arrays.create(path, np.float16, (5, 40, 30, 3))
  status = path.stat()
  assert 512 * status.st_blocks >= status.st_size > 2 * array.size
  array[:] = 7
  array.flush()
  np.testing.assert_array_equal(np.load(path), np.full_like(array, 7))
