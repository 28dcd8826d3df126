"""doubts: frames that need another reference."""

import numpy as np
from films import COUNT, make_plan

from configs.vitexco import get_config
from vitexco_jax.inference import doubts
from vitexco_jax.inference.shot_plan import NONE, Choice, Shot


def test_long_ranges_of_low_confidence_are_doubtful():
  use = get_config('tiny').use.copy_and_resolve_references()
  use.unsure_frames = 3
  low, high = use.unsure_confidence - 0.1, use.unsure_confidence + 0.1
  confidences = np.full(COUNT, high, np.float32)
  confidences[[1, 2, 4, 5, 6, 7]] = low
  confidences[6] = low - 0.1
  confidences[[10, 11, 12, 15, 16, 17, 18]] = low
  film_plan = make_plan(
    'film.mkv',
    Shot(0, 13, (Choice('a'),), dissolve=3),  # Frames 10 to 12 show two shots.
    Shot(13, COUNT, (Choice(NONE),)),
  )
  ((start, stop),) = doubts.find(film_plan, confidences, use)
  assert (start, stop) == (4, 8)
  assert doubts.worst(start, stop, confidences) == 6
