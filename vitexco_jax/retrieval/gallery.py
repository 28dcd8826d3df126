"""Galleries: pictures that can be searched by embedding.

A gallery is a folder that `build` writes:

  settings.json     settings of its embeddings, and where its pictures are
  embeddings.f32    [n, d], raw; append-only
  pictures.txt      names of the pictures, one per line
  left_out.jsonl    skipped pictures with reasons
  ivf.index         FAISS's approximate index (optional)
"""

import bisect
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import ml_collections
import numpy as np

from vitexco_jax import files
from vitexco_jax.config import check
from vitexco_jax.errors import UserError, program
from vitexco_jax.media import pictures, video
from vitexco_jax.retrieval import embedding, faiss_files
from vitexco_jax.retrieval.embedding import Embedder

SETTINGS = 'settings.json'
EMBEDDINGS = 'embeddings.f32'
NAMES = 'pictures.txt'
LEFT_OUT = 'left_out.jsonl'
IVF = 'ivf.index'
FILES = SETTINGS, EMBEDDINGS, NAMES, LEFT_OUT, IVF

# The config keys of the settings.
_VALUES = {
  'network': 'config.retrieval.network',
  'grey': 'config.retrieval.gray',
  'variant': 'config.model.vit.variant',
  'stem': 'config.model.stem',
  'gelu': 'config.model.vit.gelu',
}


_CANDIDATES = 10  # To search per requested picture.


