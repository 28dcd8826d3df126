"""Calls in the child of a sandbox; `sandbox_test` tests its limits."""

import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.media import sandbox_child


def _raise(error):
  raise error


@pytest.mark.parametrize(
  'error, outcome',
  [
    (StopIteration(), ('end', None)),
    (UserError('a.mp4 is damaged'), ('refused', 'a.mp4 is damaged')),
    (MemoryError(), ('memory', None)),
  ],
)
def test_expected_errors_have_outcomes_of_their_own(error, outcome):
  assert sandbox_child._call(_raise, (error,)) == outcome


def test_other_errors_name_the_line():
  outcome, text = sandbox_child._call(_raise, (KeyError('x'),))
  line = _raise.__code__.co_firstlineno + 1
  assert outcome == 'failed'
  assert text == f"KeyError('x') at sandbox_child_test.py:{line}"
  assert sandbox_child._call(max, (1, 2)) == ('done', 2)
