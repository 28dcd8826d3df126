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


def test_results_go_to_stdout_and_warnings_to_stderr(capsys):
  logger = logging.getLogger('vitexco_jax.a')
  logger.info('100 % done with `frame_rate`')
  logger.debug('unseen')
  logger.warning('no %s', '`frame_rate`')
  logger.warning('interlaced', extra={'kind': 'note'})
  logger.warning('skipped', extra={'kind': ''})
  printed = capsys.readouterr()
  assert printed.out == '100 % done with `frame_rate`\n'
  assert printed.err == 'warning: no --frame-rate\nnote: interlaced\nskipped\n'
