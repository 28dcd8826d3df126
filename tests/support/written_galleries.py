"""Small galleries without pictures."""

import numpy as np

from vitexco_jax.retrieval import build


class Source:
  """Fake pictures, which are not read."""

  address = '/nowhere'
  key = str


SETTINGS = {'network': 'vit', 'weights': 'abc', 'width': 8, 'grey': True}


def unit(count, width=8, seed=0):
  x = np.random.default_rng(seed).normal(size=(count, width))
  return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


def write(folder, embeddings):
  writer = build.Writer(folder, SETTINGS, Source)
  first = writer.rows
  names = [f'd/{first + i}.jpg' for i in range(len(embeddings))]
  writer.add(names, embeddings)
