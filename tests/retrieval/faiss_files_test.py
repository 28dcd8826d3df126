"""Files of indices: those of FAISS are read, damaged ones are not."""

import os

import numpy as np
import pytest
from written_galleries import unit, write

from vitexco_jax.errors import UserError
from vitexco_jax.retrieval import faiss_files, ivf
from vitexco_jax.retrieval.gallery import Gallery


def _patch(offset, value):
  def patch(path):
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = value.to_bytes(8, 'little')
    path.write_bytes(data)

  return patch


def _pipe(path):
  path.unlink()
  os.mkfifo(path)


@pytest.mark.parametrize(
  'damage',
  [
    _patch(0, 0),  # Of another kind.
    _patch(8, 2**40),  # Rows,
    _patch(37, 2**40),  # lists,
    _patch(37, 0),
    _patch(37, 16),
    _patch(61, 2**40),  # centers,
    _patch(90, 2**40),  # their numbers,
    _patch(98 + 4 * 8 * 8, 2**40),  # direct map,
    _patch(98 + 4 * 8 * 8 + 13, 2**40),  # lists again,
    _patch(98 + 4 * 8 * 8 + 33, 2**40),  # sizes
    _patch(98 + 4 * 8 * 8 + 41, 2**63),  # and a size.
    lambda path: path.write_bytes(path.read_bytes() + b'x'),
    lambda path: path.write_bytes(path.read_bytes()[:60]),
    lambda path: path.write_bytes(b''),
    _pipe,
  ],
)
def test_an_index_that_claims_other_sizes_is_not_read(
  tmp_path, monkeypatch, damage
):
  embeddings = unit(400)
  write(tmp_path, embeddings)
  assert ivf.build_index(tmp_path, embeddings).lists == 8
  assert Gallery.open(tmp_path, 'ivf')
  damage(tmp_path / 'ivf.index')
  monkeypatch.setattr(faiss_files.faiss, 'read_index', None)
  with pytest.raises(
    UserError, match=r'ivf\.index( is damaged|: it is a pipe)'
  ):
    Gallery.open(tmp_path, 'ivf')


def test_an_index_with_few_filled_lists_is_read(tmp_path):
  """FAISS stores the sizes of sparse lists differently."""
  embeddings = np.repeat(unit(2), 400, 0)
  write(tmp_path, embeddings)
  ivf.build_index(tmp_path, embeddings)
  assert b'ilar' in (tmp_path / 'ivf.index').read_bytes()
  assert b'sprs' in (tmp_path / 'ivf.index').read_bytes()
  opened = Gallery.open(tmp_path, 'ivf')
  assert opened.search(embeddings[:1], 1)[0] == pytest.approx(1)
