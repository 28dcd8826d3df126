"""Runs the program in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = f'--config={ROOT / "configs/vitexco.py"}:tiny'
PAPER_TINY = f'--config={ROOT / "configs/vitexco.py"}:paper_tiny'


def environment(devices=2):
  """Returns environment variables; see conftest.py for compilation."""
  return os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': str(devices),
  }


def start(home, *arguments, devices=2):
  """Starts the program in the folder `home`; its outputs are pipes."""
  return subprocess.Popen(
    [sys.executable, ROOT / 'launch.py', *arguments],
    cwd=home,
    env=environment(devices),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
