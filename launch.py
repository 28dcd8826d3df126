"""Vitexco colorizes black-and-white videos from reference pictures.

The command line; see `vitexco_jax/cli` for its modes and flags:

  python launch.py --help
  python launch.py --mode=colorize --help
"""

import sys
from collections.abc import Sequence

from absl import app, flags, logging

import vitexco_jax
from vitexco_jax import terminal
from vitexco_jax.cli import arguments, messages, program_cache
from vitexco_jax.cli.modes import MODES
from vitexco_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
  """Runs the selected mode; argv[1:] are the arguments other than plain flags."""
  logging.set_verbosity(logging.ERROR)  # Orbax logs every step.
  messages.show_log()
  program_cache.set_up()
  call = arguments.make_call(argv[1:])
  MODES[flags.FLAGS.mode].run(call)


def run() -> None:
  """Runs `main`; prints errors that the user can fix as one sentence."""
  terminal.prepare()
  given = sys.argv[1:]
  if arguments.wants_help(given):
    print(arguments.make_help(given, __doc__.splitlines()[0]))
    return
  if '--version' in given:
    print(f'vitexco {vitexco_jax.__version__}')
    return
  try:
    app.run(main, flags_parser=arguments.parse_flags)
  except UserError as error:
    print(f'error: {messages.with_flags(str(error))}', file=sys.stderr)
    sys.exit(1)
  except OSError as error:
    if error.filename is None:
      raise
    print(f'error: {error.filename}: {error.strerror}', file=sys.stderr)
    sys.exit(1)
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)


if __name__ == '__main__':
  run()
