"""The working size: the size at which the networks process frames."""

import math
import os
import re

import jax

from vitexco_jax import sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference.frame_blocks import BLOCK

# Memory per pixel of the working size and frame: twice the 800 bytes that XLA reports
# for the networks of the paper.
_PIXEL_BYTES = 1600


def working_size(text: str | None, usual: tuple[int, int]) -> tuple[int, int]:
  """Returns the working size that is given, or the one that fits into memory.

  Without a value, a block of frames takes at most half of the memory, of the GPU if
  there is one. The size does not depend on how much of the memory is free, so a run
  that is repeated or resumed has the same size.

  Args:
    text: HEIGHTxWIDTH; None: not given.
    usual: (height, width) of the weights, which is not exceeded.

  Raises:
    UserError: the text is not a size.
  """
  if text is not None:
    match = re.fullmatch(r'(\d{1,5})x(\d{1,5})', text)
    if not match:
      raise UserError(
        f'`working_size={text}` is not a size: write HEIGHTxWIDTH, as in 224x384'
      )
    return int(match[1]), int(match[2])
  memory = _memory()
  if memory is None:
    return usual
  scale = math.sqrt(memory / 2 / (BLOCK * math.prod(usual) * _PIXEL_BYTES))
  if scale >= 1:
    return usual
  height, width = (
    max(2, int(side * scale / sizes.TOKEN + 1e-6)) * sizes.TOKEN
    for side in usual
  )
  return height, width


def _memory() -> int | None:
  """Returns the bytes of the device that this process can use, if known."""
  stats = jax.local_devices()[0].memory_stats()
  if stats is None:  # The device is a CPU.
    if not hasattr(os, 'sysconf'):
      return None  # Windows.
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  return stats['bytes_limit']
