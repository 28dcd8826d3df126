"""Benchmarks of metrics, retrieval, and the training feed."""

import collections
import itertools
import os
import re
import tempfile
import time
import types
from pathlib import Path

import cv2
import ml_collections
import numpy as np

from vitexco_jax import color
from vitexco_jax.data import input_pipeline
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import evaluate
from vitexco_jax.retrieval import embedding, gallery
from vitexco_jax.tools import timing
from vitexco_jax.tools.timing import Row


def metrics_speed(height: int = 480, width: int = 854) -> list[Row]:
  """Measures made-up frames as an evaluation does, one after the other.

  Returns:
    Time of a frame of one method, with the flow of the true clip.
  """
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (height // 8, width // 8 + 2, 3), np.uint8)
  wide = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
  before, frame = (  # A picture that moves, and its colors shifted.
    evaluate.Frame(i, true_rgb, [np.roll(true_rgb, 1, -1)])
    for i, true_rgb in enumerate((wide[:, 3 : width + 3], wide[:, :width]))
  )
  (times,) = timing.times(
    [lambda: evaluate.measure(before, frame)[0][-1]['ssim']]
  )
  return [
    Row(f'metrics of {width}x{height}, a frame', *timing.median(times, 'ms'))
  ]


def retrieval_speed(
  count: int = 1_280_000, width: int = 192, clusters: int = 10_000
) -> list[Row]:
  """Searches a gallery of made-up embeddings, exactly and approximately.

  Args:
    count: pictures, by default as ImageNet has.
    width: of an embedding, by default ViT-Ti's.
    clusters: that the embeddings fall into; the cosine between one and the
      center of its cluster is about 0.7.

  Returns:
    Times of opening and searching, and the recall of the approximate index.
  """
  rng = np.random.default_rng(0)
  centers = rng.standard_normal((clusters, width), np.float32)

  def draw(number):
    x = centers[rng.integers(clusters, size=number)]
    x = x + rng.standard_normal((number, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  queries = draw(1000)
  one = itertools.cycle(np.split(queries, len(queries)))
  name = f'retrieval of {count} x {width}'
  with tempfile.TemporaryDirectory() as folder:
    source = types.SimpleNamespace(address='made up')
    writer = gallery.Writer(Path(folder), {'width': width}, source)
    for first in range(0, count, 1 << 16):
      numbers = range(first, min(first + (1 << 16), count))
      writer.add([f'{i:07d}.jpg' for i in numbers], draw(len(numbers)))

    def measure(index):
      (opening,) = timing.times([lambda: embedding.Gallery.open(folder, index)])
      opened = embedding.Gallery.open(folder, index)
      (single,) = timing.times(
        [lambda: opened.search(next(one), 5)], at_most=100
      )
      (many,) = timing.times([lambda: opened.search(queries, 5)])
      rows = [
        Row(f'{name}, {index}, opening', *timing.median(opening, 'ms')),
        Row(f'{name}, {index}, one query', *timing.median(single, 'ms')),
        Row(f'{name}, {index}, 1000 queries', *timing.median(many, 's')),
      ]
      return rows, opened.search(queries, 5)[1]

    exact, true = measure('exact')
    start = time.perf_counter()
    made = gallery.build_index(
      Path(folder), embedding.Gallery.open(folder).embeddings
    )
    building = Row(f'{name}, ivf, building', time.perf_counter() - start, 's')
    ivf, found = measure('ivf')
  return [
    *exact,
    building,
    Row(f'{name}, ivf, lists', made.lists, ''),
    Row(f'{name}, ivf, lists looked through', made.probes, ''),
    *ivf,
    Row(f'{name}, ivf, recall@5', gallery.recall_of(found, true), ''),
  ]


def retrieval_quality(
  config: ml_collections.ConfigDict, folder: Path, at_most: int = 2000
) -> list[Row]:
  """How often the nearest picture of ImageNet is of the same synset.

  Queries are pictures of the gallery, whose nearest other is looked for. They
  are of synsets that had five pictures at least before gray ones were refused.

  Args:
    config: that the gallery was built with.
    folder: the gallery's; the names of its pictures hold their synsets.
    at_most: queries, drawn evenly.

  Returns:
    The share for queries in gray and, where the gallery is not gray, in color.

  Raises:
    UserError: no names have synsets with five pictures.
  """
  embed, opened = embedding.open_with_embedder(config, folder)
  synsets = [_synset(opened.name(i)) for i in range(len(opened))]
  sizes = collections.Counter(synsets)
  sizes.update(_synset(x['name']) for x in gallery.read_left_out(folder))
  wanted = [i for i, x in enumerate(synsets) if x and sizes[x] >= 5]
  if not wanted:
    raise UserError(
      f'--gallery={folder} has no five pictures of one ImageNet synset: names '
      'like n01440764_10026.JPEG tell these'
    )
  places = np.linspace(0, len(wanted) - 1, min(at_most, len(wanted)))
  wanted = [wanted[int(place)] for place in places]
  crops = np.stack([embedding.crop(opened.read(i)) for i in wanted])
  queries = {'gray': np.asarray(color.grey(crops))}
  if not config.retrieval.grey:
    queries['color'] = crops
  kind = 'gray' if config.retrieval.grey else 'color'
  name = f'{config.retrieval.network}, {len(opened)} pictures in {kind}'
  rows = [Row(f'{name}, queries', len(wanted), '')]
  for how, seen in queries.items():
    # The picture itself is the nearest, unless it has a twin.
    _, found = opened.search(embed.embed_crops(seen), 2)
    nearest = np.where(found[:, 0] == wanted, found[:, 1], found[:, 0])
    same = [
      synsets[i] == synsets[j] for i, j in zip(wanted, nearest, strict=True)
    ]
    what = f'{name}, {how} queries, nearest of the synset'
    rows.append(Row(what, 100 * float(np.mean(same)), '%'))
  return rows


def _synset(name: str) -> str:
  """The WordNet number in a name of ImageNet's; empty if there is none."""
  found = re.search(r'(?<![A-Za-z0-9])n\d{8}(?![A-Za-z0-9])', name)
  return found[0] if found else ''


def feed(config: ml_collections.ConfigDict, batches: int = 40) -> list[Row]:
  """Draws batches as training does, and does nothing else.

  Args:
    config: of the training, whose records are read.
    batches: to be timed, after a first one.

  Returns:
    Speed in this process's threads, and in one and two others; each time first
    with records that the system has dropped from its cache.
  """
  config = config.copy_and_resolve_references()
  rows = []
  for workers in (0, 1, 2):
    config.data.workers = workers
    place = (
      f'{workers} processes' if workers else f'{config.data.threads} threads'
    )
    for state in ('cold', 'warm'):
      if state == 'cold':
        _drop_from_cache(Path(config.data.records))
      clips = input_pipeline.make_iterator(config, config.train.batch_size)
      next(clips)
      start = time.perf_counter()
      for _ in range(batches):
        next(clips)
      speed = batches * config.train.batch_size / (time.perf_counter() - start)
      rows.append(Row(f'feed, {place}, {state}', speed, 'samples/s'))
  return rows


def _drop_from_cache(folder: Path):
  """Makes the system read files anew from the disk."""
  for path in folder.rglob('*.array_record*'):
    with path.open('rb') as file:
      os.fsync(file.fileno())
      os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
