"""The folder of compiled programs: where it is, and its size."""

import os

from vitexco_jax.cli import program_cache


def test_programs_that_were_not_used_for_the_longest_time_are_removed(tmp_path):
  for age, name in enumerate(('newest', 'newer', 'old', 'oldest')):
    path = tmp_path / f'{name}-cache'
    path.write_bytes(bytes(100))
    written = 10**9
    os.utime(path, (written - age, written - 100))
  (tmp_path / 'other').write_bytes(bytes(1000))
  (tmp_path / 'traces').mkdir()
  (tmp_path / 'newer-cache').rename(tmp_path / 'traces' / 'newer-cache')
  (tmp_path / 'old-cache').rename(tmp_path / 'traces' / 'old-cache')
  program_cache.trim(tmp_path, 250)
  left = {path.name for path in tmp_path.rglob('*') if path.is_file()}
  assert left == {'newest-cache', 'newer-cache', 'other'}
  program_cache.trim(tmp_path / 'missing', 250)


def test_only_the_folder_of_the_program_is_trimmed(tmp_path, monkeypatch):
  monkeypatch.setattr(program_cache, '_MOST_BYTES', 0)
  for name in ('mine', 'vitexco'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'a-cache').write_bytes(b'a')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'mine'))
  program_cache.set_up()
  assert (tmp_path / 'mine' / 'a-cache').exists()
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  program_cache.set_up()
  assert os.environ['JAX_COMPILATION_CACHE_DIR'] == str(tmp_path / 'vitexco')
  assert not list((tmp_path / 'vitexco').iterdir())