class Gallery:
  """A set of pictures on disk that can be searched by embedding."""

  def __init__(self, folder: Path, settings: dict[str, Any]):
    """Use `open`; takes the folder and the content of its `settings.json`."""
    for name in (EMBEDDINGS, NAMES):
      files.check_regular(folder / name)
    self._folder = folder
    self._settings = settings
    width = settings['width']
    rows = (folder / EMBEDDINGS).stat().st_size // (4 * width)
    self._names = (folder / NAMES).read_bytes()
    # One of the two may be ahead while a gallery grows or after a crash.
    self._ends = line_ends(self._names)[:rows]
    if not len(self._ends):
      raise UserError(f'the gallery {folder} has no pictures yet')
    self._index: faiss.Index | None = None
    self.embeddings = np.memmap(
      folder / EMBEDDINGS, np.float32, 'r', shape=(len(self._ends), width)
    )

  @classmethod
  def open(cls, folder: str | Path, index: str = 'exact') -> 'Gallery':
    """Opens a gallery without reading its embeddings.

    Args:
      folder: written by `--mode=gallery`.
      index: the index to search, `config.retrieval.index`.

    Raises:
      UserError: there is no gallery, it is empty or damaged, or the index is
        missing or out of date.
    """
    folder = Path(folder)
    if not os.path.exists(folder / SETTINGS):
      raise UserError(
        f'{folder} is not a gallery: build one with '
        f'`{program()} --mode=gallery --images=DIR --gallery={folder}`'
      )
    gallery = cls(folder, read_settings(folder))
    if index == 'ivf':
      gallery._open_index()
    return gallery

  def __len__(self) -> int:
    return len(self._ends)

  @property
  def fingerprint(self) -> str:
    """A hash of the names of the pictures and the settings."""
    end = int(self._ends[-1]) + 1
    digest = hashlib.sha256(json.dumps(self._settings).encode())
    digest.update(self._names[:end])
    return digest.hexdigest()[:16]

  def name(self, number: int) -> str:
    """The picture's name in its folder or data set."""
    start = int(self._ends[number - 1]) + 1 if number else 0
    return os.fsdecode(self._names[start : int(self._ends[number])])

  def read(self, number: int) -> np.ndarray:
    """Returns a picture of the collection, [h, w, 3] uint8 RGB.

    Raises:
      UserError: the picture no longer exists.
    """
    name = self.name(number)
    try:
      _, data = _open_pictures(self._images(number)).load(name)
      return video.decode_image(data, name)
    except UserError as error:
      raise UserError(
        f'the gallery {self._folder} has lost its picture {name} ({error}): '
        f'restore it, or correct the path in {self._folder / SETTINGS}'
      ) from error

  def path(self, number: int) -> Path:
    """The picture's file.

    Raises:
      UserError: the picture is in a data set, not in a file.
    """
    images = self._images(number)
    if not Path(images).is_dir():
      raise UserError(
        f'the pictures of the gallery {self._folder} are in {images}, which is '
        'not a folder, so a plan cannot name them: build a gallery of a folder'
      )
    return Path(images, self.name(number))

  def _images(self, number: int) -> str:
    """The collection of a picture."""
    sources = self._settings['sources']
    place = bisect.bisect(sources, number, key=lambda x: x['first']) - 1
    return sources[place]['images']

  def check(self, embedder: Embedder) -> None:
    """Raises UserError if the embedder does not match this gallery."""
    check_settings(self._folder, self._settings, embedder.settings)

  def search(
    self, queries: np.ndarray, count: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pictures most similar to each query.

    Args:
      queries: [q, d] embeddings.
      count: number of pictures per query, n; at most the size of the gallery.

    Returns:
      Scores [q, n], decreasing, and numbers of the pictures [q, n]. An approximate
      index may find fewer; the remaining numbers are then -1.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != self.embeddings.shape[1]:
      raise TypeError(
        f'expected queries [q, {self.embeddings.shape[1]}], got {queries.shape}'
      )
    count = min(count, len(self))
    if self._index is not None:
      scores, numbers = self._index.search(queries, count)
    else:
      scores, numbers = faiss.knn(
        queries, self.embeddings, count, faiss.METRIC_INNER_PRODUCT
      )
    # Rows with NaN are never found, and an index file may contain anything.
    if np.any(numbers[:, 0] < 0) or np.any(numbers >= len(self)):
      raise UserError(
        f'the gallery {self._folder} is damaged: build it again in another folder'
      )
    return scores, numbers

  def best(
    self, queries: np.ndarray, count: int = 5, near_duplicate: float = 1.0
  ) -> list[list[tuple[int, float]]]:
    """Finds the pictures most similar to each query, without near-duplicates.

    Args:
      queries: [q, d] embeddings.
      count: number of pictures per query.
      near_duplicate: cosine above which two pictures count as duplicates; only
        the one with the higher score is returned.

    Returns:
      For each query the numbers and scores of the pictures, the best first. The
      search considers `10 * count` candidates, so it may return fewer.
    """
    candidates = self.search(queries, _CANDIDATES * count)
    return [
      self._distinct(*row, count, near_duplicate)
      for row in zip(*candidates, strict=True)
    ]

  def _distinct(
    self,
    scores: np.ndarray,
    numbers: np.ndarray,
    count: int,
    near_duplicate: float,
  ) -> list[tuple[int, float]]:
    chosen: list[tuple[int, float]] = []
    for score, number in zip(scores.tolist(), numbers.tolist(), strict=True):
      if number < 0 or len(chosen) == count:
        break
      others = self.embeddings[[other for other, _ in chosen]]
      if np.all(others @ self.embeddings[number] <= near_duplicate):
        chosen.append((number, score))
    return chosen

  def _open_index(self) -> None:
    path = self._folder / IVF
    build = (
      'build it by running the command that built the gallery again with '
      '`config.retrieval.index=ivf`'
    )
    if not path.exists():
      raise UserError(f'the gallery {self._folder} has no index ivf: {build}')
    try:
      width = self._settings['width']
      index = self._index = faiss_files.read_index(path, width)
    except (RuntimeError, ValueError, OSError) as error:
      raise UserError(f'{path} is damaged: remove it, and {build}') from error
    if index.ntotal != len(self):
      raise UserError(
        f'the gallery {self._folder} has changed since its index ivf was built: '
        + build
      )


def read_settings(folder: Path) -> dict[str, Any]:
  """Reads the `settings.json` of a gallery.

  Raises:
    UserError: the file cannot be read, or a value is missing or of another type.
  """
  try:
    settings = files.read_json(folder / SETTINGS)
  except UserError as error:
    raise UserError(f'the gallery {folder} is damaged: {error}') from error
  kinds = {
    'network': str,
    'weights': str,
    'width': int,
    'grey': bool,
    'sources': list,
  }
  wrong = [x for x, kind in kinds.items() if type(settings.get(x)) is not kind]
  if not wrong and not 0 < settings['width'] < 2**16:
    wrong = ['width']
  if not wrong and not _are_sources(settings['sources']):
    wrong = ['sources']
  if wrong:
    raise UserError(
      f'the gallery {folder} is damaged: {wrong[0]} in {folder / SETTINGS}'
    )
  return settings


def _are_sources(entries: list[Any]) -> bool:
  """Whether the entries locate the picture of each row of a gallery."""
  firsts = [-1]
  for entry in entries:
    if not isinstance(entry, dict) or not isinstance(entry.get('images'), str):
      return False
    first = entry.get('first')
    if type(first) is not int or first <= firsts[-1]:
      return False
    firsts.append(first)
  return firsts[1:2] == [0]


def open_with_embedder(
  config: ml_collections.ConfigDict, folder: str | Path
) -> tuple[Embedder, Gallery]:
  """Opens a gallery and the embedder of its queries, as `config` describes.

  Raises:
    UserError: the config is invalid, one of them is not available, or they do not
      match.
  """
  check(config)
  gallery = Gallery.open(folder, config.retrieval.index)
  embedder = embedding.make_embedder(config)
  gallery.check(embedder)
  return embedder, gallery


def check_settings(
  folder: Path, stored: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
  """Raises UserError if the settings of embedder and gallery differ."""
  for name, key in _VALUES.items():
    expected, value = stored.get(name), settings.get(name)
    if expected != value:
      raise UserError(
        f'the gallery {folder} was embedded with {key}={expected}, not {value}: '
        'set this, or name another gallery'
      )
  if any(stored[name] != settings[name] for name in ('weights', 'width')):
    raise UserError(
      f'the gallery {folder} was embedded with other weights of '
      f'{stored["network"]}: use the same weights, or build a new gallery in '
      'another folder'
    )


def line_ends(text: bytes) -> np.ndarray:
  """Returns the positions of all line feeds."""
  return np.flatnonzero(np.frombuffer(text, np.uint8) == ord('\n'))


_open_pictures = functools.lru_cache(8)(pictures.open_pictures)
