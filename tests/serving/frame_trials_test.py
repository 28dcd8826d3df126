"""frame_trials: single frames in color."""

import numpy as np
import pytest
from documents import picture
from page_inputs import COUNT, Stub

from vitexco_jax.inference import plan
from vitexco_jax.inference.survey import survey
from vitexco_jax.media import video
from vitexco_jax.serving import frame_trials, jobs
from vitexco_jax.serving.film_frames import FilmFrames
from vitexco_jax.serving.jobs import Job
from vitexco_jax.serving.output_settings import Settings


def test_frames_get_the_colors_of_their_shots(tmp_path, film):
  path, still = tmp_path / 'video', tmp_path / 'still.png'
  path.write_bytes(film)
  video.write_image(still, picture(1))
  surveyed = survey(path)
  shot = surveyed.plan.shots[0]._replace(references=(plan.Choice(str(still)),))
  job = Job('trial', None)
  spread = {}
  for saturation in (0.0, 2.0):
    (trial,) = frame_trials.colorize(
      job,
      Stub(),
      surveyed,
      FilmFrames(path),
      [(COUNT // 2, shot)],
      Settings(saturation=saturation),
    )
    assert trial.number == COUNT // 2 and (job.done, job.total) == (1, 1)
    before, after = (
      np.ptp(np.int16(video.decode_image(x, 'frame')), -1).mean()
      for x in (trial.before, trial.after)
    )
    assert before < 2
    spread[saturation] = after
  assert spread[0.0] < 2 < spread[2.0] - 2


def test_a_stop_ends_a_trial(tmp_path, film):
  path = tmp_path / 'video'
  path.write_bytes(film)
  surveyed = survey(path)
  (shot, _) = plan.same_for_all(surveyed, [plan.NONE]).shots
  job = Job('trial', None)
  trials = frame_trials.colorize(
    job, Stub(), surveyed, FilmFrames(path), [(1, shot), (2, shot)], Settings()
  )
  next(trials)
  job.stopping = True
  with pytest.raises(jobs.Stopped):
    next(trials)
