"""Child processes with resource limits that open untrusted files.

A few hundred bytes can make a decoder allocate gigabytes, run for hours, or
crash. Uploads are therefore opened in a child process with limits on memory, CPU
time, wall time, and the size of written files:

  with Sandbox() as sandbox:
    with sandbox.open(path) as reader:  # Like VideoReader.
      for frame in reader:
        ...
    missing = sandbox.call(mux.left_out, path, target, about=path)

`DIRECT` does the same for trusted files, in this process and without limits.

A child that exceeds a limit is killed, and the caller gets a `UserError`. A child
also ends when its parent ends for any reason.

The limits protect the machine from exhaustion. They do not confine code that takes
over a decoder: a child runs as the same user.
"""

import enum
import io
import logging
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.media import sandbox_child
from vitexco_jax.media.frames import Format, Frame
from vitexco_jax.media.reader import VideoReader

_Result = TypeVar('_Result')
_logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]  # The parent folder of the package.
_CODE = 'from vitexco_jax.media import sandbox_child; sandbox_child.main()'
_TOO_LONG = getattr(signal, 'SIGXCPU', 0)  # The signal that ends a slow child.
_SECONDS = 20.0  # Wall time, and CPU time, of a call or of opening a file ...
_CALL_RATE = (
  1e7  # ... plus 1 s per this many bytes that a call reads or writes.
)
_FRAME_SECONDS = 2.0  # Average per frame; wall time, and CPU time.
_MESSAGE = 2**26  # Maximum size of a child's answer without pixels, in bytes.


class Sandbox:
  """A group of child processes that end together; a context manager."""

  def __init__(self) -> None:
    self._children: set[_Child] = set()
    self._lock = threading.Lock()
    self._closed = False

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def open(
    self, path: Path, deep: bool = False, deinterlace: bool = False
  ) -> 'Reader':
    """Opens a video as `VideoReader` does.

    Args:
      path: absolute.
      deep: Whether to return frames as uint16.
      deinterlace: Whether to deinterlace the frames.

    Raises:
      UserError: The file cannot be read within the limits.
    """
    child = self._start(path)
    try:
      return Reader(child, path, deep, deinterlace)
    except BaseException:
      child.close()
      raise

  def call(
    self,
    function: Callable[..., _Result],
    *arguments: object,
    about: Path,
    file_bytes: int = 0,
  ) -> _Result:
    """Calls a function in a child and returns its result.

    Args:
      function: at the top level of a module.
      arguments: of the function; all paths are absolute.
      about: the untrusted file that the function opens.
      file_bytes: maximum size of a file that the function writes.

    Raises:
      UserError: The function raised one or exceeded a limit.
    """
    size = about.stat().st_size + file_bytes
    with self._start(about, file_bytes) as child:
      answer: _Result = child.ask(
        _SECONDS + size / _CALL_RATE, function, *arguments
      )
      return answer

  def close(self) -> None:
    """Kills all children; pending calls raise a `UserError`."""
    with self._lock:
      self._closed = True
      for child in self._children:
        child.close()

  def _start(self, about: Path, file_bytes: int = 0) -> '_Child':
    with self._lock:
      if self._closed:
        raise UserError(f'{about} is no longer read')
      self._children = {x for x in self._children if x.is_alive}
      child = _Child(about, file_bytes)
      self._children.add(child)
    return child


class Direct:
  """The interface of `Sandbox` for trusted files, in this process."""

  open = staticmethod(VideoReader)

  def call(
    self,
    function: Callable[..., _Result],
    *arguments: object,
    about: Path,
    file_bytes: int = 0,
  ) -> _Result:
    """Calls the function and returns its result."""
    del about, file_bytes
    return function(*arguments)


DIRECT = Direct()


