"""Several references as one, and their principal components.

An addition to the paper, which uses one reference and all of its features.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vitexco_jax.models import cells
from vitexco_jax.models.correspondence import STRIDE
from vitexco_jax.structs import Reference


def combine(references: Sequence[Reference]) -> Reference:
  """Combines several references; each pixel uses the best match of all of them.

  A picture at two sizes counts as two references.

  Args:
    references: at least one, with the same batch size and without a `basis`.

  Returns:
    The keys and colors of all references. `lab` is that of the first one.
  """
  keys, ab = (
    jnp.concatenate([getattr(x, name) for x in references], 1)
    for name in ('keys', 'ab')
  )
  return Reference(references[0].lab, keys, ab)


def without_picture(reference: Reference) -> Reference:
  """Drops `lab`, which only an anchor needs: references of all sizes are alike."""
  return reference._replace(lab=reference.lab[:, :0, :0])


def compress(reference: Reference, components: int) -> Reference:
  """Reduces the features of a reference to their principal components.

  The positions of a few pictures fill a small part of the feature space: 128 of
  496 components hold 97 to 99.9 % of the squares, and matching takes a third of
  the time.

  Args:
    reference: from `encode_reference` or `combine`.
    components: number of components. 0, or at least the number of features:
      the reference is returned as it is.

  Returns:
    The reference, with keys [b, k, components] and a `basis`.
  """
  if not 0 < components < reference.keys.shape[-1]:
    return reference
  _, vectors = jnp.linalg.eigh(
    jnp.einsum(
      'bkd,bke->bde',
      reference.keys,
      reference.keys,
      precision=jax.lax.Precision.HIGHEST,
    )
  )
  basis = vectors[..., -components:]  # Eigenvalues are in ascending order.
  reference = reference._replace(basis=basis)
  return reference._replace(
    keys=project(jnp.asarray(reference.keys), reference)
  )


def project(features: jax.Array, reference: Reference) -> jax.Array:
  """Projects features onto the components of a reference.

  Args:
    features: [b, ..., e], queries or keys.
    reference: with or without a `basis` [b, e, d].

  Returns:
    [b, ..., d], or `features` if there is no basis.
  """
  if reference.basis is None:
    return features
  return jnp.einsum(
    'b...e,bed->b...d',
    features,
    reference.basis,
    precision=jax.lax.Precision.HIGHEST,
  )


def first_keys(reference: Reference, size: tuple[int, int]) -> jax.Array:
  """Returns the keys of the first reference as a picture.

  Args:
    reference: one reference, or several from `combine`.
    size: (height, width) of the result. The keys are cropped to it, or padded
      with their last row and column.

  Returns:
    [b, *size, d].
  """
  n, m = (side // STRIDE for side in reference.lab.shape[1:3])
  keys = reference.keys[:, : n * m]
  if reference.cells is not None:
    keys = cells.undivide(keys, (n, m))
  keys = keys.reshape(-1, n, m, keys.shape[-1])
  pads = [(0, max(0, new - old)) for new, old in zip(size, (n, m), strict=True)]
  keys = jnp.pad(keys, ((0, 0), *pads, (0, 0)), 'edge')
  return keys[:, : size[0], : size[1]]
