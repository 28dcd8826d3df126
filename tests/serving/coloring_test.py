"""coloring: segments of the result, and their end."""

import pytest
from page_inputs import COUNT, Stub

from vitexco_jax.inference import plan
from vitexco_jax.inference.survey import survey
from vitexco_jax.serving import coloring
from vitexco_jax.serving.disk_quota import DiskQuota, FullError
from vitexco_jax.serving.jobs import Job
from vitexco_jax.serving.output_settings import Settings


@pytest.fixture
def color(tmp_path, film):
  path = tmp_path / 'video'
  path.write_bytes(film)
  surveyed = survey(path)
  planned = plan.same_for_all(surveyed, [plan.NONE])
  own = coloring.Coloring(DiskQuota(tmp_path))

  def run(**settings):
    colorizer = Stub()
    arguments = colorizer, path, planned, surveyed, Settings(**settings)
    own.run(Job('colors', None), *arguments)
    return own, colorizer

  return run


def _files(folder):
  return sorted(path.name for path in folder.iterdir())


def test_other_settings_start_over(tmp_path, color):
  color()
  own, colorizer = color()
  assert colorizer.references == []  # Nothing has changed.
  own, colorizer = color(codec='ffv1', saturation=0.5, working_size=(32, 48))
  assert own.result.name == 'colored.mkv' and len(colorizer.references) == 2
  assert _files(tmp_path) == ['colored.mkv', 'colored.mkv.work', 'video']
  own.forget()
  assert _files(tmp_path) == ['video'] and own.read(0) is None


def test_frames_are_read_from_segments(color):
  own, _ = color()
  assert own.kept == 2 * COUNT and own.ranges == [[0, 2 * COUNT]]
  assert own.read(COUNT).startswith(b'\xff\xd8')
  assert own.read(2 * COUNT) is None


def test_a_full_disk_leaves_no_segments(tmp_path, color, monkeypatch):
  color()

  def check(*_):
    raise FullError('full')

  monkeypatch.setattr(DiskQuota, 'check', check)
  with pytest.raises(FullError):
    color()
  assert _files(tmp_path) == ['video']


def test_the_working_size_is_that_of_the_settings():
  colorizer = Stub()
  usual = colorizer.config.use.size
  own = coloring.sized(colorizer, Settings(working_size=(32, 48)))
  assert own.config.use.size == (32, 48) and colorizer.config.use.size == usual
