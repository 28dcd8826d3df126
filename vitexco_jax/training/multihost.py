"""Multi-host training: connect, synchronize, shut down.

A *host* is one process of `jax.distributed`: a machine with all of its GPUs or,
under SLURM, a single GPU. Every host runs the same program on its share of each
batch. Hosts synchronize in every micro-step, where gradients are averaged over all
devices. If one host stopped alone, the others would wait forever, so hosts agree on
when to stop.

Only the first host, number 0, reads and writes the work directory. Without
`connect` a program is the first of one host, and these functions have no effect.
"""

import atexit
import collections
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vitexco_jax.errors import UserError

_logger = logging.getLogger(__name__)


def connect(coordinator: str, hosts: int | None, host: int | None) -> None:
  """Connects to the other hosts; call it before using JAX.

  Args:
    coordinator: HOST:PORT of host 0, or `auto` to ask the cluster (Cloud TPU, SLURM,
      Open MPI; see `jax.distributed`).
    hosts: number of hosts; None with `auto`.
    host: index of this host; None with `auto`.

  Raises:
    UserError: the arguments are inconsistent, or there is no such cluster.
  """
  # JAX's preemption service would intercept SIGTERM.
  jax.config.update('jax_enable_preemption_service', False)
  if coordinator == 'auto':
    if (hosts, host) != (None, None):
      raise UserError(
        '`coordinator=auto` asks the cluster for `hosts` and `host`: leave '
        'them out'
      )
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise UserError(
        '`coordinator=auto`: this is not a job of Cloud TPU, SLURM, or Open MPI; '
        'give `coordinator=HOST:PORT`, `hosts`, and `host`'
      ) from error
  else:
    _check_address(coordinator, hosts, host)
    _logger.warning(
      f'host {host} of {hosts}: waiting for all hosts at {coordinator}',
      extra={'kind': ''},
    )
    jax.distributed.initialize(coordinator, hosts, host)
  atexit.register(_abandon)
  devices = collections.Counter(x.process_index for x in jax.devices())
  if len(set(devices.values())) > 1:
    raise UserError(
      'the hosts have '
      + ', '.join(str(n) for _, n in sorted(devices.items()))
      + ' devices: all must have the same number '
      '(CUDA_VISIBLE_DEVICES, JAX_NUM_CPU_DEVICES)'
    )


def _check_address(
  coordinator: str, hosts: int | None, host: int | None
) -> None:
  _, colon, port = coordinator.rpartition(':')
  if not colon or not port.isdigit():
    raise UserError(
      f'`coordinator={coordinator}` is neither HOST:PORT, the address of host '
      '0, nor auto'
    )
  if hosts is None or host is None:
    raise UserError(
      f'`coordinator={coordinator}` needs `hosts`, the number of hosts, and '
      '`host`, the index of this host, from 0'
    )
  if not 0 <= host < hosts:
    raise UserError(
      f'`host={host}` must be at least 0 and below `hosts={hosts}`'
    )
  if host == 0:
    try:  # JAX would crash without a message.
      socket.create_server(('', int(port))).close()
    except (OSError, OverflowError) as error:
      raise UserError(
        f'`coordinator={coordinator}`: cannot listen at this port of host 0 '
        f'({error}): name another'
      ) from error


def _abandon() -> None:
  """Ends a failing host immediately.

  JAX would wait for the other hosts, which wait for this one.
  """
  if jax.distributed.is_initialized():
    os._exit(1)


def disconnect() -> None:
  """Waits for all hosts and disconnects."""
  jax.distributed.shutdown()


@contextlib.contextmanager
def report_lost_hosts() -> Iterator[None]:
  """Turns a lost connection between hosts into a UserError."""
  try:
    yield
  # Raised by collective operations if another host has ended.
  except (jax.errors.JaxRuntimeError, ValueError) as error:
    if jax.process_count() == 1:
      raise
    raise UserError(
      f'host {jax.process_index()} lost the other hosts '
      f'({str(error).splitlines()[0]}): see the last message of each host, and '
      'start all again to resume from the last checkpoint'
    ) from error


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
  """Raises a UserError of one host on all hosts."""
  own = ''
  try:
    yield
  except UserError as error:
    if jax.process_count() == 1:
      raise
    own = str(error)
  for host, message in enumerate(gather(own)):
    if message:
      raise UserError(message if message == own else f'host {host}: {message}')


def gather(text: str) -> list[str]:
  """Returns the texts of all hosts, by host."""
  own = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(own.size))
  padded = np.pad(own, (0, sizes.max() + 1 - own.size))
  rows = multihost_utils.process_allgather(padded)
  return [
    row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)
  ]


def from_first(tree: Any) -> Any:
  """Returns the first host's arrays as numpy; the shapes must be the same."""
  return multihost_utils.broadcast_one_to_all(tree)


def on_any_host(flag: bool) -> bool:
  """Whether the flag is true on any host."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.bool_(flag)).any())
