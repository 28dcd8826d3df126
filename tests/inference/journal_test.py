"""Entries of the `.part` folder: damaged ones are never returned."""

import json

import numpy as np
import pytest
from damages import DAMAGES, remove

from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal, locks

FACTS = {'pts': [0, 40, 80], 'confidence': [0.5, 0.25, 0.125]}


@pytest.fixture
def folder(tmp_path):
  """A journal with one entry: a file, a folder of files, an array."""
  part = journal.Journal(tmp_path / 'out.part', ['output'])
  with part.opened():
    for name in ('output/0000000/a.png', 'output/0000000/b.png', '0000000.mkv'):
      path = part.path(name)
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(name.encode() * 9)
    np.save(part.path('0000000.npy'), np.arange(6.0))
    part.write('0000000', 'key', NAMES, FACTS)
  return part


NAMES = ['output/0000000', '0000000.mkv', '0000000.npy']


def test_an_entry_is_restored(folder):
  with folder.opened():
    assert folder.read('0000000', 'key', NAMES) == FACTS
    assert folder.read('0000000', 'another key', NAMES) is None
    assert folder.read('0000004', 'key', NAMES) is None
    assert folder.read('0000000', 'key', ['0000004.npy']) is None


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize(
  'name',
  ['output/0000000/b.png', '0000000.mkv', '0000000.npy', '0000000.json'],
)
def test_a_damaged_file_is_named(folder, name, damage):
  damage(folder.folder / name)
  if name.endswith('.json') and damage is remove:
    assert folder.read('0000000', 'key', NAMES) is None
  else:
    message = name.removesuffix('/b.png')
    with pytest.raises(journal.DamagedError, match=message):
      folder.read('0000000', 'key', NAMES)
  with folder.opened():  # What is in the way of a new file is removed.
    for part in NAMES[1:]:
      folder.path(part).write_bytes(b'new')
    folder.write('0000000', 'key', NAMES[1:], FACTS)
    assert folder.read('0000000', 'key', NAMES[1:]) == FACTS


def test_missing_and_additional_files_are_detected(folder):
  (folder.folder / 'output/0000000/c.png').write_bytes(b'')
  with pytest.raises(journal.DamagedError, match='output/0000000 is damaged'):
    folder.read('0000000', 'key', NAMES)
  (folder.folder / '0000000.mkv').unlink()
  with pytest.raises(journal.DamagedError, match=r'0000000.mkv is missing'):
    folder.read('0000000', 'key', NAMES[1:])
  assert folder.read('0000000', 'key', ['0000000.npy']) == FACTS


@pytest.mark.parametrize(
  'text',
  [
    '',
    'null',
    '[]',
    '7',
    '"text"',
    '{}',
    '{"sha256": 7}',
    'NaN',
    '[' * 100_000,
    '9' * 100_000,
    '\ufeff{}',
    '{"facts": NaN, "sha256": ""}',
  ],
)
def test_an_invalid_record_is_damaged(folder, text):
  path = folder.folder / '0000000.json'
  path.write_text(text)
  with pytest.raises(journal.DamagedError, match='0000000.json is damaged'):
    folder.read('0000000', 'key', NAMES)


def test_a_record_with_other_values_is_damaged(folder):
  path = folder.folder / '0000000.json'
  for change in ({'pts': [0, 40]}, {'pts': ['x']}, {'pts': [float('nan')]}):
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {'facts': FACTS | change}))
    with pytest.raises(journal.DamagedError, match='0000000.json is damaged'):
      folder.read('0000000', 'key', NAMES)


def test_a_record_in_the_place_of_another_is_damaged(folder):
  journal.write_record(folder.folder / 'settings.json', {'a': 1})
  path = folder.folder / '0000000.json'
  path.write_bytes((folder.folder / 'settings.json').read_bytes())
  with pytest.raises(journal.DamagedError, match='0000000.json is damaged'):
    folder.read('0000000', 'key', NAMES)


def test_a_huge_record_is_not_read(folder):
  with open(folder.folder / '0000000.json', 'r+b') as file:
    file.truncate(2**40)  # With holes, which take no room.
  with pytest.raises(journal.DamagedError, match='0000000.json is damaged'):
    folder.read('0000000', 'key', NAMES)


def test_a_new_folder_is_removed_if_it_stays_empty(tmp_path, folder):
  for part, left in ((journal.Journal(tmp_path / 'new'), 0), (folder, 1)):
    with pytest.raises(KeyError), part.opened():
      raise KeyError
    assert part.folder.exists() == left


def test_a_second_run_is_refused(folder):
  again = journal.Journal(folder.folder)
  with (
    folder.opened(),
    pytest.raises(UserError, match='out.part is in use by another run'),
    again.opened(),
  ):
    pass


def test_a_recreated_folder_is_not_locked(folder, monkeypatch):
  flock = locks.fcntl.flock

  def late(handle, how):  # The other run ends just before.
    folder.remove()
    flock(handle, how)

  monkeypatch.setattr(locks.fcntl, 'flock', late)
  with pytest.raises(UserError, match='another run'), folder.opened():
    pass
