"""Clips that the tests of the evaluation share."""

import numpy as np
import pytest
from small_clips import (
  write_clip,
)

from vitexco_jax.evaluation import measure
from vitexco_jax.pretrained import lpips


@pytest.fixture
def quick_lpips(monkeypatch):
  """A fake of the network, which has separate tests."""

  def distance(net, rgb, true_rgb):
    assert rgb.shape == true_rgb.shape and rgb.ndim == 4
    return np.abs(np.float32(rgb) - true_rgb).mean((1, 2, 3)) * len(net)

  monkeypatch.setattr(lpips, 'lpips', distance)
  monkeypatch.setattr(measure, '_lpips', lambda net: net)


@pytest.fixture
def folder(tmp_path, quick_lpips):
  (tmp_path / 'weights').write_text('of the first training')
  write_clip(tmp_path / 'data' / 'walk', 12)
  write_clip(tmp_path / 'data' / 'boat', 3, seed=1)
  return tmp_path
