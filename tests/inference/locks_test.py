"""locks: one holder at a time, and folders that are removed meanwhile."""

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
