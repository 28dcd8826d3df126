"""Writing: whole or not at all, what is tried before, and what is said."""

import errno
import os

import pytest

from vitexco_jax import files
from vitexco_jax.errors import UserError


@pytest.mark.parametrize('content', ['Füße', 'Füße'.encode()])
def test_a_file_is_replaced_whole(tmp_path, content):
  path = tmp_path / 'a.json'
  path.write_text('something that is longer')
  files.write(path, content)
  assert path.read_bytes() == 'Füße'.encode()
  assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path):
  (tmp_path / 'a').mkdir()  # In its place.
  with pytest.raises(OSError):
    files.write(tmp_path / 'a', 'text')
  assert [x.name for x in tmp_path.iterdir()] == ['a']


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path):
  for _ in range(2):
    files.make_folder('--output', tmp_path / 'a/b')
    assert not list((tmp_path / 'a/b').iterdir())


def test_a_folder_that_cannot_be_made_names_the_flag(tmp_path):
  (tmp_path / 'file').touch()
  folder = tmp_path / 'file/a'
  with pytest.raises(UserError) as caught:
    files.make_folder('--output', folder)
  reason = os.strerror(errno.ENOTDIR)
  assert str(caught.value) == f'cannot write --output={folder}: {reason}'


def test_a_full_disk_is_said(tmp_path):
  with (
    pytest.raises(UserError, match='write --workdir=.*: No space left'),
    files.explained('--workdir', tmp_path),
  ):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
