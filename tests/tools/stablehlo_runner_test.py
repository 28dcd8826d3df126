"""The runner of exported programs; `export_test` runs the programs with it."""

import ast
import sys

import numpy as np

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
