"""Errors of FFmpeg and the operating system as sentences for the user."""

import contextlib
import os
from collections.abc import Iterator

import av

from vitexco_jax.errors import UserError


@contextlib.contextmanager
def explained(verb: str, path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns errors of FFmpeg and the operating system into a `UserError`.

  Args:
    verb: what the block does with the file, such as 'read'.
    path: the file, for the message.
  """
  try:
    yield
  except (av.FFmpegError, OSError) as error:
    cause = reason(error) or error.strerror or error
    raise UserError(f'cannot {verb} {path}: {cause}') from error


def reason(error: Exception) -> str:
  """Returns the reason that FFmpeg logged for an error, or an empty string."""
  log = getattr(error, 'log', None)
  return log[2].strip() if log else ''


@contextlib.contextmanager
def logged() -> Iterator[None]:
  """Attaches the reason that FFmpeg logs to its errors."""
  level = av.logging.get_level()
  av.logging.set_level(av.logging.ERROR)
  try:
    with av.logging.Capture():
      yield
  finally:
    av.logging.set_level(level)
