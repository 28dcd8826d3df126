"""Finding references: pictures that show what a frame shows (Sec. III-A, IV).

A network turns a picture into an *embedding*, a vector [d] of unit length; two
pictures are as alike as the cosine between theirs. Frames are grey when they are
coloured, so by default all pictures are embedded by their grey version. A
*gallery* is a folder of embeddings that is searched with FAISS:

  settings.json    how its pictures were embedded, and where they are
  pictures.jsonl   the name of each picture, a line each
  embeddings.f32   [n, d] float32, in the same order
  left_out.json    names of pictures that cannot be references, and why
  ivf.faiss        the approximate index, if there is one

It only grows. Embeddings are written before names, and a name makes a picture
count: what an interrupted build leaves behind is overwritten by the next.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import faiss
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from vitexco_jax import checkpoint, color, files, video
from vitexco_jax.errors import UserError
from vitexco_jax.models import efficientnet, vit
from vitexco_jax.vit_weights import load_vit_weights

NETWORKS = ('vit', 'efficientnet_lite0')
_SIDE = 224  # Pixels of a picture as the networks were trained.
_BATCH = 16
_ADDED = 1 << 16  # Embeddings that go into the index at a time.
_SETTINGS, _NAMES = 'settings.json', 'pictures.jsonl'
_EMBEDDINGS, _INDEX = 'embeddings.f32', 'ivf.faiss'
_LEFT_OUT = 'left_out.json'


class Embedder:
  """Embeds pictures by the network of `config.retrieval`.

  Attributes:
    size: d.
    description: what embeddings depend on, as JSON gives it; those of two
      descriptions do not compare.
  """

  def __init__(self, config: ml_collections.ConfigDict):
    """Loads the weights.

    Raises:
      UserError: the network is unknown, or its weights cannot be read.
    """
    settings = config.retrieval
    if settings.network == 'vit':
      network, params = _vit(config)
      kind = {
        'variant': config.model.vit.variant,
        'gelu': config.model.vit.gelu,
      }
    elif settings.network == 'efficientnet_lite0':
      network = efficientnet.EfficientNetLite0().apply
      params, kind = efficientnet.load_efficientnet_lite0(), {}
    else:
      raise UserError(
        f'config.retrieval.network is {settings.network!r}; known are '
        + ', '.join(NETWORKS)
      )

    @jax.jit
    def embed(params, rgb):
      if settings.grey:
        rgb = color.grey(rgb)
      features = network({'params': params}, rgb.astype(jnp.float32) / 255.0)
      return features / jnp.linalg.norm(features, axis=-1, keepdims=True)

    self._embed = functools.partial(embed, jax.device_put(params))
    picture = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, 3), np.uint8)
    self.size: int = jax.eval_shape(self._embed, picture).shape[-1]
    self.description: dict[str, Any] = {
      'network': settings.network,
      **kind,
      'weights': _digest(params),
      'grey': settings.grey,
    }

  def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Embeds pictures [h, w, 3] uint8 of any sizes: [b, d] float32."""
    out = np.empty((len(pictures), self.size), np.float32)
    for first in range(0, len(pictures), _BATCH):
      batch = [fit(rgb) for rgb in pictures[first : first + _BATCH]]
      # Filled up, so that nothing is compiled for other numbers.
      filled = np.zeros((_BATCH, _SIDE, _SIDE, 3), np.uint8)
      filled[: len(batch)] = batch
      embedded = np.asarray(self._embed(filled))[: len(batch)]
      out[first : first + _BATCH] = embedded
    return out


