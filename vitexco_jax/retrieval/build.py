"""--mode=gallery: builds a gallery from a collection of pictures (Sec. IV).

Threads read and decode pictures while the device embeds the previous ones.
Pictures are committed in chunks, so an interrupted build resumes, and new pictures
of the same or another collection are added to the gallery. Unreadable and gray
pictures are skipped and listed; they are not tried again unless that list is
removed.
"""

import collections
import concurrent.futures
import functools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files
from vitexco_jax.config import check
from vitexco_jax.errors import UserError
from vitexco_jax.media import pictures, quality, video
from vitexco_jax.retrieval import embedding, gallery, ivf

_logger = logging.getLogger(__name__)

_CHUNK = 256  # Pictures per commit.


class _Picture(NamedTuple):
  """A picture that was read or skipped."""

  name: str
  crop: np.ndarray | None  # For the embedder.
  reason: str  # Why the picture is skipped; empty if it is not.


def build_gallery(
  config: ml_collections.ConfigDict, images: str, folder: Path
) -> gallery.Gallery:
  """Builds a gallery or adds pictures to it.

  Args:
    config: `retrieval` has the settings; a picture with less color than
      `data.quality.min_chroma` counts as gray.
    images: a folder, or the name of a TFDS data set.
    folder: of the gallery.

  Returns:
    The gallery.

  Raises:
    UserError: there are no usable pictures; the folder has a gallery with other
      settings or cannot be written; the ViT is untrained.
  """
  check(config)
  embedding.check_trained(config)
  source = pictures.open_pictures(images)
  keys = source.keys()
  if not keys:
    raise UserError(f'`images={images}` has no pictures')
  embed = embedding.make_embedder(config)
  with files.explained('gallery', folder):
    writer = Writer(folder, embed.settings, source)
    look = functools.partial(_look_at, source, config.data.quality.min_chroma)
    left = writer.not_done(keys)
    with tqdm.tqdm(
      desc='gallery',
      total=len(keys),
      initial=len(keys) - len(left),
      unit='picture',
    ) as bar:
      for chunk in _in_chunks(look, left):
        crops = {x.name: x.crop for x in chunk if x.crop is not None}
        if crops:
          embeddings = embed.embed_crops(np.stack([*crops.values()]))
          writer.add([*crops], embeddings)
        writer.leave_out({x.name: x.reason for x in chunk if x.reason})
        bar.update(len(chunk))
    _logger.info(writer.describe())
    if not writer.rows:
      raise UserError(
        f'`images={images}`: no picture is usable; see '
        f'{folder / gallery.LEFT_OUT} for the reasons'
      )
    opened = gallery.Gallery.open(folder)
    if config.retrieval.index == 'ivf' and not _has_index(folder):
      index = ivf.build_index(folder, opened.embeddings)
      _logger.info(
        f'index ivf: {index.lists} lists, of which a search scans '
        f'{index.probes}; recall@{ivf.RECALL_OF} {index.recall:.3f}'
      )
  return opened


def _in_chunks(
  look: Callable[[str], _Picture], keys: Sequence[str]
) -> Iterator[list[_Picture]]:
  """Reads pictures in order, one chunk ahead of the consumer."""
  chunks = [keys[i : i + _CHUNK] for i in range(0, len(keys), _CHUNK)]
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    yield from video.prefetch(
      (list(pool.map(look, chunk)) for chunk in chunks), 1
    )


def _look_at(
  source: pictures.Folder | pictures.DataSet, min_chroma: float, key: str
) -> _Picture:
  name = key
  try:
    name, data = source.load(key)
    rgb = video.decode_image(data, name)
  except UserError as error:
    return _Picture(name, None, str(error).removeprefix(name).lstrip())
  if '\n' in name:
    return _Picture(name, None, 'its name has a line break')
  if quality.chroma(rgb) < min_chroma:
    return _Picture(name, None, 'black-and-white')
  return _Picture(name, embedding.crop(rgb), '')


def _has_index(folder: Path) -> bool:
  """Whether there is an up-to-date index."""
  try:
    gallery.Gallery.open(folder, 'ivf')
  except UserError:
    return False
  return True


