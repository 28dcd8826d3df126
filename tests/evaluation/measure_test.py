"""Metrics of frames, and frames that do not fit."""

import cv2
import numpy as np
import pytest
from small_clips import (
  Brighter,
  read_row,
  run_evaluate,
)

from vitexco_jax.errors import UserError


@pytest.mark.usefixtures('quick_lpips')
def test_warp_error_uses_the_true_motion(tmp_path):
  """In a moving picture, the truth has no error; flickering colors do."""
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (12, 24, 3), np.uint8)
  wide = cv2.resize(small, (192, 96), interpolation=cv2.INTER_CUBIC)
  (tmp_path / 'data/pan').mkdir(parents=True)
  (tmp_path / 'weights').touch()
  for i in range(6):
    rgb = wide[:, 3 * i : 3 * i + 128]
    assert cv2.imwrite(str(tmp_path / f'data/pan/{i}.png'), rgb)
  flickering = Brighter()
  flickering.colorize = lambda frames: (
    rgb + np.uint8(20 * (i % 2)) * (rgb < 200) for i, rgb in enumerate(frames)
  )
  summary = run_evaluate(tmp_path, flickering)
  true = read_row(summary, 'pan', method='truth')['warp_error']
  actual = read_row(summary, 'pan')['warp_error']
  assert true < 1e-3
  share = (wide < 200).mean()  # Share of values that flicker.
  np.testing.assert_allclose(actual, share * (20 / 255) ** 2, rtol=0.25)


def test_missing_frames_are_refused(folder):
  colorizer = Brighter()
  colorize = colorizer.colorize
  colorizer.colorize = lambda frames: iter(list(colorize(frames))[:-1])
  with pytest.raises(UserError, match='vitexco: frame 2 of boat is missing'):
    run_evaluate(folder, colorizer)
  assert not list((folder / 'out/first-frame').glob('*.mp4'))
