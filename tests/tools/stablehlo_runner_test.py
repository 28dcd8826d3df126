"""The runner of exported programs; `export_test` runs the programs with it."""

import ast
import sys

import numpy as np

from vitexco_jax import sizes
from vitexco_jax.tools import stablehlo_runner


def test_pictures_fit_the_bound_in_either_orientation_and_are_padded():
  for shape, size, padded in (
    ((150, 90), (80, 48), (80, 48)),
    ((90, 150), (48, 80), (48, 80)),
    ((20, 30), (20, 30), (32, 32)),  # Not enlarged.
  ):
    pictures = np.full((1, *shape, 1), 7.0, np.float32)
    actual, inner = stablehlo_runner.shrink(pictures, (48, 80))
    assert inner == size and actual.shape == (1, *padded, 1)
    np.testing.assert_allclose(actual, 7.0, rtol=1e-6)


def test_the_runner_needs_only_jax_and_numpy():
  with open(stablehlo_runner.__file__) as file:
    tree = ast.parse(file.read())
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module.split('.')[0])
  assert names - set(sys.stdlib_module_names) == {'jax', 'numpy'}


def test_references_are_extended_as_by_the_library_and_cut_again():
  bound = (100, 170)
  for size in ((96, 160), (112, 112), (160, 64), (48, 80), (32, 96)):
    shape = stablehlo_runner.shared(size, bound)
    assert shape == sizes.shared(size, bound)
    rgb = np.random.default_rng(0).uniform(size=(1, *size, 3))
    extended = stablehlo_runner.extend(rgb, shape)
    assert extended.shape == (1, *shape, 3)
    # A position for each 4x4 pixels.
    keys = extended[:, ::4, ::4].reshape(1, -1, 3)
    actual = stablehlo_runner.cut(keys, shape, size)
    expected = np.float32(rgb[:, ::4, ::4]).reshape(1, -1, 3)
    np.testing.assert_array_equal(actual, expected)
