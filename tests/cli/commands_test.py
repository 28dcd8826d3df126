"""What each mode runs."""

import subprocess
import sys

import pytest

from vitexco_jax.cli import commands
from vitexco_jax.cli.modes import MODES


@pytest.mark.parametrize('mode', MODES)
def test_each_mode_runs_the_function_of_its_name(mode):
  assert MODES[mode].run is getattr(commands, mode)


def test_wrong_arguments_are_reported_before_slow_imports():
  code = (
    'import sys; from vitexco_jax.cli import commands\n'
    "print({'jax', 'flax', 'cv2', 'tensorflow'} & sys.modules.keys())"
  )
  call = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert call.stdout == 'set()\n'
