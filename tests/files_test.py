"""Files: atomic writing, and reading of untrusted files."""

import errno
import os

import pytest

from vitexco_jax import files
from vitexco_jax.errors import UserError


@pytest.mark.parametrize('content', ['Füße', 'Füße'.encode()])
def test_a_file_is_replaced_atomically(tmp_path, content):
  path = tmp_path / 'a.json'
  path.write_text('something that is longer')
  files.write(path, content)
  assert path.read_bytes() == 'Füße'.encode()
  assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_no_file(tmp_path):
  (tmp_path / 'a').mkdir()  # In its place.
  with pytest.raises(OSError):
    files.write(tmp_path / 'a', 'text')
  assert [x.name for x in tmp_path.iterdir()] == ['a']


def test_a_folder_is_created_without_temporary_files(tmp_path):
  for _ in range(2):
    files.make_folder('output', tmp_path / 'a/b')
    assert not list((tmp_path / 'a/b').iterdir())


def test_a_folder_that_cannot_be_created_names_the_argument(tmp_path):
  (tmp_path / 'file').touch()
  folder = tmp_path / 'file/a'
  with pytest.raises(UserError) as caught:
    files.make_folder('output', folder)
  reason = os.strerror(errno.ENOTDIR)
  assert str(caught.value) == f'cannot write `output={folder}`: {reason}'


def test_a_full_disk_is_reported(tmp_path):
  with (
    pytest.raises(UserError, match='write `workdir=.*: No space left'),
    files.explained('workdir', tmp_path),
  ):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('name', ['weights/small', 'configs/vitexco.py'])
def test_included_files_exist(name):
  assert files.shipped(name).exists()


@pytest.mark.parametrize(
  'content',
  [b'{"a": [1, 2.5, "\xc3\xbc"]}', b'\xef\xbb\xbf{"a": [1, 2.5, "\xc3\xbc"]}'],
)
def test_json_is_read_with_and_without_a_byte_order_mark(tmp_path, content):
  (tmp_path / 'a.json').write_bytes(content)
  assert files.read_json(tmp_path / 'a.json') == {'a': [1, 2.5, '\u00fc']}


@pytest.mark.parametrize(
  'content, sentence',
  [
    (b'', 'a.json is not JSON: .* line 1'),
    (b'{"a": 1', 'a.json is not JSON: .* line 1'),
    (b'[1]', 'must be a JSON object, in braces'),
    (b'null', 'must be a JSON object, in braces'),
    (b'{"a": NaN}', 'a.json cannot be used: NaN is not a number'),
    (b'{"a": -Infinity}', '-Infinity is not a number'),
    (b'{"a": 1e999}', '1e999 is not a number'),
    (b'{"a": ' + b'9' * 20 + b'}', 'the number 999999999999999999... is too'),
    (b'{"a": -' + b'9' * 5000 + b'}', 'is too long'),
    (b'{"a": 1, "b": 2, "a": 3}', '"a" is given twice'),
    (b'[' * 100_000, 'is nested too deeply'),
    (b'{"a":' * 100_000, 'is nested too deeply'),
    (b'{"a": "\xfc"}', 'is not a text file in UTF-8'),
    ('{"a": 1}'.encode('utf-16'), 'is not a text file in UTF-8'),
    ('{"a": 1}'.encode('utf-16-le'), 'is not a text file in UTF-8'),
    (b'{"a": "\0"}', 'is not a text file in UTF-8'),
    (b'{"a": "' + b'x' * 2**20 + b'"}', 'has more than 1 MB'),
  ],
)
def test_invalid_json_is_refused(tmp_path, content, sentence):
  (tmp_path / 'a.json').write_bytes(content)
  with pytest.raises(UserError, match=sentence) as caught:
    files.read_json(tmp_path / 'a.json', 2**20)
  assert '\n' not in str(caught.value)


def test_only_regular_files_are_opened(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  os.symlink('loop', tmp_path / 'loop')
  for name, sentence in (
    (tmp_path / 'pipe', 'is a pipe or a device'),
    ('/dev/zero', 'is a pipe or a device'),
    (tmp_path, 'is a folder'),
    (tmp_path / 'none', 'No such file'),
    (tmp_path / 'loop', 'cannot read .*loop: '),
    (tmp_path / ('x' * 300), 'name too long'),
    (tmp_path / 'a\0b', 'cannot be a file name'),
  ):
    with pytest.raises(UserError, match=sentence):
      files.read_text(name)


def test_a_name_next_to_another_is_never_too_long(tmp_path):
  assert files.sibling(tmp_path / 'a.mp4', '.', '.whole') == (
    tmp_path / '.a.mp4.whole'
  )
  for letter in ('n', 'ä'):
    name = letter * (250 // len(letter.encode()))
    first = files.sibling(tmp_path / name, '.', '.whole')
    other = files.sibling(tmp_path / f'{name}x', '.', '.whole')
    assert first != other
    for path in (first, other, files.sibling(first, '.', '.partial')):
      path.touch()
      assert path.parent == tmp_path


def test_targets_of_links_in_a_replaced_folder_remain(tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'in').mkdir()
  (tmp_path / 'out/a.png').touch()
  (tmp_path / 'in/a.png').symlink_to(tmp_path / 'out/a.png')
  files.check_apart([tmp_path / 'new'], [tmp_path / 'in', tmp_path / 'none'])
  with pytest.raises(UserError, match=r'in/a\.png is inside the output'):
    files.check_apart([tmp_path / 'out'], [tmp_path / 'in'])


def test_check_of_writable_paths(tmp_path, monkeypatch):
  files.check_writable(tmp_path / 'a/b/c')
  assert not list(tmp_path.iterdir())
  with pytest.raises(UserError, match='more than the 255 bytes'):
    files.check_writable(tmp_path / ('x' * 256))

  def refuse(dir):
    raise PermissionError(errno.EACCES, 'Permission denied')

  monkeypatch.setattr(files.tempfile, 'TemporaryFile', refuse)
  with pytest.raises(UserError, match='cannot write .*c: .*Permission denied'):
    files.check_writable(tmp_path / 'a/b/c')
