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
_RENAMED = {
  'compared': 'baselines',
  'pictures': 'reference',
  'plan_path': 'plan',
  'video_path': 'video',
}


def with_flags(text: str) -> str:
  """Replaces the arguments in a message by flags."""

  def replace(match: re.Match[str]) -> str:
    name, value = match.groups(default='')
    if name.startswith('config.'):
      return f'--{name}{value}'
    flag = _RENAMED.get(name, name.replace('_', '-'))
    return f'--{flag}{value}' if flag in flags.FLAGS else match[0]

  return _ARGUMENT.sub(replace, text)


def show_log() -> None:
  """Prints the messages of the library from now on.

  Results, of level INFO, go to stdout as they are. Warnings go to stderr, each with
  its kind before it: `warning`, or the `kind` of the record, if it has one.
  """
  logger = logging.getLogger('vitexco_jax')
  logger.handlers = [_Handler()]
  logger.setLevel(logging.INFO)
  logger.propagate = False  # Handlers of other libraries would repeat them.


class _Handler(logging.Handler):
  """Prints messages above a progress bar."""

  def emit(self, record: logging.LogRecord) -> None:
    import tqdm  # Most calls need no progress bar, and print nothing.

    text, stream = record.getMessage(), sys.stdout
    if record.levelno >= logging.WARNING:
      kind = getattr(record, 'kind', 'warning')
      text, stream = with_flags(text), sys.stderr
      text = f'{kind}: {text}' if kind else text
    tqdm.tqdm.write(text, file=stream)
    stream.flush()
