"""A film that the tests of the page upload."""

import pytest
from page_inputs import write_film


@pytest.fixture(scope='session')
def film(tmp_path_factory):
  """The bytes of a video of two gray shots."""
  path = tmp_path_factory.mktemp('film') / 'film.mp4'
  write_film(path)
  return path.read_bytes()
