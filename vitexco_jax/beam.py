"""Apache Beam: runs independent pieces of work on many machines.

Beam is optional. The value of `--beam=`, such as `--runner=FlinkRunner`, is passed to
Beam unchanged.
"""

import contextlib
import re
import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from vitexco_jax.errors import UserError

_Element = TypeVar('_Element')
# What Beam's runners write about an exception of a worker.
_USER_ERROR = re.compile(r'\bUserError: (.+?)(?: \[while running|[\n\r]|\\n|$)')

_KILLED = (
  'Worker subprocess exited'  # In errors of threads of the DirectRunner.
)


def check(options: str) -> None:
  """Raises UserError if Beam is not installed or its options are wrong.

  Args:
    options: of the pipeline.
  """
  _make_options(options)


def run(
  name: str,
  work: Callable[[_Element], None],
  elements: Iterable[_Element],
  options: str,
) -> None:
  """Calls a function for each element, in a pipeline; waits for all of them.

  Args:
    name: of the step, for displays of the pipeline.
    work: a function of a module, which workers import.
    elements: which can be pickled.
    options: of the pipeline.

  Raises:
    UserError: Beam is not installed, its options are wrong, or a worker was
      killed or has raised this error.
  """
  pipeline_options = _make_options(options)
  import apache_beam

  try:
    with _watched(), apache_beam.Pipeline(options=pipeline_options) as pipeline:
      _ = (
        pipeline
        | 'list' >> apache_beam.Create(list(elements))
        | 'spread' >> apache_beam.Reshuffle()
        | name >> apache_beam.Map(work)
      )
  except UserError:
    raise
  except Exception as error:
    # Runners replace the type of an exception and keep its text.
    match = _USER_ERROR.search(f'{type(error).__name__}: {error}')
    if match is None:
      raise
    raise UserError(match[1]) from error


@contextlib.contextmanager
def _watched() -> Iterator[None]:
  """Ends a pipeline of this machine when one of its processes was killed.

  The DirectRunner would wait for it forever.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  hook, handler = threading.excepthook, signal.getsignal(signal.SIGINT)
  killed = threading.Event()

  def notice(error: threading.ExceptHookArgs) -> None:
    if _KILLED in str(error.exc_value):
      killed.set()
      main = threading.main_thread()
      assert main.ident is not None  # It runs.
      signal.pthread_kill(main.ident, signal.SIGINT)  # Wakes it up.
    else:
      hook(error)

  # It is ignored in the background of a shell script.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  threading.excepthook = notice
  try:
    yield
  except KeyboardInterrupt as error:
    if killed.is_set():
      raise UserError(
        'a worker process was killed, perhaps because memory ran out: run the '
        'same command again to resume'
      ) from error
    raise
  finally:
    threading.excepthook = hook
    signal.signal(signal.SIGINT, handler)


def _make_options(options: str) -> Any:
  """Parses the options of a pipeline."""
  try:
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as error:
    raise UserError(
      '`beam` needs Apache Beam: `pip install -r requirements/beam.txt`, '
      'preferably in a separate environment'
    ) from error
  given = shlex.split(options)
  if not given or not all(x.startswith('--') for x in given):
    raise UserError(
      f'`beam={options}` is not a list of options that begin with two dashes: '
      'BUILD.md has an example for each runner'
    )
  return PipelineOptions(given)
