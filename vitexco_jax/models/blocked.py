"""All-pairs work in blocks of rows, so that no matrix is ever held whole.

A q x k matrix of similarities is needed only row by row. `map_rows` walks over
blocks of rows; going backward it computes each block anew instead of keeping it,
so both ways only `block` x k entries live at a time.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def map_rows(
  function: Callable[[jax.Array], jax.Array | tuple[jax.Array, ...]],
  rows: jax.Array,
  block: int,
) -> jax.Array | tuple[jax.Array, ...]:
  """Applies `function`, which treats each row by itself, block by block.

  Args:
    function: [n, d] to one array, or a tuple of arrays, with n rows each.
    rows: [q, d].
    block: rows at a time; the last block is filled up with zero rows.

  Returns:
    What `function(rows)` would give.
  """
  q = rows.shape[0]
  block = jax.core.min_dim(block, q)  # In jax.export q is a symbol.
  count = -(-q // block)
  padded = jnp.pad(rows, ((0, count * block - q), (0, 0)))
  out = jax.lax.map(jax.checkpoint(function), padded.reshape(count, block, -1))
  return jax.tree.map(lambda x: x.reshape(count * block, *x.shape[2:])[:q], out)
