"""`--mode=benchmark --profile=DIR`: where the time of coloring a video goes.

A synthetic video is colorized from file to file with random weights, first without the
profile, so that all programs are compiled. The trace names the stages (`stages`) and
has the operations of the device. It opens on ui.perfetto.dev.
"""

import collections
import gzip
import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import ml_collections

from vitexco_jax import files, stages
from vitexco_jax.errors import UserError
from vitexco_jax.tools import benchmark_network

_TRACE = 'perfetto_trace.json.gz'
_logger = logging.getLogger(__name__)


def profile(
  config: ml_collections.ConfigDict,
  folder: Path,
  frames: int = 40,
  size: tuple[int, int] = (480, 854),
) -> Path:
  """Records a profile; prints the time of each stage.

  Args:
    config: of the colorizer.
    folder: for the profile.
    frames: of the video.
    size: of the frames.

  Returns:
    The path of the trace.

  Raises:
    UserError: the folder cannot be written, or the config is too large for a
      video.
  """
  if config.variant == 'paper':
    raise UserError(
      '`profile` needs a config for videos: name `config=configs/vitexco.py:small`'
    )
  files.make_folder('profile', folder)
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # Its events would hide the stages.
  with benchmark_network.colored_video(config, frames, size) as run:
    run()
    start = time.perf_counter()
    with jax.profiler.trace(
      folder, create_perfetto_trace=True, profiler_options=options
    ):
      run()
      seconds = time.perf_counter() - start
  path = max(folder.rglob(_TRACE), key=lambda x: x.stat().st_mtime)
  with gzip.open(path, 'rt') as file:
    events = json.load(file)['traceEvents']
  _logger.info(f'{frames} frames of {size[1]}x{size[0]} in {seconds:.2f} s:')
  for name, (total, count) in measure(events).items():
    _logger.info(f'{name:16} {total:8.3f} s in {count} calls')
  idle, span = measure_idle(events)
  _logger.info(
    f'From the second block on, the device was idle for {idle:.3f} of {span:.3f} s '
    f'({idle / span:.1%})'
  )
  _logger.info(f'Wrote {path}: open it on ui.perfetto.dev')
  return path


def measure(
  events: Iterable[dict[str, Any]],
) -> dict[str, tuple[float, int]]:
  """Returns (seconds, calls) of each stage in the events of a trace."""
  durations = collections.defaultdict(list)
  for event in events:
    if event.get('ph') == 'X':
      durations[event['name']].append(event.get('dur', 0) / 1e6)
  return {
    name: (sum(durations[name]), len(durations[name])) for name in stages.ALL
  }


def measure_idle(events: Iterable[dict[str, Any]]) -> tuple[float, float]:
  """Measures how long the device waited for the host.

  The host prepares a block while the device colors the one before, so only the first
  two blocks, a frame and a full block, have to wait for their optical flow.

  Args:
    events: of a trace of at least two blocks.

  Returns:
    Seconds without an operation, and seconds, from the start of the networks of the
    second block to the last operation.
  """
  starts, operations = [], []
  for event in events:
    if event.get('ph') != 'X':
      continue
    start, end = event['ts'], event['ts'] + event.get('dur', 0)
    if event['name'] == stages.NETWORK:
      starts.append(start)
    if 'hlo_op' in event.get('args', {}):
      operations.append((start, end))
  begin = now = sorted(starts)[1]
  idle = 0.0
  for start, end in sorted(operations):
    idle += max(0.0, start - now)
    now = max(now, end)
  return idle / 1e6, (now - begin) / 1e6
