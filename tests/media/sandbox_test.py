"""sandbox: limits, validation of answers, and the ends of child processes."""

import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import calls
import numpy as np
import pytest
from documents import frames, write_video

from vitexco_jax.errors import UserError
from vitexco_jax.media import mux, sandbox, video
from vitexco_jax.media.sandbox import Sandbox


@pytest.fixture(scope='module')
def film(tmp_path_factory):
  path = tmp_path_factory.mktemp('film') / 'film.mkv'
  write_video(path, frames(1))
  return path


def _box(kind, *parts):
  body = b''.join(parts)
  return struct.pack('>I4s', 8 + len(body), kind) + body


def _full(kind, *numbers):
  """A box of 32-bit numbers, after its version and flags."""
  return _box(kind, struct.pack(f'>{1 + len(numbers)}I', 0, *numbers))


def _claiming(samples):
  """A small MP4 that claims many samples of one byte."""
  entry = _box(
    b'mp4v',
    bytes(6),
    b'\0\1',
    bytes(16),
    struct.pack('>HH', 64, 64),
    bytes(14),
    bytes(32),
    struct.pack('>Hh', 24, -1),
  )
  table = _box(
    b'stbl',
    _box(b'stsd', struct.pack('>II', 0, 1), entry),
    _full(b'stts', 1, samples, 1),
    _full(b'stsc', 1, 1, samples, 1),
    _full(b'stsz', 1, samples),
    _full(b'stco', 1, 600),
  )
  track = _box(
    b'trak',
    _full(b'tkhd', 0, 0, 1, 0, samples, *(0,) * 13, 64 << 16, 64 << 16),
    _box(
      b'mdia',
      _full(b'mdhd', 0, 0, 25, samples, 0),
      _box(b'hdlr', bytes(8), b'vide', bytes(13)),
      _box(b'minf', _full(b'vmhd', 0, 0), table),
    ),
  )
  return (
    _box(b'ftyp', b'isom\0\0\2\0isom')
    + _box(b'moov', _full(b'mvhd', 0, 0, 25, samples, *(0,) * 20), track)
    + _box(b'mdat', bytes(64))
  )


@pytest.mark.parametrize('deep', [False, True])
def test_frames_equal_those_of_the_reader(film, deep):
  with video.VideoReader(film, deep) as reader:
    expected = [*reader]
  with Sandbox() as box, box.open(film, deep) as reader:
    assert (reader.kind, reader.num_frames) == ('video', len(expected))
    assert reader.format == video.VideoReader(film).format
    first = next(reader)
    reader.skip(2)
    given = [first, *reader]
    assert (reader.lost, reader.damaged) == (0, [])
    assert [*reader] == []
  for one, other in zip(given, [expected[0], *expected[3:]], strict=True):
    assert one.rgb.dtype == other.rgb.dtype and one.pts == other.pts
    np.testing.assert_array_equal(one.rgb, other.rgb)


def test_functions_run_in_a_child(film):
  with Sandbox() as box:
    assert box.call(os.getpid, about=film) != os.getpid()
    assert box.call(time.sleep, 0.0, about=film) is None
    assert box.call(mux.left_out, film, Path('out.mkv'), about=film) == []
    with pytest.raises(UserError, match='absent.mkv does not exist'):
      box.open(film.with_name('absent.mkv'))


_OPEN_AND_MEASURE = """
import pathlib, resource, sys
from vitexco_jax.errors import UserError
from vitexco_jax.media.sandbox import Sandbox
with Sandbox() as box:
  try:
    box.open(pathlib.Path(sys.argv[1]))
  except UserError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_small_file_with_large_claims_is_refused(tmp_path):
  path = tmp_path / 'film.mp4'
  path.write_bytes(_claiming(80_000_000))
  assert path.stat().st_size < 700
  # In a process of its own: the peak is that of all children there ever were.
  done = subprocess.run(
    [sys.executable, '-c', _OPEN_AND_MEASURE, path],
    capture_output=True,
    text=True,
    check=True,
  )
  sentence, peak = done.stdout.splitlines()
  assert 'film.mp4' in sentence
  assert int(peak) < 2 * 2**20  # kB. Without a sandbox it would be 3 GB.


@pytest.mark.parametrize(
  'function, arguments, sentence',
  [
    (bytearray, (2**32,), 'takes more than 1536 MB of memory'),
    (time.sleep, (60,), 'takes too long'),
    (sum, (range(10**12),), 'takes too long'),
    (os.abort, (), 'fails, or takes too much memory'),
    (int, ('x',), 'fails'),
    (bytes, (2**27,), 'fails'),  # A long answer.
    (Path, ('x',), 'fails'),  # No plain value.
  ],
)
def test_the_limits_of_a_child(
  film, monkeypatch, capsys, function, arguments, sentence
):
  monkeypatch.setattr(sandbox, '_SECONDS', 3.0)
  begun = time.monotonic()
  with (
    Sandbox() as box,
    pytest.raises(UserError, match=f'film.mkv is rejected.*{sentence}'),
  ):
    box.call(function, *arguments, about=film)
  assert time.monotonic() - begun < 30
  assert len(capsys.readouterr().err.splitlines()) <= 1


@pytest.mark.parametrize('room', [0, 99, 100])
def test_files_that_a_child_writes_have_a_limit(tmp_path, film, room):
  with Sandbox() as box, contextlib.ExitStack() as stack:
    if room < 100:
      stack.enter_context(pytest.raises(UserError, match='fails'))
    box.call(
      Path.write_bytes,
      tmp_path / 'out',
      bytes(100),
      about=film,
      file_bytes=room,
    )
  assert (tmp_path / 'out').stat().st_size == room


def test_a_slow_frame_ends_the_reading(film, monkeypatch):
  monkeypatch.setattr(sandbox, '_FRAME_SECONDS', 0.0)
  with Sandbox() as box, box.open(film) as reader:
    reader._child._left = 0.0
    os.kill(reader._child._process.pid, signal.SIGSTOP)
    with pytest.raises(UserError, match='reading it takes too long'):
      next(reader)
    assert [*reader] == []


def test_closing_ends_waiting_callers(film):
  box = Sandbox()
  reader = box.open(film)
  next(reader)
  process = reader._child._process
  box.close()
  assert process.poll() is not None
  assert [*reader] == []
  with pytest.raises(UserError, match='no longer read'):
    box.open(film)


def test_a_child_ends_with_its_parent(film):
  parent = subprocess.Popen(
    [
      sys.executable,
      '-c',
      'import sys, time, pathlib\n'
      'from vitexco_jax.media.sandbox import Sandbox\n'
      f'reader = Sandbox().open(pathlib.Path({str(film)!r}))\n'
      'print(reader._child._process.pid, flush=True)\n'
      'time.sleep(60)',
    ],
    stdout=subprocess.PIPE,
    text=True,
    cwd=calls.ROOT,
  )
  with parent:
    child = int(parent.stdout.readline())
    parent.kill()
  for _ in range(200):
    if not Path(f'/proc/{child}').exists():
      break
    time.sleep(0.05)
  else:
    raise AssertionError('the child is still there')