def _vit(config: ml_collections.ConfigDict) -> tuple[Callable, Any]:
  """The class token of the ViT, and its parameters."""
  model = vit.VisionTransformer(**config.model.vit)

  def network(variables, rgb):
    return model.apply(variables, vit.normalize(rgb)).embedding

  if config.train.init and not config.train.vit_weights:
    return network, checkpoint.load_params(config.train.init)['vit']
  image = jnp.zeros((1, _SIDE, _SIDE, 3))
  params = jax.jit(model.init)(jax.random.key(config.seed), image)['params']
  if config.train.vit_weights:
    params = load_vit_weights(
      config.train.vit_weights, params, config.model.vit.gelu
    )
  else:
    print(
      'The ViT is not trained (config.train.vit_weights is not set): what it '
      'finds alike will be poor. Name weights of AugReg or timm, or set '
      '--config.retrieval.network=efficientnet_lite0'
    )
  return network, params


def _digest(params: Any) -> str:
  digest = hashlib.sha1()
  for leaf in jax.tree.leaves(params):
    digest.update(np.asarray(leaf, np.float32).tobytes())
  return digest.hexdigest()


def fit(rgb: np.ndarray) -> np.ndarray:
  """Scales a picture's middle square to what the networks were trained on.

  [h, w, 3] uint8 to [224, 224, 3]. Squashing the whole picture instead finds
  fewer pictures of the same kind.
  """
  height, width = rgb.shape[:2]
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  return cv2.resize(
    rgb[top : top + side, left : left + side],
    (_SIDE, _SIDE),
    interpolation=cv2.INTER_AREA if side > _SIDE else cv2.INTER_LINEAR,
  )


