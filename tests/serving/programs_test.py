"""programs: those of one video stay in memory."""

import jax

from vitexco_jax.serving import programs


def test_programs_of_another_video_are_freed(tmp_path):
  one, two = tmp_path / 'one', tmp_path / 'two'
  for path in (one, two):
    path.write_bytes(b'')
  double = jax.jit(lambda x: 2 * x)
  for path, kept in ((one, 0), (one, 1), (two, 0), (one, 0)):
    programs.keep_only(path)
    assert double._cache_size() == kept
    double(1.0)
  one.unlink()
  one.write_bytes(b'another video')  # In the same place.
  programs.keep_only(one)
  assert double._cache_size() == 0
