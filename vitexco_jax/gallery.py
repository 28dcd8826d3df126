"""--mode=gallery: a collection of pictures becomes searchable (Sec. III-A).

Pictures are decoded by threads while the device embeds those before; what is
done is kept every few hundred pictures, so a build that was stopped goes on, and
a gallery grows by the pictures that it lacks. Black-and-white pictures cannot be
references: they, and files that cannot be read, are listed in `left_out.json`.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files, quality, retrieval
from vitexco_jax.errors import UserError
from vitexco_jax.video import prefetch

_CHUNK = 256  # Pictures that are kept together.


def make_gallery(
  config: ml_collections.ConfigDict, images: str, folder: Path
) -> retrieval.Gallery:
  """Embeds pictures, but those that are in the gallery already.

  Args:
    config: `retrieval` names the network.
    images: a folder, searched through and through, or the name of a data set
      that TFDS has prepared.
    folder: of the gallery.

  Returns:
    The gallery, opened.

  Raises:
    UserError: there are no pictures, the gallery was made otherwise, or it
      cannot be written.
  """
  pictures = retrieval.open_pictures(images)
  names = pictures.names()
  if not names:
    raise UserError(f'--images={images} holds no pictures')
  if Path(images).is_dir():
    images = str(Path(images).resolve())
  files.make_folder('--gallery', folder)
  embedder = retrieval.Embedder(config)
  with files.explained('--gallery', folder):
    writer = retrieval.GalleryWriter(folder, images, embedder)
    known = {*writer.names, *writer.left_out}
    missing = [name for name in names if name not in known]
    decode = functools.partial(
      _decode, pictures, config.data.quality.min_chroma
    )
    with tqdm.tqdm(
      total=len(names),
      initial=len(names) - len(missing),
      unit='picture',
      desc='gallery',
    ) as progress:
      for chunk, decoded in prefetch(_decode_all(missing, decode), 2):
        good = {
          name: rgb
          for name, rgb in zip(chunk, decoded, strict=True)
          if not isinstance(rgb, str)
        }
        left_out = {
          name: reason
          for name, reason in zip(chunk, decoded, strict=True)
          if isinstance(reason, str)
        }
        writer.add(list(good), embedder(list(good.values())), left_out)
        progress.update(len(chunk))
    if not writer.names:
      raise UserError(
        f'none of the {len(names)} pictures of --images={images} can be a '
        f'reference; {folder / "left_out.json"} says why'
      )
    if config.retrieval.index == 'ivf':
      embeddings = retrieval.read_embeddings(
        folder, len(writer.names), embedder.size
      )
      recall = retrieval.write_index(folder, embeddings)
      print(f'approximate index: finds {recall:.1%} of the true best five')
  made = retrieval.Gallery(folder, config.retrieval)
  print(
    f'{folder}: {len(made)} pictures, {len(writer.left_out)} left out '
    f'({folder / "left_out.json"})'
  )
  return made


def _decode_all(
  names: list[str], decode: Callable[[str], np.ndarray | str]
) -> Iterator[tuple[list[str], list[np.ndarray | str]]]:
  """Yields chunks of names with their pictures, decoded side by side."""
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for first in range(0, len(names), _CHUNK):
      chunk = names[first : first + _CHUNK]
      yield chunk, list(pool.map(decode, chunk))


def _decode(
  pictures: retrieval.FolderPictures | retrieval.TfdsPictures,
  min_chroma: float,
  name: str,
) -> np.ndarray | str:
  """Returns a picture, as it is embedded, or why it cannot be a reference."""
  try:
    rgb = retrieval.fit(pictures.read(name))
  except UserError as error:
    return str(error)
  if quality.chroma(rgb) < min_chroma:
    return 'black-and-white'
  return rgb
