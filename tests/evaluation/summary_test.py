"""Means of the metrics, computed by hand."""

import pytest

from vitexco_jax.evaluation import summary


def _result(psnr, colorfulness, uncounted=(), given=(0,)):
  frames = len(psnr)
  truth = {'colorfulness': [10.0] * frames, 'chroma': [5.0] * frames}
  method = {
    'psnr': psnr,
    'ssim': [0.5] * frames,
    'colorfulness': colorfulness,
    'chroma': [5.0] * frames,
  }
  return {
    'size': [48, 64],
    'frames': frames,
    'references': ['frame 0'],
    'given': list(given),
    'uncounted': list(uncounted),
    'methods': {'truth': truth | {'cdc': 0.1}, 'net': method | {'cdc': 0.2}},
  }


def test_means_of_clips_have_equal_weight():
  results = {
    'long': _result([30.0, 20.0, 25.0], [8.0, None, 6.0]),
    'short': _result([40.0, 20.0], [10.0, 10.0], uncounted=[0]),
  }
  means = summary.summarize(results)
  long = means['clips']['long']['methods']['net']
  assert long['psnr'] == pytest.approx(25)
  assert long['psnr_not_given'] == pytest.approx(22.5)  # Without frame 0.
  assert long['colorfulness'] == pytest.approx(7)  # Of the frames that have it.
  assert long['colorfulness_gap'] == pytest.approx(-3)
  assert long['drift'] == pytest.approx(0, abs=1e-9)
  assert means['clips']['short']['methods']['net']['psnr'] == 20
  assert means['mean']['net']['psnr'] == pytest.approx((25 + 20) / 2)
  assert means['mean']['truth']['cdc'] == pytest.approx(0.1)
