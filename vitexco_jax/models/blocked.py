"""All-pairs computations in blocks of rows, to save memory.

A q x k matrix of similarities is needed only row by row. `map_rows` computes it
in blocks of rows, and again in the backward pass, so that at most `block` x k
entries are in memory.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

T = TypeVar('T', jax.Array, tuple[jax.Array, ...])


def map_rows(
  function: Callable[[jax.Array], T], rows: jax.Array, block: int
) -> T:
  """Computes `function(rows)` block by block.

  Args:
    function: maps [n, d] to one or more arrays with n rows.
      Each row of the result must depend only on the same row of the argument.
    rows: [q, d].
    block: rows at a time; the last block is padded with zeros.

  Returns:
    `function(rows)`.
  """
  q = rows.shape[0]
  block = jax.core.min_dim(block, q)  # q is symbolic in jax.export.
  count = -(-q // block)
  padded = jnp.pad(rows, ((0, count * block - q), (0, 0)))
  out = jax.lax.map(jax.checkpoint(function), padded.reshape(count, block, -1))
  return jax.tree.map(lambda x: x.reshape(count * block, *x.shape[2:])[:q], out)
