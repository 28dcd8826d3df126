"""Messages: arguments become flags on the command line."""

import logging

import pytest

from vitexco_jax.cli import flags, messages


@pytest.mark.parametrize(
  'text, expected',
  [
    ('`frame_rate=0` is too low', '--frame-rate=0 is too low'),
    ('leave out `frame_rate`', 'leave out --frame-rate'),
    ('`pictures=a b/c.png`: gray', '--reference=a b/c.png: gray'),
    ('set `config.use.size`', 'set --config.use.size'),
    ('`pip install x` or `other=1`', '`pip install x` or `other=1`'),
    ('an odd ` in `frame_rate', 'an odd ` in `frame_rate'),
  ],
)
def test_arguments_become_flags(text, expected):
  assert flags.FRAME_RATE.name == 'frame-rate'  # The flags are defined.
  assert messages.with_flags(text) == expected


def test_warnings_and_notes_are_printed(capsys):
  logger = logging.getLogger('vitexco_jax')
  before = list(logger.handlers), logger.level, logger.propagate
  try:
    messages.show_log()
    logging.getLogger('vitexco_jax.a').warning('no %s', '`frame_rate`')
    logging.getLogger('vitexco_jax.b').info('a')
  finally:
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)
  assert capsys.readouterr().err == 'warning: no --frame-rate\nnote: a\n'
