"""The table of modes: their help, and their flags."""

import re

import pytest

from vitexco_jax.cli import arguments, flags
from vitexco_jax.cli.modes import MODES


@pytest.mark.parametrize('mode', MODES)
def test_each_mode_has_a_help_text(mode):
  text = arguments.make_help([f'--mode={mode}', '--help'], '')
  assert text == arguments.make_help([mode, '-h'], '')
  assert text == arguments.make_help(['-h', '--mode', mode], '')
  assert text.startswith(MODES[mode].help) and f' --mode={mode} ' in text
  own = {*MODES[mode].needed, *MODES[mode].optional, 'config'}
  actual = re.findall(r'^  --(?:\[no\])?([a-z-]+): ', text, re.MULTILINE)
  assert len(actual) == len(own) and {*actual} == own


def test_every_flag_belongs_to_a_mode():
  of_modes = {
    name
    for mode in MODES.values()
    for name in (*mode.needed, *mode.optional, 'config', 'mode')
  }
  defined = {
    value.name
    for value in vars(flags).values()
    if isinstance(value, flags.flags.FlagHolder)
  }
  assert defined == of_modes
