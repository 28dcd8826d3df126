"""`--mode=benchmark`: speed and memory as a table of medians and as JSON.

The parts run one after the other, each in a separate process, so that peak memory
belongs to one part and the GPU is free. Weights and inputs are random: speed does
not depend on them. Nothing else should run on the machine.

  matching         the blocked matching against the direct formula
  network          the paper's size with DEVC's four levels, without video
  video            colorize from file to file, except for the paper's config
  video_memory     peak memory of a short and a long video
  training         one update; the paper's size on a GPU only
  metrics          all metrics of an evaluated frame of 854x480 except LPIPS vgg
  retrieval        search of as many random embeddings as ImageNet has pictures
  feed             samples from the records at config.data.records, if any, from
                   the disk and from the system's cache

With a clone of DEVC's repository, only its speed is compared with ours (`time_devc`).
With a gallery, only retrieval quality is measured: how often the nearest picture of
an ImageNet picture has the same synset.
"""

import concurrent.futures
import datetime
import functools
import importlib.metadata
import json
import logging
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections

from vitexco_jax import files
from vitexco_jax.tools import benchmark_data, benchmark_network, time_devc
from vitexco_jax.tools.timing import Row
from vitexco_jax.training import loop

_logger = logging.getLogger(__name__)

_GPU_BLOCK = 8  # Frames per block on a GPU, as in colorize.
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'av')


def benchmark(
  config: ml_collections.ConfigDict,
  output: Path,
  searched: Path | None = None,
  devc: Path | None = None,
) -> None:
  """Runs the parts for the config; prints and writes the results.

  Args:
    config: its `variant` selects the parts.
    output: a folder; replaces `benchmark_VARIANT.json` in it, or
      `benchmark_gallery.json`, or `benchmark_devc.json`.
    searched: a gallery of that config, to measure instead.
    devc: a clone of DEVC's repository, to compare with instead.

  Raises:
    UserError: the folder cannot be written, or the config cannot be trained on
      this machine.
  """
  name = 'gallery' if searched else 'devc' if devc else config.variant
  path = output / f'benchmark_{name}.json'
  files.make_folder('output', output)
  machine = _in_process(_describe_machine)
  _logger.info(', '.join(str(value) for value in machine.values()))
  if searched is not None:
    parts = [
      functools.partial(benchmark_data.retrieval_quality, config, searched)
    ]
  elif devc is not None:
    parts = [functools.partial(time_devc.compare, devc)]
  else:
    parts = list(_parts(config, machine['platform'] == 'gpu'))
    if Path(config.data.records).exists():
      parts.append(functools.partial(benchmark_data.feed, config))
    else:
      _logger.info(f'no records at {config.data.records}: skipping the feed')
  if any(part.func is benchmark_network.training for part in parts):
    # Check it early.
    loop.micro_batch_size(config.train, 'train', machine['devices'])
  rows = []
  for part in parts:
    # Grain passes the flags to its processes; only this process has them.
    here = part.func is benchmark_data.feed
    for row in part() if here else _in_process(part):
      rows.append(row)
      runs = f'median of {row.runs}' if row.runs > 1 else ''
      _logger.info(f'{row.name:60} {row.value:9.4g} {row.unit:9} {runs}')
  report = {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'machine': machine,
    'versions': {'python': platform.python_version()}
    | {name: importlib.metadata.version(name) for name in _PACKAGES},
    'config': config.to_dict(),
    'rows': [row._asdict() for row in rows],
  }
  with files.explained('output', output):
    files.write(path, json.dumps(report, indent=2) + '\n')
  _logger.info(f'Wrote {path}')


def _parts(
  config: ml_collections.ConfigDict, gpu: bool
) -> Iterator[functools.partial[list[Row]]]:
  """Yields the parts to run, as functions without arguments."""
  part = functools.partial
  yield part(benchmark_network.matching, config)
  if config.variant != 'paper':
    yield part(benchmark_network.video_speed, config)
    yield part(benchmark_network.video_memory, config, frames=300)
    yield part(benchmark_network.video_memory, config, frames=3000)
    yield part(benchmark_network.training, config)
  elif not gpu:
    for size in ((224, 384), (432, 768)):
      yield part(benchmark_network.network, config, size)
  else:
    for dtype in ('float32', 'bfloat16'):
      for size in ((224, 384), (480, 864), (544, 960)):
        yield part(benchmark_network.network, config, size, dtype, _GPU_BLOCK)
      yield part(benchmark_network.training, config, dtype)
  if 'tiny' not in config.variant:
    yield part(benchmark_data.metrics_speed)
    yield part(benchmark_data.retrieval_speed)


def _in_process(function: Callable[[], Any]) -> Any:
  """Calls a function in a new process."""
  with concurrent.futures.ProcessPoolExecutor(
    1, multiprocessing.get_context('spawn')
  ) as pool:
    return pool.submit(function).result()


def _describe_machine() -> dict[str, Any]:
  device = jax.devices()[0]
  return {
    'platform': device.platform,
    'device': device.device_kind,
    'devices': jax.local_device_count(),
    'processor': _processor(),
    'cores': os.cpu_count(),
    'system': platform.platform(),
  }


def _processor() -> str:
  information = Path('/proc/cpuinfo')
  if information.exists():
    for line in information.read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor()