class Reader:
  """Proxy of a `VideoReader` in a child; has the same attributes."""

  kind: str
  format: Format
  num_frames: int | None
  lost: int
  damaged: list[int]
  other_tracks: list[str]
  interlaced: int

  def __init__(
    self, child: '_Child', path: Path, deep: bool, deinterlace: bool
  ):
    self.path = path
    self._child = child
    self._dtype = np.uint16 if deep else np.uint8
    self._set(child.ask(_SECONDS, VideoReader, path, deep, deinterlace))

  def _set(self, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
      setattr(self, name, value)

  def __iter__(self) -> Self:
    return self

  def __next__(self) -> Frame:
    if not self._child.is_alive:
      raise StopIteration
    answer = self._child.ask(_FRAME_SECONDS, '__next__')
    if not isinstance(answer, Frame):  # No more frames.
      self._set(answer)
      self.close()
      raise StopIteration
    shape = self.format.height, self.format.width, 3
    rgb = np.empty(shape, self._dtype)
    self._child.receive_into(rgb)
    return answer._replace(rgb=rgb)

  def skip(self, count: int) -> None:
    """Skips frames, as `VideoReader.skip` does."""
    self._child.ask(count * _FRAME_SECONDS, 'skip', count)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def close(self) -> None:
    """Ends the child; there are no more frames."""
    self._child.close()


class _Child:
  """A process that answers calls; a context manager."""

  def __init__(self, about: Path, file_bytes: int):
    self._about = about
    self._left = 0.0  # Remaining seconds of wall time.
    self.is_alive = True
    self._connection, child_end = Pipe()
    with child_end:
      self._process = subprocess.Popen(
        [
          sys.executable,
          '-B',  # It must not write files.
          '-c',
          _CODE,
          str(child_end.fileno()),
          str(file_bytes),
        ],
        cwd=_ROOT,
        pass_fds=[child_end.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # Decoders print many messages.
        start_new_session=True,  # Ctrl-C is for the parent.
      )

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def close(self) -> None:
    """Kills the process; another thread's `ask` then fails."""
    self.is_alive = False
    self._process.kill()
    self._process.wait()

  def ask(
    self, seconds: float, function: Callable[..., Any] | str, *arguments: object
  ) -> Any:
    """Calls a function, or a method of the first result, in the process.

    Args:
      seconds: additional time, beyond what is left from earlier calls.
      function: at the top level of a module, or the name of a method.
      arguments: of the function.

    Raises:
      UserError: The function raised one or exceeded a limit.
    """
    self._left += seconds
    begun = time.monotonic()
    try:
      self._connection.send((function, arguments, seconds))
      if not self._connection.poll(self._left):
        raise self._refused('takes too long')
      message = self._connection.recv_bytes(_MESSAGE)
    except (OSError, EOFError) as error:
      raise self._refused(self._why_ended()) from error
    self._left -= time.monotonic() - begun
    try:
      outcome, answer = _Unpickler(io.BytesIO(message)).load()
    except Exception as error:  # Unpickling can raise anything.
      raise self._refused('fails') from error
    if outcome == 'refused':
      raise UserError(answer)
    if outcome == 'memory':
      raise self._refused(
        f'takes more than {sandbox_child.MEMORY >> 20} MB of memory'
      )
    if outcome == 'failed':
      _logger.warning(f'{self._about}: {answer}', extra={'kind': ''})
      raise self._refused('fails')
    return answer

  def _why_ended(self) -> str:
    try:
      code = self._process.wait(1)
    except subprocess.TimeoutExpired:
      return 'fails'
    if code == -_TOO_LONG:
      return 'takes too long'
    return 'fails, or takes too much memory'

  def receive_into(self, array: np.ndarray) -> None:
    """Fills an array with the bytes that follow a result."""
    try:
      self._connection.recv_bytes_into(array.data.cast('B'))
    except (OSError, EOFError) as failure:
      raise self._refused('fails') from failure

  def _refused(self, reason: str) -> UserError:
    self.close()
    return UserError(
      f'{self._about} is rejected because reading it {reason}: convert it to '
      'another format first'
    )


class _Unpickler(pickle.Unpickler):
  """Reads a child's answers; accepts only plain values."""

  def find_class(self, module: str, name: str) -> type:
    kind = super().find_class(module, name)
    plain = tuple, Fraction, enum.IntEnum
    if isinstance(kind, type) and issubclass(kind, plain):
      return kind
    raise pickle.UnpicklingError(f'{module}.{name} is not a plain value')
