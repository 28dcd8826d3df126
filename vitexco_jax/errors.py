"""Errors that the user can fix.

Raise `UserError` with one sentence that names the file or the argument and says what
to do. Write arguments in backquotes, with or without the value: `bits=12`. `launch.py`
prints the sentence, with flags for arguments and without a traceback, and exits with
status 1.
"""

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
  """Bad input; `str(error)` is the whole message for the user."""


def program() -> str:
  """Returns the command that runs this program, for messages."""
  name = Path(sys.argv[0]).stem
  return name if name == 'vitexco' else 'python launch.py'


def nearest(
  name: str, known: Iterable[str], prefix: str = '', cutoff: float = 0.5
) -> str:
  """Suggests the nearest known name, if there is a similar one."""
  near = difflib.get_close_matches(name, known, 1, cutoff)
  return f'; did you mean {prefix}{near[0]}?' if near else ''
