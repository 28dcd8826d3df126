"""Messages for users."""

import sys

import pytest

from vitexco_jax import errors


@pytest.mark.parametrize(
  'called, expected',
  [
    ('launch.py', 'python launch.py'),
    ('/usr/bin/vitexco', 'vitexco'),
    ('-c', 'python launch.py'),
  ],
)
def test_messages_name_the_program_as_it_was_called(
  monkeypatch, called, expected
):
  monkeypatch.setattr(sys, 'argv', [called])
  assert errors.program() == expected
