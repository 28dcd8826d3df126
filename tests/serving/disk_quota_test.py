"""disk_quota: limits on the files of a folder, and the space that stays free."""

import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.serving import disk_quota

BYTES = 1 << 16


def test_files_of_all_subfolders_count(tmp_path, monkeypatch):
  monkeypatch.setattr(disk_quota, '_RESERVE', 0)
  monkeypatch.setattr(disk_quota, '_SECONDS', -1.0)  # Always measure.
  quota = disk_quota.DiskQuota(tmp_path, 3 * BYTES)
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'file').write_bytes(b'x' * BYTES)
  assert disk_quota.size(tmp_path) >= 2 * BYTES
  quota.check()
  with pytest.raises(UserError, match='no room left on the disk'):
    quota.check(2 * BYTES)
  (tmp_path / 'a/file').unlink()
  quota.check(BYTES)


def test_some_space_stays_free(tmp_path, monkeypatch):
  monkeypatch.setattr(disk_quota, '_RESERVE', 2**60)
  with pytest.raises(UserError, match='no room left on the disk'):
    disk_quota.DiskQuota(tmp_path).check()
