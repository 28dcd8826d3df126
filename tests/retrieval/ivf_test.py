"""ivf: recall of the approximate index, small galleries, and errors."""

import faiss
import numpy as np
import pytest

from vitexco_jax.retrieval import ivf


def _clustered(count, width, rng):
  centers = np.random.default_rng(7).normal(size=(60, width))
  x = centers[rng.integers(60, size=count)] + rng.normal(size=(count, width))
  return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


def test_the_index_reaches_its_recall(tmp_path):
  """Measured by sorting, with queries outside the gallery."""
  rng = np.random.default_rng(0)
  embeddings, queries = _clustered(6000, 24, rng), _clustered(300, 24, rng)
  result = ivf.build_index(tmp_path, embeddings)
  assert result.lists == 128 and result.probes < result.lists / 2
  index = faiss.read_index(str(tmp_path / 'ivf.index'))
  assert (index.ntotal, index.nprobe) == (6000, result.probes)
  _, actual = index.search(queries, 5)
  true = np.argsort(-queries @ embeddings.T, axis=1)[:, :5]
  share = np.mean(
    [len({*a} & {*b}) / 5 for a, b in zip(actual, true, strict=True)]
  )
  assert result.recall >= 0.95
  assert share == pytest.approx(result.recall, abs=0.03)


def test_recall_by_hand():
  true = np.array([[1, 2], [3, 4]])
  assert ivf.recall_of(np.array([[2, 1], [3, 9]]), true) == 0.75
  assert ivf.recall_of(np.array([[-1, -1], [4, -1]]), true) == 0.25


@pytest.mark.parametrize('count', [1, 2, 30])
def test_small_galleries_have_one_list(tmp_path, count):
  embeddings = _clustered(count, 24, np.random.default_rng(0))
  assert ivf.build_index(tmp_path, embeddings) == (1, 1, 1.0)


def test_a_failed_write_keeps_the_previous_index(tmp_path, monkeypatch):
  embeddings = _clustered(50, 24, np.random.default_rng(0))
  (tmp_path / 'ivf.index').write_text('old')

  def write(index, path):
    with open(path, 'w') as file:
      file.write('half')
    raise RuntimeError('no room')

  monkeypatch.setattr(faiss, 'write_index', write)
  with pytest.raises(OSError, match='no room'):
    ivf.build_index(tmp_path, embeddings)
  (path,) = tmp_path.iterdir()
  assert path.read_bytes() == b'old'
