"""Passes: colors of one direction of a stretch on the disk."""

import numpy as np
from films import COUNT, make_plan
from painter import Painter

from vitexco_jax.inference import film
from vitexco_jax.inference.plan import Shot
from vitexco_jax.inference.worker import Worker


def test_stored_colors_are_those_that_are_mixed(
  source, still, tmp_path, small_blocks
):
  stills = still('red', frame=0), still('green', frame=COUNT - 1)
  made = make_plan(source, Shot(0, COUNT, stills))
  painter = Painter()
  painter.config.use.still_agreement = 0.0  # They are plain colors.
  colored = film.Film([painter], source, made, tmp_path / 'out.mkv')
  task, _ = colored._tasks
  stretch, job = task.stretch, colored._job
  with job.journal.opened(), Worker(job, painter) as worker:
    for forwards in (True, False):
      numbers = [step.number for step in worker.store(task, forwards)]
      there = range(COUNT - 1) if forwards else range(COUNT - 1, -1, -1)
      assert numbers == [*there]
      assert not [*worker.store(task, forwards)]  # It is stored.
    passes = worker._passes
    stored = passes.load(task, stretch.backwards, None)
    # The painter counts the frames from each still in b.
    count = np.arange(COUNT - 1)
    np.testing.assert_array_equal(stored.forwards.colors[:, 0, 0, 1], count)
    back = stored.backwards[:, 0, 0, 1]
    np.testing.assert_array_equal(back, COUNT - 1 - count)
    (job.journal.folder / '0000000.forwards.npy').write_bytes(b'')
    assert passes.load(task, stretch.backwards, None).forwards is None
    passes.discard(stretch)
    assert not [*job.journal.folder.glob('*wards*')]