class Gallery:
  """Embedded pictures, open for searching.

  Attributes:
    folder: where they are.
    description: the `Embedder`'s.
    names: of the pictures.
    fingerprint: differs for any two galleries whose searches may differ.
  """

  def __init__(self, folder: Path, settings: ml_collections.ConfigDict):
    """Opens a gallery.

    Args:
      folder: of a gallery.
      settings: `config.retrieval`; which index, how many and how different.

    Raises:
      UserError: there is none, it is damaged or empty, or its index is not of
        these settings.
    """
    self.folder = Path(folder)
    self._settings = settings
    begun, self.names = read_table(self.folder)
    if not self.names:
      raise UserError(f'the gallery {folder} is empty: add pictures to it')
    self.description: dict[str, Any] = begun['description']
    self._pictures = open_pictures(begun['images'])
    self._embeddings = read_embeddings(
      self.folder, len(self.names), begun['size']
    )
    self._index = None
    if settings.index == 'ivf':
      self._index = _read_index(self.folder, len(self.names))
    elif settings.index != 'exact':
      raise UserError(
        f'config.retrieval.index is {settings.index!r}; known are exact, ivf'
      )
    digest = hashlib.sha1('\n'.join(self.names).encode())
    digest.update(json.dumps(self.description).encode())
    self.fingerprint = digest.hexdigest()

  def __len__(self) -> int:
    """How many pictures there are."""
    return len(self.names)

  def check(self, embedder: Embedder) -> None:
    """Raises UserError where an embedder's embeddings do not compare."""
    _check_description(self.folder, self.description, embedder)

  def read(self, number: int) -> np.ndarray:
    """Reads a picture, [h, w, 3] uint8; raises UserError."""
    return self._pictures.read(self.names[number])

  def search(
    self, queries: np.ndarray, count: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pictures most like each query.

    Args:
      queries: [q, d] float32, of unit length.
      count: n, how many.

    Returns:
      Cosines [q, n], falling, and numbers of pictures [q, n]; the approximate
      index may find fewer, and has -1 for the rest.
    """
    count = min(count, len(self))
    if self._index is not None:
      return self._index.search(queries, count)
    return faiss.knn(
      queries, self._embeddings, count, metric=faiss.METRIC_INNER_PRODUCT
    )

  def best(self, queries: np.ndarray) -> list[list[tuple[int, float]]]:
    """Finds references: the best few, no two of which are nearly the same.

    Args:
      queries: [q, d] float32, of unit length.

    Returns:
      For each query pairs of a picture's number and its cosine, the best first;
      `count` of the settings, if the gallery has so many that differ.
    """
    wanted, found = self._settings.count, []
    for scores, numbers in zip(*self.search(queries, 4 * wanted), strict=True):
      kept = []
      for score, number in zip(scores, numbers, strict=True):
        if number < 0 or len(kept) == wanted:
          break
        others = self._embeddings[np.array([x for x, _ in kept], int)]
        alike = others @ self._embeddings[number]
        if not (alike > self._settings.near_duplicate).any():
          kept.append((int(number), float(score)))
      found.append(kept)
    return found


def _check_description(
  folder: Path, description: dict[str, Any], embedder: Embedder
):
  theirs = embedder.description
  for name in description | theirs:
    if description.get(name) != theirs.get(name):
      raise UserError(
        f'the gallery {folder} was made with {name}={description.get(name)}, not '
        f'{theirs.get(name)}: set config.retrieval, config.model.vit and '
        'config.train.vit_weights as they were then'
      )


# --- Where pictures come from ---


class FolderPictures:
  """The images of a folder tree, by their paths in it."""

  def __init__(self, root: Path):
    self._root = root

  def names(self) -> list[str]:
    """All names, in an order that does not depend on the file system."""
    return sorted(
      path.relative_to(self._root).as_posix()
      for path in self._root.rglob('*')
      if path.suffix.lower() in video.IMAGE_SUFFIXES
    )

  def read(self, name: str) -> np.ndarray:
    """Reads a picture, [h, w, 3] uint8; raises UserError."""
    return video.read_image(self._root / name)


class TfdsPictures:
  """The `image`s of a data set of TFDS, by their numbers."""

  def __init__(self, source: Any):
    self._source = source

  def names(self) -> list[str]:
    """All names."""
    return [str(number) for number in range(len(self._source))]

  def read(self, name: str) -> np.ndarray:
    """Reads a picture, [h, w, 3] uint8; raises UserError."""
    try:
      rgb = self._source[int(name)]['image']
    except Exception as error:  # Each layer below raises what it likes.
      raise UserError(f'picture {name} cannot be read: {error}') from error
    return np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)))


def open_pictures(images: str) -> FolderPictures | TfdsPictures:
  """Opens a folder, or what TFDS has prepared under a name (split `train`).

  Raises:
    UserError: there is neither, or TFDS's is not in ArrayRecord files.
  """
  if Path(images).is_dir():
    return FolderPictures(Path(images))
  try:
    return TfdsPictures(tfds.data_source(images, split='train'))
  except Exception as error:  # Of many kinds, and long.
    reason = str(error).strip().partition('\n')[0]
    raise UserError(
      f'--images={images} is no folder, and TFDS has no data set of that name in '
      f'ArrayRecord files ({reason})'
    ) from error


# --- What is on disk ---


def read_table(folder: Path) -> tuple[dict[str, Any], list[str]]:
  """Reads a gallery's settings and names; raises UserError."""
  try:
    settings = json.loads((folder / _SETTINGS).read_text())
    # The last line of a build that was killed may be torn.
    text = (folder / _NAMES).read_text().rpartition('\n')[0]
    return settings, json.loads(f'[{",".join(text.splitlines())}]')
  except (OSError, ValueError) as error:
    raise UserError(
      f'{folder} is no gallery, or is damaged ({error}); make one by '
      '`python launch.py --mode=gallery --images=DIR --gallery=OUT`'
    ) from error


def read_embeddings(folder: Path, count: int, size: int) -> np.ndarray:
  """Maps the embeddings [count, size] into memory; raises UserError."""
  try:
    return np.memmap(folder / _EMBEDDINGS, np.float32, 'r', 0, (count, size))
  except (OSError, ValueError) as error:
    raise UserError(
      f'{folder / _EMBEDDINGS} is missing or cut short ({error}); remove '
      f'{folder} and make it again'
    ) from error


class GalleryWriter:
  """Adds pictures to a gallery, which it makes where there is none."""

  def __init__(self, folder: Path, images: str, embedder: Embedder):
    """Begins, or goes on.

    Raises:
      UserError: what is there is no gallery, or was made otherwise.
      OSError: it cannot be written.
    """
    self._folder = folder
    self._size = embedder.size
    self.left_out: dict[str, str] = {}
    if not (folder / _SETTINGS).exists():
      begun = {
        'images': images,
        'size': embedder.size,
        'description': embedder.description,
      }
      (folder / _NAMES).touch()
      (folder / _EMBEDDINGS).touch()
      files.write(folder / _LEFT_OUT, '{}')
      files.write(folder / _SETTINGS, json.dumps(begun, indent=1))
    begun, self.names = read_table(folder)
    if begun['images'] != images:
      raise UserError(
        f'the gallery {folder} has the pictures of {begun["images"]}, not of '
        f'{images}: name another --gallery'
      )
    _check_description(folder, begun['description'], embedder)
    self.left_out = json.loads((folder / _LEFT_OUT).read_text())
    # What a killed build wrote and did not name.
    os.truncate(folder / _EMBEDDINGS, 4 * len(self.names) * self._size)
    files.write(folder / _NAMES, _lines(self.names))

  def add(
    self, names: Sequence[str], embeddings: np.ndarray, left_out: dict[str, str]
  ):
    """Adds pictures, and what cannot be one. They are kept when it returns."""
    if left_out:
      self.left_out |= left_out
      text = json.dumps(self.left_out, indent=1)
      files.write(self._folder / _LEFT_OUT, text)
    with (self._folder / _EMBEDDINGS).open('ab') as file:
      file.write(embeddings.astype(np.float32).tobytes())
    with (self._folder / _NAMES).open('a') as file:
      file.write(_lines(names))
    self.names += names


def _lines(names: Sequence[str]) -> str:
  return ''.join(json.dumps(name) + '\n' for name in names)


def write_index(folder: Path, embeddings: np.ndarray) -> float:
  """Makes the approximate index: lists of neighbours, some of which are looked at.

  As many are looked at as find 95 % of the true best five of a sample.

  Returns:
    That share, as measured.
  """
  count, size = embeddings.shape
  lists = max(1, round(4 * np.sqrt(count)) // 2)
  quantizer = faiss.IndexFlatIP(size)
  index = faiss.IndexIVFFlat(quantizer, size, lists, faiss.METRIC_INNER_PRODUCT)
  rng = np.random.default_rng(0)
  some = rng.permutation(count)[: 64 * lists]
  index.train(embeddings[np.sort(some)])
  for first in range(0, count, _ADDED):
    index.add(embeddings[first : first + _ADDED])
  queries = embeddings[np.sort(rng.permutation(count)[:200])]
  _, truth = faiss.knn(
    queries, embeddings, min(5, count), metric=faiss.METRIC_INNER_PRODUCT
  )
  index.nprobe = 1
  while (found := _recall(index, queries, truth)) < 0.95:
    index.nprobe *= 2
  files.write(folder / _INDEX, faiss.serialize_index(index))
  return found


def _recall(index: Any, queries: np.ndarray, truth: np.ndarray) -> float:
  _, numbers = index.search(queries, truth.shape[1])
  pairs = zip(numbers, truth, strict=True)
  return float(
    np.mean([np.isin(ours, theirs).mean() for ours, theirs in pairs])
  )


def _read_index(folder: Path, count: int) -> Any:
  path = folder / _INDEX
  again = 'run --mode=gallery with config.retrieval.index=ivf on it'
  if not path.exists():
    raise UserError(f'the gallery {folder} has no approximate index: {again}')
  try:
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
  except RuntimeError as error:
    raise UserError(f'{path} is damaged: {again}') from error
  if index.ntotal != count:
    raise UserError(
      f'{path} is of {index.ntotal} pictures, not of {count}: {again}'
    )
  return index
