"""locks: one holder at a time, and folders that are removed meanwhile."""

import concurrent.futures
import errno
import os
import stat
import time

from vitexco_jax.inference import locks


def test_one_holder_at_a_time(tmp_path):
  with locks.try_lock(tmp_path) as first, locks.try_lock(tmp_path) as second:
    assert first and not second
  with locks.try_lock(tmp_path) as third:
    assert third
  assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_removes(tmp_path, monkeypatch):
  folder = tmp_path / 'folder'
  folder.mkdir()
  flock = locks.fcntl.flock

  def late(handle, how):
    folder.rmdir()
    flock(handle, how)

  monkeypatch.setattr(locks.fcntl, 'flock', late)
  with locks.try_lock(folder) as locked:
    assert not locked


def test_folders_of_a_network_file_system_are_locked_by_a_file(
  tmp_path, monkeypatch
):
  folder = tmp_path / 'folder'
  folder.mkdir()
  flock = locks.fcntl.flock

  def only_files(handle, how):
    if stat.S_ISDIR(os.fstat(handle).st_mode):
      raise OSError(errno.EBADF, 'Bad file descriptor')
    flock(handle, how)

  monkeypatch.setattr(locks.fcntl, 'flock', only_files)
  for _ in range(2):
    with locks.try_lock(folder) as first, locks.try_lock(folder) as second:
      assert first and not second
      assert (tmp_path / '.folder.lock').exists()
    assert [*tmp_path.iterdir()] == [folder]


def test_a_second_process_waits_for_a_file(tmp_path):
  path, events = tmp_path / 'file', []

  def work(name):
    with locks.wait(path):
      events.append(name)
      time.sleep(0.01)
      events.append(name)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(work, 'ab'))
  assert events in (['a', 'a', 'b', 'b'], ['b', 'b', 'a', 'a'])
