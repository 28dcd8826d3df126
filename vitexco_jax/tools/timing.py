"""Times, peak memory, and FLOP counts of functions, as rows of a table."""

import math
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

# Dense multiplications and additions per second, from the data sheets.
# XLA's float32 convolutions run as TF32 on these.
_PEAK_FLOPS = {
  'H200': {'float32': 494.7e12, 'bfloat16': 989.4e12},
  'H100 PCIe': {'float32': 378e12, 'bfloat16': 756e12},
  'H100': {'float32': 494.7e12, 'bfloat16': 989.4e12},
  'A100': {'float32': 156e12, 'bfloat16': 312e12},
}


class Row(NamedTuple):
  """A row of the table."""

  name: str
  value: float
  unit: str
  runs: int = 1  # The value is their median.


def times(
  functions: list[Callable[[], Any]],
  seconds: float = 10.0,
  at_least: int = 3,
  at_most: int = 9,
) -> list[list[float]]:
  """Times functions in turn, after a first call of each, for some seconds."""
  for function in functions:
    jax.block_until_ready(function())
  measured: list[list[float]] = [[] for _ in functions]
  end = time.perf_counter() + seconds
  while len(measured[0]) < at_least or (
    len(measured[0]) < at_most and time.perf_counter() < end
  ):
    for function, of_function in zip(functions, measured, strict=True):
      start = time.perf_counter()
      jax.block_until_ready(function())
      of_function.append(time.perf_counter() - start)
  return measured


def median(values: list[float], unit: str) -> tuple[float, str, int]:
  """Returns median, unit, and number of runs; converts seconds for `ms`."""
  scale = 1e3 if unit == 'ms' else 1.0
  return scale * statistics.median(values), unit, len(values)


def count_flops(function: Callable[..., Any], *arguments: Any) -> float:
  """Multiplications and additions in matrix products and convolutions.

  Loop bodies count once per iteration, unlike in XLA's cost analysis; recomputation
  in a gradient counts again. For one device.
  """
  return _flops_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops_of(jaxpr: Any) -> float:
  total = 0.0
  for equation in jaxpr.eqns:
    parameters = equation.params
    shapes = [x.aval.shape for x in equation.invars if hasattr(x, 'aval')]
    out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = parameters['dimension_numbers']
      total += 2 * out * math.prod(shapes[0][i] for i in contracted)
    elif equation.primitive.name == 'conv_general_dilated':
      kernel = parameters['dimension_numbers'].rhs_spec
      taps = [shapes[1][i] for i in kernel[1:]]  # Input channels, then space.
      # In a gradient, the kernel or picture may be dilated with zeros.
      spread = math.prod(parameters['lhs_dilation'])
      total += 2 * out * math.prod(taps) / spread
    inner = sum(map(_flops_of, _inner(parameters.values())))
    total += inner * parameters.get('length', 1)
  return total


def _inner(values: Iterable[Any]) -> Iterator[Any]:
  """Yields the programs within an equation."""
  for value in values:
    if isinstance(value, list | tuple):
      yield from _inner(value)
    elif hasattr(value, 'jaxpr'):
      yield value.jaxpr
    elif hasattr(value, 'eqns'):
      yield value


def share_of_peak(
  name: str, flops: float, seconds: list[float], dtype: str
) -> list[Row]:
  """Returns the share of the peak of a known GPU, else nothing.

  Args:
    name: first part of the row's name.
    flops: per run, from `count_flops`.
    seconds: of each run.
    dtype: of the networks.
  """
  kind = jax.devices()[0].device_kind
  peaks = (peak for chip, peak in _PEAK_FLOPS.items() if chip in kind)
  peak = next(peaks, None)
  if peak is None:
    return []
  shares = [100 * flops / x / peak[dtype] for x in seconds]
  return [Row(f'{name}, share of peak', *median(shares, '%'))]


def peak_memory() -> int:
  """Peak memory in bytes: of the GPU if there is one, else of this process."""
  stats = jax.devices()[0].memory_stats()
  return stats['peak_bytes_in_use'] if stats else resident_peak()


def resident_peak() -> int:
  """Peak resident memory of this process in bytes."""
  status = Path('/proc/self/status')
  if status.exists():  # `resource` would include the parent's memory.
    for line in status.read_text().splitlines():
      if line.startswith('VmHWM'):
        return int(line.split()[1]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
