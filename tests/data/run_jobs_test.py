"""Jobs of the preparation in processes and with Apache Beam."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_videos import (
  make_config,
  read_files,
  run_prepare,
)

from vitexco_jax.errors import UserError


def test_workers_do_not_change_the_records(videos, prepared, tmp_path):
  result = run_prepare(make_config(tmp_path), videos, workers=2)
  assert read_files(tmp_path) == read_files(prepared[0])
  assert result.fingerprint == prepared[1].fingerprint


def test_workers_end_with_a_killed_parent(videos, tmp_path):
  listed = tmp_path / 'list.txt'
  listed.write_text(''.join(f'{videos}/{i * "./"}b.mp4\n' for i in range(200)))
  script = tmp_path / 'killed.py'
  script.write_text(
    'import sys\n'
    'from pathlib import Path\n'
    'from configs import vitexco\n'
    'from vitexco_jax.data import prepare\n'
    "if __name__ == '__main__':\n"
    "  config = vitexco.get_config('tiny')\n"
    "  config.data.flow = 'deepflow'\n"
    '  config.data.records = sys.argv[1]\n'
    '  prepare.prepare(config, Path(sys.argv[2]), workers=2)\n'
  )
  out = tmp_path / 'out'
  root = Path(__file__).resolve().parents[2]
  parent = subprocess.Popen(
    [sys.executable, script, out, listed],
    env=os.environ | {'PYTHONPATH': str(root)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  deadline = time.monotonic() + 60
  while not list(out.glob('parts/b-*.json')) and time.monotonic() < deadline:
    time.sleep(0.05)
  parent.kill()
  # The output ends with the last process that can write to it.
  output, _ = parent.communicate(timeout=30)
  assert list(out.glob('parts/b-*.json')), output.decode()
  assert not (out / 'vitexco').exists()


@pytest.mark.skipif(
  importlib.util.find_spec('apache_beam') is None,
  reason='Apache Beam is not installed: requirements/beam.txt',
)
@pytest.mark.filterwarnings('default')  # From its own imports.
def test_beam_writes_the_same_records(videos, prepared, tmp_path):
  result = run_prepare(
    make_config(tmp_path), videos, beam='--runner=DirectRunner'
  )
  assert result.fingerprint == prepared[1].fingerprint
  assert read_files(tmp_path) == read_files(prepared[0])


def test_without_beam_the_error_names_the_install_command(
  videos, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(UserError, match='requirements/beam.txt'):
    run_prepare(make_config(tmp_path), videos, beam='--runner=DirectRunner')
