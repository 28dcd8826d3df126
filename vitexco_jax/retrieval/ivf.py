"""The approximate index of a gallery: building and recall."""

import itertools
import os
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from vitexco_jax.retrieval import gallery

_ROWS_PER_LIST = 64  # Training rows per list, for k-means.
RECALL_OF = 5  # Number of nearest pictures.
_RECALL = 0.95  # Target recall ...
_RECALL_QUERIES = 1000  # ... of this many pictures of the gallery as queries.


class Ivf(NamedTuple):
  """Parameters of an approximate index."""

  lists: int  # Number of lists.
  probes: int  # Number of lists that a search scans.
  recall: float  # Share of the true five nearest that a search returns.


def build_index(folder: Path, embeddings: np.ndarray) -> Ivf:
  """Writes the approximate index of a gallery atomically.

  The pictures are clustered into lists by k-means. The number of lists that a
  search scans is chosen for a recall of at least 0.95, measured with pictures of the
  gallery as queries for their five nearest neighbors.

  Args:
    folder: of the gallery.
    embeddings: [n, d], unit length.

  Raises:
    OSError: the index cannot be written.
  """
  count, width = embeddings.shape
  # Each list has dozens of pictures, or hundreds in large galleries.
  lists = int(max(1, min(4 * count**0.5, count / 40)))
  lists = 1 << lists.bit_length() - 1
  product = faiss.METRIC_INNER_PRODUCT
  centers = faiss.IndexFlatIP(width)
  index = faiss.IndexIVFFlat(centers, width, lists, product)
  index.cp.spherical = True
  index.cp.min_points_per_centroid = 1  # FAISS warns about small galleries.
  rng = np.random.default_rng(0)

  def draw(number: int) -> np.ndarray:
    rows = rng.choice(count, min(number, count), replace=False)
    return np.ascontiguousarray(embeddings[np.sort(rows)])

  index.train(draw(_ROWS_PER_LIST * lists))
  for first in range(0, count, 1 << 16):
    index.add(np.ascontiguousarray(embeddings[first : first + (1 << 16)]))

  queries = draw(_RECALL_QUERIES)
  nearest = min(RECALL_OF + 1, count)  # The first is the query itself.
  _, true = faiss.knn(queries, embeddings, nearest, product)
  for exponent in itertools.count():
    index.nprobe = 1 << exponent
    _, retrieved = index.search(queries, nearest)
    recall = recall_of(retrieved[:, 1:], true[:, 1:])
    if recall >= _RECALL or index.nprobe >= lists:
      break

  path = folder / gallery.IVF
  partial = path.with_name(f'.{path.name}.partial')
  try:
    faiss.write_index(index, str(partial))
    os.replace(partial, path)
  except RuntimeError as error:  # From FAISS, if the disk is full.
    raise OSError(str(error)) from error
  finally:
    partial.unlink(missing_ok=True)
  return Ivf(lists, index.nprobe, recall)


def recall_of(retrieved: np.ndarray, true: np.ndarray) -> float:
  """Returns the share of the values of each row of `true` in that of `retrieved`."""
  hits = (true[:, :, None] == retrieved[:, None]).any(-1)
  return float(hits.mean()) if hits.size else 1.0
