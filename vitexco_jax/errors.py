"""What a user can mend.

Raise `UserError` with one sentence that names the file or flag and says what to
do; `launch.py` prints it without a traceback and exits with status 1.
"""


class UserError(Exception):
  """Bad input; `str(error)` is the whole message for the user."""
