"""Several hosts that train as one: how they meet, agree and part.

A *host* is one process of `jax.distributed`: a machine with all of its GPUs or,
under SLURM, a single one. Every host runs the same program on its own share of
each batch, and all of them meet in every micro-step, where gradients are
averaged over the devices of all. A host that stops by itself would leave the
others waiting, and so what may end a run is agreed upon here.

The first host, number 0, is the only one that reads and writes the work
directory. A program that did not `connect` is the first of one, and for it all
of this is without effect.
"""

import atexit
import collections
import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vitexco_jax.errors import UserError


def connect(coordinator: str, count: int | None, number: int | None):
  """Joins the other hosts; to be called before JAX is used.

  Args:
    coordinator: HOST:PORT, where host 0 can be reached, or `auto`: the cluster
      knows (Cloud TPU, SLURM, Open MPI; `jax.distributed` asks it).
    count: how many hosts there are, None with `auto`.
    number: which of them this is, None with `auto`.

  Raises:
    UserError: these do not belong together, or there is no such cluster.
  """
  # JAX would swallow SIGTERM for a service of its own.
  jax.config.update('jax_enable_preemption_service', False)
  if coordinator == 'auto':
    if (count, number) != (None, None):
      raise UserError(
        '--coordinator=auto asks the cluster for --hosts and --host: leave '
        'them out'
      )
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise UserError(
        '--coordinator=auto: this is no job of Cloud TPU, SLURM or Open MPI; '
        'give --coordinator=HOST:PORT, --hosts and --host'
      ) from error
  else:
    _check_address(coordinator, count, number)
    print(
      f'host {number} of {count}: waiting for all hosts at {coordinator}',
      file=sys.stderr,
    )
    jax.distributed.initialize(coordinator, count, number)
  atexit.register(_abandon)
  devices = collections.Counter(x.process_index for x in jax.devices())
  if len(set(devices.values())) > 1:
    raise UserError(
      'the hosts have '
      + ', '.join(str(n) for _, n in sorted(devices.items()))
      + ' devices: let each see as many as the others '
      '(CUDA_VISIBLE_DEVICES, JAX_NUM_CPU_DEVICES)'
    )


def _check_address(coordinator, count, number):
  _, colon, port = coordinator.rpartition(':')
  if not colon or not port.isdigit():
    raise UserError(
      f'--coordinator={coordinator} is neither HOST:PORT, the address of host '
      '0, nor auto'
    )
  if count is None or number is None:
    raise UserError(
      f'--coordinator={coordinator} needs --hosts, their number, and --host, '
      'which of them this is, from 0'
    )
  if not 0 <= number < count:
    raise UserError(
      f'--host={number} must be at least 0 and below --hosts={count}'
    )
  if number == 0:
    try:  # JAX would crash without a word.
      socket.create_server(('', int(port))).close()
    except (OSError, OverflowError) as error:
      raise UserError(
        f'--coordinator={coordinator}: cannot listen at this port of host 0 '
        f'({error}): name another'
      ) from error


def _abandon():
  """Ends a host that fails at once.

  JAX would have it wait for the others, while they wait for it.
  """
  if jax.distributed.is_initialized():
    os._exit(1)


def part():
  """Waits until all hosts are here, and leaves them."""
  jax.distributed.shutdown()


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Says in a sentence that hosts lost each other."""
  try:
    yield
  # What a collective operation raises that another host left.
  except (jax.errors.JaxRuntimeError, ValueError) as error:
    if jax.process_count() == 1:
      raise
    raise UserError(
      f'host {jax.process_index()} cannot go on with the others '
      f'({str(error).splitlines()[0]}): see what each of them said last, and '
      'start all again; they go on from the last checkpoint'
    ) from error


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
  """Raises what is a UserError on one host on all of them."""
  own = ''
  try:
    yield
  except UserError as error:
    if jax.process_count() == 1:
      raise
    own = str(error)
  for host, error in enumerate(gather(own)):
    if error:
      raise UserError(error if error == own else f'host {host}: {error}')


def gather(text: str) -> list[str]:
  """Returns every host's text, by host."""
  own = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(own.size))
  padded = np.pad(own, (0, sizes.max() + 1 - own.size))
  rows = multihost_utils.process_allgather(padded)
  return [
    row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)
  ]


def from_first(tree: Any) -> Any:
  """Returns the first host's arrays, as numpy; the others give like shapes."""
  return multihost_utils.broadcast_one_to_all(tree)


def anywhere(flag: bool) -> bool:
  """Whether it is so on any host."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.bool_(flag)).any())
