"""Names for the stages of the work, which profiles show.

Modules that do not import JAX, such as those for files, use this one. Without a
profile, a name costs about a microsecond.
"""

import contextlib
import sys
from contextlib import AbstractContextManager

DECODE = 'decode'  # Frames of the source, in a thread.
SHRINK = 'shrink'  # Frames to the working size, on the device; the host waits.
FLOW = 'flow'  # Optical flow of a block, on the host.
NETWORK = (
  'start network'  # Gives a block to the device, which computes it later.
)
JOIN = 'start join'  # The same for the join at the size of the frames.
WAIT = 'wait for frames'  # The host waits until the device has joined a block.
ENCODE = 'encode'  # Frames of the output, in a thread.
ALL = DECODE, SHRINK, FLOW, NETWORK, JOIN, WAIT, ENCODE


def stage(name: str) -> AbstractContextManager[object]:
  """Names the work in a `with` block.

  Args:
    name: one of those above.
  """
  profiler = sys.modules.get('jax.profiler')
  if profiler is None:
    return contextlib.nullcontext()
  return profiler.TraceAnnotation(name)
