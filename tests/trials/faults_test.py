"""Short runs of the trials `faults.py` and `soak.py`."""

import cv2
import faults
import numpy as np
import pytest
import soak

from vitexco_jax.media import video


@pytest.fixture
def clips(tmp_path):
  """Two clips of moving noise."""
  folder = tmp_path / 'clips'
  for seed in range(2):
    rgb = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    rgb = cv2.resize(rgb, (96, 64), interpolation=cv2.INTER_CUBIC)
    with video.VideoWriter(folder / f'{seed}.mp4', video.Format(64, 96)) as out:
      for i in range(16):
        out.write(video.Frame(np.roll(rgb, 2 * i, 1)))
  return soak.list_clips(folder)


def test_broken_inputs_are_colorized_or_rejected_in_one_sentence(
  tmp_path, clips, monkeypatch
):
  # A truncated .mkv, .webm, and .avi; pictures, a frame, a plan, lists, weights.
  numbers = 6, 9, 29, 10, 12, 33, 37, 38, 39, 41
  cases = faults.broken(clips, tmp_path, numbers, 0, lambda number: False)
  statuses = []
  for case, result, wrong in cases:
    assert not wrong, (case, result.messages)
    statuses.append(result.status)
  assert set(statuses) == {0, 1}


def test_a_killed_run_resumes_to_the_same_result(tmp_path, clips, monkeypatch):
  # At a random time, and at an access to a file.
  for case, result, wrong in faults.kill(clips, tmp_path, [0, 1], 0):
    assert not wrong, (case, result.messages)


def test_two_films_are_compared(tmp_path, clips, capsys):
  for name, frames in (('a.mkv', 30), ('b.mkv', 28)):
    soak.write_film(tmp_path / name, clips, frames)
  soak.compare(tmp_path / 'a.mkv', tmp_path / 'a.mkv')
  text = capsys.readouterr().out
  assert (
    'frames: 30; missing or too many: 0; with another timestamp: 0;' in text
  )
  assert 'equal; the first at' in text and 'not equal' not in text
  soak.compare(tmp_path / 'a.mkv', tmp_path / 'b.mkv')
  text = capsys.readouterr().out
  assert 'frames: 28; missing or too many: 2;' in text and 'not equal' in text
