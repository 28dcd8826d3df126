"""Apache Beam: runs independent pieces of work on many machines.

Beam is optional. The value of `--beam=`, such as `--runner=FlinkRunner`, is passed to
Beam unchanged.
"""

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from vitexco_jax.errors import UserError

_Element = TypeVar('_Element')
# What Beam's runners write about an exception of a worker.
_USER_ERROR = re.compile(r'\bUserError: (.+?)(?: \[while running|[\n\r]|\\n|$)')


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
    UserError: Beam is not installed, its options are wrong, or a worker has raised
      this error.
  """
  pipeline_options = _make_options(options)
  import apache_beam

  try:
    with apache_beam.Pipeline(options=pipeline_options) as pipeline:
      _ = (
        pipeline
        | 'list' >> apache_beam.Create(list(elements))
        | 'spread' >> apache_beam.Reshuffle()
        | name >> apache_beam.Map(work)
      )
  except Exception as error:
    # Runners replace the type of an exception and keep its text.
    match = _USER_ERROR.search(f'{type(error).__name__}: {error}')
    if match is None:
      raise
    raise UserError(match[1]) from error


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
