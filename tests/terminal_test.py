"""The program continues after errors of its standard streams."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import sys
from vitexco_jax import terminal
terminal.prepare()
with open('work', 'w') as file:
  assert file.fileno() > 2, file.fileno()
  for number in range(20000):
    print(number, 'to stdout')
    print(number, 'to stderr', file=sys.stderr)
  file.write('done')
"""


def _run(tmp_path, redirections, code=CODE, **variables):
  return subprocess.run(
    ['bash', '-c', f'"$0" -c "$1" {redirections}', sys.executable, code],
    cwd=tmp_path,
    env={'PYTHONPATH': str(ROOT), **variables},
    capture_output=True,
  )


@pytest.mark.parametrize(
  'redirections',
  [
    '>&-',
    '2>&- >/dev/null',
    '<&- >&- 2>&-',
    '2>/dev/null | true; exit ${PIPESTATUS[0]}',
    '2>&1 | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}',
    '>/dev/full 2>/dev/full',
  ],
)
def test_closed_streams_do_not_stop_a_run(tmp_path, redirections):
  done = _run(tmp_path, redirections)
  assert done.returncode == 0, done.stderr[-500:]
  assert (tmp_path / 'work').read_text() == 'done'
  assert b'Traceback' not in done.stderr and b'Broken' not in done.stderr


def test_names_that_the_terminal_cannot_encode_are_printed(tmp_path):
  code = (
    'from vitexco_jax import terminal; terminal.prepare();'
    "print('k\\u00f6rper \\udcff')"
  )
  done = _run(tmp_path, '', code, PYTHONIOENCODING='ascii')
  assert (done.stdout, done.stderr) == (b'k\\xf6rper \\udcff\n', b'')
