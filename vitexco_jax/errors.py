"""What a user can mend.

Raise `UserError` with one sentence that names the file or flag and says what to
do; `launch.py` prints it without a traceback and exits with status 1.
"""

import sys
from pathlib import Path


class UserError(Exception):
  """Bad input; `str(error)` is the whole message for the user."""


def program() -> str:
  """How the user calls this program, to be said in a sentence."""
  name = Path(sys.argv[0]).stem
  return name if name == 'vitexco' else 'python launch.py'