class Writer:
  """Creates a gallery or continues one.

  Attributes:
    rows: number of pictures in the gallery.
  """

  def __init__(
    self,
    folder: Path,
    settings: Mapping[str, Any],
    source: pictures.Folder | pictures.DataSet,
  ):
    """Opens the folder.

    Args:
      folder: created if it is missing.
      settings: of the embedder.
      source: of the pictures to add; see `pictures`.

    Raises:
      UserError: the folder has a gallery with other settings.
      OSError: the folder cannot be written.
    """
    self._folder = folder
    self._source = source
    folder.mkdir(parents=True, exist_ok=True)
    for name in gallery.FILES:
      if os.path.exists(folder / name):
        files.check_regular(folder / name)
    path = folder / gallery.SETTINGS
    if path.exists():
      stored = gallery.read_settings(folder)
      gallery.check_settings(folder, stored, settings)
    else:
      stored = {**settings, 'sources': []}
      for name in (gallery.EMBEDDINGS, gallery.NAMES):
        files.write(folder / name, b'')
    self.rows = self._cut_to_whole_rows(4 * stored['width'])
    self._before = self.rows
    self._sources = [x for x in stored['sources'] if x['first'] < self.rows]
    if not self._sources or self._sources[-1]['images'] != source.address:
      self._sources.append({'first': self.rows, 'images': source.address})
    stored['sources'] = self._sources
    files.write(path, json.dumps(stored, indent=2) + '\n')

  def _cut_to_whole_rows(self, row_bytes: int) -> int:
    """Removes incomplete rows of an interrupted build."""
    names, embeddings, left_out = (
      self._folder / name
      for name in (gallery.NAMES, gallery.EMBEDDINGS, gallery.LEFT_OUT)
    )
    ends = gallery.line_ends(names.read_bytes()) + 1
    rows = min(len(ends), embeddings.stat().st_size // row_bytes)
    os.truncate(names, ends[rows - 1] if rows else 0)
    os.truncate(embeddings, rows * row_bytes)
    left_out.touch()
    text = left_out.read_bytes()
    os.truncate(left_out, text.rfind(b'\n') + 1)
    return rows

  def not_done(self, keys: Sequence[str]) -> list[str]:
    """Returns the source's keys that are neither added nor skipped yet."""
    text = os.fsdecode((self._folder / gallery.NAMES).read_bytes())
    names = text.split('\n')[:-1]
    firsts = [x['first'] for x in self._sources] + [len(names)]
    done: set[str] = set()
    for place, entry in enumerate(self._sources):
      if entry['images'] == self._source.address:
        done.update(names[firsts[place] : firsts[place + 1]])
    done.update(
      entry['name']
      for entry in read_left_out(self._folder)
      if entry['images'] == self._source.address
    )
    done = {self._source.key(name) for name in done}
    return [key for key in keys if key not in done]

  def add(self, names: Sequence[str], embeddings: np.ndarray) -> None:
    """Commits pictures: embeddings [n, d] float32, then their names."""
    _append(self._folder / gallery.EMBEDDINGS, embeddings.tobytes())
    lines = ''.join(f'{name}\n' for name in names)
    _append(self._folder / gallery.NAMES, os.fsencode(lines))
    self.rows += len(names)

  def leave_out(self, reasons: Mapping[str, str]) -> None:
    """Lists skipped pictures with their reasons."""
    entries = (
      {'images': self._source.address, 'name': name, 'reason': reason}
      for name, reason in reasons.items()
    )
    lines = ''.join(json.dumps(entry) + '\n' for entry in entries)
    _append(self._folder / gallery.LEFT_OUT, lines.encode())

  def describe(self) -> str:
    """Describes the content of the gallery."""
    text = f'{self._folder}: {self.rows} pictures'
    if self._before:
      text += f', {self.rows - self._before} of them new'
    reasons = collections.Counter(
      entry['reason'] for entry in read_left_out(self._folder)
    )
    if reasons:
      gray = reasons.pop('black-and-white', 0)
      text += (
        f'; left out: {gray} black-and-white, {reasons.total()} unreadable '
        f'({gallery.LEFT_OUT})'
      )
    return text


def _append(path: Path, content: bytes) -> None:
  """Appends to a file and flushes it to disk."""
  with open(path, 'ab') as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def read_left_out(folder: Path) -> Iterator[dict[str, str]]:
  """Yields the `images`, `name`, and `reason` of skipped pictures."""
  path = folder / gallery.LEFT_OUT
  with open(path, 'rb') as lines:
    for number, line in enumerate(lines, 1):
      try:
        entry = json.loads(line)
        yield {name: entry[name] for name in ('images', 'name', 'reason')}
      except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(
          f'{path} is damaged at line {number}: remove it, so that the pictures '
          'in it are tried again'
        ) from error
