"""Collections of still pictures: a folder tree or a TFDS data set.

A picture has a *key*, by which it is listed, and a *name* with more detail. In a
folder both are the path below the folder. In a data set the key is the split and the
number, `train/0000017`, and the name appends the file name if the data set stores
it, `train/0000017/n01440764_190.JPEG`. Both can be used to load the picture.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.media.images import IMAGE_SUFFIXES

_SPLIT = 'train'


class Folder:
  """All images below a folder, by suffix, without hidden files."""

  def __init__(self, root: Path):
    self._root = root.resolve()
    self.address = str(self._root)

  def keys(self) -> list[str]:
    """Returns all keys, in an order independent of the file system."""
    return sorted(self._walk(self._root))

  def _walk(self, folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
      folders[:] = [name for name in folders if not name.startswith('.')]
      below = Path(parent).relative_to(self._root)
      for name in names:
        if os.path.splitext(name)[
          1
        ].lower() in IMAGE_SUFFIXES and not name.startswith('.'):
          yield (below / name).as_posix()

  def key(self, name: str) -> str:
    """Returns the key of a name."""
    return name

  def load(self, name: str) -> tuple[str, bytes]:
    """Returns name and content; UserError if the file cannot be read."""
    path = self._root / name
    files.check_regular(path)
    try:
      return name, path.read_bytes()
    except OSError as error:
      raise UserError(
        f'cannot read {path}: {error.strerror or error}'
      ) from error


class DataSet:
  """Split `train` of a TFDS data set, read without TensorFlow."""

  def __init__(self, address: str):
    """Opens a data set by its TFDS name, such as `imagenet2012`."""
    try:
      builder = tfds.builder(address)
    except (ValueError, OSError) as error:
      raise UserError(
        f'`images={address}` is neither a folder nor a TFDS data set'
      ) from error
    try:
      builder.info.features['image']
      self._examples = builder.as_data_source(
        _SPLIT, decoders={'image': tfds.decode.SkipDecoding()}
      )
    except (
      LookupError,
      ValueError,
      NotImplementedError,
      AssertionError,
    ) as error:
      raise UserError(
        f'`images={address}`: there is no such folder, and the data set has no '
        f'images in a split {_SPLIT} that can be read without TensorFlow; '
        f'prepare it with `tfds build {address} --file_format=array_record`'
      ) from error
    # The numbers of examples depend on the version.
    version = '' if ':' in address else f':{builder.version}'
    self.address = f'{address}{version}'

  def keys(self) -> list[str]:
    """Returns all keys, in order."""
    return [f'{_SPLIT}/{i:07d}' for i in range(len(self._examples))]

  def key(self, name: str) -> str:
    """Returns the key of a name."""
    return '/'.join(name.split('/')[:2])

  def load(self, name: str) -> tuple[str, bytes]:
    """Returns full name and content; UserError if it cannot be read."""
    key = self.key(name)
    try:
      example = self._examples[int(key.split('/')[1])]
    except (ValueError, IndexError, RuntimeError) as error:
      raise UserError(f'cannot read {self.address} {key}: {error}') from error
    own = example.get('file_name')
    return f'{key}/{own.decode()}' if own else key, example['image']


def open_pictures(address: str) -> Folder | DataSet:
  """Opens a folder, or a data set by its name.

  Raises:
    UserError: neither exists.
  """
  if Path(address).is_dir():
    return Folder(Path(address))
  return DataSet(address)
