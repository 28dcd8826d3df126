"""Apache Beam: options, and errors of workers."""

import sys
import threading
import time
import types

import pytest

from vitexco_jax import beam
from vitexco_jax.errors import UserError


def test_without_beam_the_error_names_the_install_command(monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(UserError, match='requirements/beam.txt'):
    beam.check('--runner=DirectRunner')


class _Pipeline:
  """Stands in for a pipeline that fails with a message."""

  def __init__(self, message):
    self._message = message

  def __call__(self, options):
    return self

  def __enter__(self):
    return self

  def __exit__(self, *_):
    return None

  def __or__(self, step):
    if step == 'work':
      raise RuntimeError(self._message)
    return self


def _pretend(monkeypatch, message):
  """Installs a package whose pipelines fail."""
  package = types.ModuleType('apache_beam')

  class _Step(str):
    def __rrshift__(self, name):
      return name

  for name in ('Create', 'Reshuffle', 'Map'):
    setattr(package, name, lambda *_: _Step())
  package.Pipeline = _Pipeline(message)
  options = types.ModuleType('apache_beam.options.pipeline_options')
  options.PipelineOptions = list
  monkeypatch.setitem(sys.modules, 'apache_beam', package)
  monkeypatch.setitem(sys.modules, 'apache_beam.options', types.ModuleType('o'))
  monkeypatch.setitem(
    sys.modules, 'apache_beam.options.pipeline_options', options
  )


@pytest.mark.parametrize('options', ['', 'DirectRunner', '--runner X'])
def test_options_begin_with_dashes(monkeypatch, options):
  _pretend(monkeypatch, '')
  with pytest.raises(UserError, match='not a list of options'):
    beam.check(options)


@pytest.mark.parametrize(
  'message',
  [
    'vitexco_jax.errors.UserError: no disk on b [while running "work"]',
    'Traceback:\n  File ...\nvitexco_jax.errors.UserError: no disk on b\n\n',
    'b"...\\nvitexco_jax.errors.UserError: no disk on b\\n"',
  ],
)
def test_an_error_of_a_worker_becomes_one_sentence(monkeypatch, message):
  _pretend(monkeypatch, message)
  with pytest.raises(UserError) as caught:
    beam.run('work', print, [1], '--runner=X')
  assert str(caught.value) == 'no disk on b'


def test_a_killed_process_ends_the_pipeline(monkeypatch):
  _pretend(monkeypatch, '')
  ended = threading.Event()

  class _Endless(_Pipeline):
    def __or__(self, step):
      if step != 'work':
        return self

      def die():
        time.sleep(0.1)
        raise RuntimeError('Worker subprocess exited with return code 137')

      threading.Thread(target=die).start()
      ended.wait(60)

  monkeypatch.setattr(sys.modules['apache_beam'], 'Pipeline', _Endless(''))
  with pytest.raises(UserError, match='was killed, .* run the same command'):
    beam.run('work', print, [1], '--runner=X')
  assert not ended.is_set()


def test_other_errors_are_not_hidden(monkeypatch):
  _pretend(monkeypatch, 'the runner has no memory')
  with pytest.raises(RuntimeError, match='no memory'):
    beam.run('work', print, [1], '--runner=X')
