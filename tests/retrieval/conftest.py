"""Fixtures of the retrieval's tests."""

import pytest
import tiny_embedder

from vitexco_jax.retrieval import embedding


@pytest.fixture(scope='module')
def embed():
  return embedding.make_embedder(tiny_embedder.make_config())
