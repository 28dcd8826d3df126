"""The progress of a film."""

from concurrent import futures

import numpy as np

from vitexco_jax.inference.film_job import Progress
from vitexco_jax.inference.stretches import Block


def test_steps_of_several_workers_are_all_counted():
  progress = Progress(frames=1)
  with futures.ThreadPoolExecutor(4) as pool:
    totals = list(pool.map(progress.count, [1] * 400))
  assert sorted(totals) == list(range(1, 401))


def test_a_block_sets_the_confidence_of_its_frames():
  progress = Progress(frames=4)
  block = Block(1, 3, 'hash')
  progress.note(block, {'confidence': [0.25, 0.5]})
  np.testing.assert_array_equal(
    progress.confidences, [np.nan, 0.25, 0.5, np.nan]
  )
  assert list(progress.facts) == [block]
