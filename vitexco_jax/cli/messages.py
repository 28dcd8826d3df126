"""Messages of the command line: names of arguments become flags.

The library names an argument in backquotes, alone or with its value, as in
`frame_rate` or `bits=12`. On the command line this is --frame-rate or --bits=12.
"""

import logging
import re
import sys

from absl import flags

_ARGUMENT = re.compile(r'`([\w.]+)(=[^`]*)?`')
# Flags that are not named like the argument.
_RENAMED = {'pictures': 'reference', 'plan_path': 'plan', 'video_path': 'video'}
_KINDS = {logging.INFO: 'note', logging.WARNING: 'warning'}


def with_flags(text: str) -> str:
  """Replaces the arguments in a message by flags."""

  def replace(match):
    name, value = match.groups(default='')
    if name.startswith('config.'):
      return f'--{name}{value}'
    flag = _RENAMED.get(name, name.replace('_', '-'))
    return f'--{flag}{value}' if flag in flags.FLAGS else match[0]

  return _ARGUMENT.sub(replace, text)


def show_log() -> None:
  """Prints warnings and notes of the library from now on."""
  logger = logging.getLogger('vitexco_jax')
  logger.addHandler(_Handler())
  logger.setLevel(logging.INFO)
  logger.propagate = False  # Handlers of other libraries would repeat them.


class _Handler(logging.Handler):
  """Prints one line per message, above a progress bar."""

  def emit(self, record: logging.LogRecord) -> None:
    import tqdm  # Most calls need no progress bar, and print nothing.

    text = with_flags(record.getMessage())
    kind = _KINDS.get(record.levelno, record.levelname.lower())
    tqdm.tqdm.write(f'{kind}: {text}', file=sys.stderr)
