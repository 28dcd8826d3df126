"""Benchmarks of metrics, retrieval, and the training feed."""

import collections
import itertools
import os
import re
import tempfile
import time
from pathlib import Path

import cv2
import ml_collections
import numpy as np

from vitexco_jax import color
from vitexco_jax.data import input_pipeline
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import measure
from vitexco_jax.generator import make_generator
from vitexco_jax.media import pictures
from vitexco_jax.retrieval import build, embedding, ivf
from vitexco_jax.retrieval.gallery import Gallery, open_with_embedder
from vitexco_jax.tools import timing
from vitexco_jax.tools.timing import Row


def metrics_speed(height: int = 480, width: int = 854) -> list[Row]:
  """Times the metrics of an evaluation on synthetic frames.

  Returns:
    Time per frame of one method, including the flow of the true clip.
  """
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (height // 8, width // 8 + 2, 3), np.uint8)
  wide = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
  before, frame = (  # A picture that moves, and its colors shifted.
    measure.Frame(i, true_rgb, [np.roll(true_rgb, 1, -1)])
    for i, true_rgb in enumerate((wide[:, 3 : width + 3], wide[:, :width]))
  )
  (times,) = timing.times(
    [lambda: measure.measure_frame(before, frame)[0][-1]['ssim']]
  )
  return [
    Row(f'metrics of {width}x{height}, a frame', *timing.median(times, 'ms'))
  ]


def retrieval_speed(
  count: int = 1_280_000, width: int = 192, clusters: int = 10_000
) -> list[Row]:
  """Times exact and approximate search in a gallery of random embeddings.

  Args:
    count: number of pictures, by default that of ImageNet.
    width: of an embedding, by default that of ViT-Ti.
    clusters: number of clusters; the cosine between an embedding and the center
      of its cluster is about 0.7.

  Returns:
    Times of opening and searching, and the recall of the approximate index.
  """
  rng = np.random.default_rng(0)
  centers = rng.standard_normal((clusters, width), np.float32)

  def draw(number: int) -> np.ndarray:
    x = centers[rng.integers(clusters, size=number)]
    x = x + rng.standard_normal((number, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  queries = draw(1000)
  one = itertools.cycle(np.split(queries, len(queries)))
  name = f'retrieval of {count} x {width}'
  with tempfile.TemporaryDirectory() as folder:
    source = pictures.Folder(Path(folder))
    settings = {'network': '', 'weights': '', 'width': width, 'grey': True}
    writer = build.Writer(Path(folder), settings, source)
    for first in range(0, count, 1 << 16):
      numbers = range(first, min(first + (1 << 16), count))
      writer.add([f'{i:07d}.jpg' for i in numbers], draw(len(numbers)))

    def measure(index: str) -> tuple[list[Row], np.ndarray]:
      (opening,) = timing.times([lambda: Gallery.open(folder, index)])
      opened = Gallery.open(folder, index)
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
    index = ivf.build_index(Path(folder), Gallery.open(folder).embeddings)
    building = Row(f'{name}, ivf, building', time.perf_counter() - start, 's')
    approximate, retrieved = measure('ivf')
  return [
    *exact,
    building,
    Row(f'{name}, ivf, lists', index.lists, ''),
    Row(f'{name}, ivf, scanned lists', index.probes, ''),
    *approximate,
    Row(f'{name}, ivf, recall@5', ivf.recall_of(retrieved, true), ''),
  ]


def retrieval_quality(
  config: ml_collections.ConfigDict, folder: Path, at_most: int = 2000
) -> list[Row]:
  """Measures how often the nearest ImageNet picture has the same synset.

  Queries are pictures of the gallery; the search excludes the query itself. Their
  synsets had at least five pictures before gray ones were skipped.

  Args:
    config: with which the gallery was built.
    folder: of the gallery; the names of its pictures contain their synsets.
    at_most: maximum number of queries, evenly spaced.

  Returns:
    The share for queries in gray and, if the gallery is not gray, in color.

  Raises:
    UserError: no synset in the names has five pictures.
  """
  embed, opened = open_with_embedder(config, folder)
  synsets = [_synset(opened.name(i)) for i in range(len(opened))]
  sizes = collections.Counter(synsets)
  sizes.update(_synset(x['name']) for x in build.read_left_out(folder))
  chosen = [i for i, x in enumerate(synsets) if x and sizes[x] >= 5]
  if not chosen:
    raise UserError(
      f'`gallery={folder}` does not have five pictures of one ImageNet synset, '
      'with names like n01440764_10026.JPEG'
    )
  places = np.linspace(0, len(chosen) - 1, min(at_most, len(chosen)))
  chosen = [chosen[int(place)] for place in places]
  crops = np.stack([embedding.crop(opened.read(i)) for i in chosen])
  queries = {'gray': np.asarray(color.gray(crops))}
  if not config.retrieval.gray:
    queries['color'] = crops
  kind = 'gray' if config.retrieval.gray else 'color'
  name = f'{config.retrieval.network}, {len(opened)} pictures in {kind}'
  rows = [Row(f'{name}, queries', len(chosen), '')]
  for how, crops in queries.items():
    # The picture itself is the nearest, unless it has a duplicate.
    _, numbers = opened.search(embed.embed_crops(crops), 2)
    nearest = np.where(numbers[:, 0] == chosen, numbers[:, 1], numbers[:, 0])
    same = [
      synsets[i] == synsets[j] for i, j in zip(chosen, nearest, strict=True)
    ]
    what = f'{name}, {how} queries, nearest of the synset'
    rows.append(Row(what, 100 * float(np.mean(same)), '%'))
  return rows


def _synset(name: str) -> str:
  """Returns the WordNet number in an ImageNet name; empty if there is none."""
  match = re.search(r'(?<![A-Za-z0-9])n\d{8}(?![A-Za-z0-9])', name)
  return match[0] if match else ''


def feed(config: ml_collections.ConfigDict, batches: int = 40) -> list[Row]:
  """Measures the input pipeline of training without training.

  Args:
    config: of the training, whose records are read.
    batches: number of timed batches, after a first one.

  Returns:
    Speed with threads of this process, and with one and two worker processes;
    each without and with the records in the system's cache.
  """
  config = config.copy_and_resolve_references()
  generator = make_generator(config)
  rows = []
  for workers in (0, 1, 2):
    config.data.workers = workers
    place = (
      f'{workers} processes' if workers else f'{config.data.threads} threads'
    )
    for state in ('cold', 'warm'):
      if state == 'cold':
        _drop_from_cache(Path(config.data.records))
      clips = input_pipeline.make_iterator(
        input_pipeline.open_records(
          config.data, config.train.clip_length, config.variant
        ),
        config.train.clip_length,
        config.data,
        config.augment,
        generator.flow_alpha,
        config.seed,
        batch_size=config.train.batch_size,
      )
      next(clips)
      start = time.perf_counter()
      for _ in range(batches):
        next(clips)
      speed = batches * config.train.batch_size / (time.perf_counter() - start)
      rows.append(Row(f'feed, {place}, {state}', speed, 'samples/s'))
  return rows


def _drop_from_cache(folder: Path) -> None:
  """Drops the records from the system's cache."""
  for path in folder.rglob('*.array_record*'):
    with path.open('rb') as file:
      os.fsync(file.fileno())
      os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
