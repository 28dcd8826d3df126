"""Blocks that earlier runs have completed."""

import pytest
from films import COUNT, make_plan, run_film

from vitexco_jax.inference import completed
from vitexco_jax.inference.film_job import Progress
from vitexco_jax.inference.plan import Shot

pytestmark = pytest.mark.usefixtures('small_blocks')


def test_a_block_needs_its_state_only_before_an_incomplete_block(
  source, still, tmp_path, caplog
):
  made = make_plan(source, Shot(0, COUNT, (still('red'),)))
  _, film = run_film(source, made, tmp_path / 'out.mkv', stop=9)
  (task,) = film._tasks
  job = film._job
  assert [x.start for x in job.progress.facts] == [0, 4]
  part = tmp_path / 'out.mkv.part'
  for name, complete in (('0000000.npy', [0, 4]), ('0000004.npy', [])):
    (part / name).unlink()  # Without both, block 4 has no state to start with.
    fresh = job._replace(progress=Progress(COUNT))
    completed.find(fresh, [task])
    assert sorted(x.start for x in fresh.progress.facts) == complete
  assert 'frames 0 to 7 are colorized again' in caplog.text
