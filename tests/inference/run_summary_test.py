"""summary: the last line of a run."""

from pathlib import Path

import numpy as np
from films import make_plan

from vitexco_jax.inference.plan import Choice, Shot
from vitexco_jax.inference.run_summary import summarize


def test_the_last_line_says_what_was_written():
  shots = Shot(0, 10, (Choice('a.png'),)), Shot(10, 20, ()), Shot(20, 23, ())
  plan = make_plan('film.mkv', *shots)
  confidences = np.float32([0.25] * 5 + [0.75] * 5 + [1.0] * 10 + [np.nan] * 3)
  targets = [Path('out.mkv'), Path('sure.mkv')]
  text = summarize(targets, plan, confidences, [(2, 4), (8, 11)], 10, 4.0)
  assert text == (
    'Wrote out.mkv sure.mkv: 20 frames; 2.5 frames per second; mean confidence '
    '0.50; doubtful shots: 1, 2'
  )
  confidences[:19] = np.nan
  text = summarize(targets[:1], plan, confidences, [], 0, 0.0)
  assert text == 'Wrote out.mkv: 1 frame; no doubtful shots'
