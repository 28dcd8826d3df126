"""Weights by name.

Everything that takes weights accepts

  small           the weights that come with the program
  weights/mine    a folder: an export, or the work directory of a run
  mine@4f1c09ab   an export whose SHA-256 begins like this

A folder with the name of weights that come with the program is written `./small`.
The hash covers `config.json` and `params/`, so that a copy is known to be complete
and to be the same as that of others.
"""

import functools
import logging
import os
import re
from pathlib import Path

from vitexco_jax import files
from vitexco_jax.errors import UserError, nearest

# Weights that come with the program, and their hashes.
SHIPPED = {
  'small': 'b30588e5301a354d4850e2ad15c11e781471803d2867a877c0827973ae4d1d0b'
}
_SHOWN = 16  # Digits of a hash in messages.
_PINNED = re.compile(r'(.+)@([0-9a-f]{8,64})', re.DOTALL)

_logger = logging.getLogger(__name__)


def find(name: str | os.PathLike[str]) -> Path:
  """Returns the folder of weights.

  Args:
    name: see above.

  Raises:
    UserError: there is no such folder, or it has another hash.
  """
  text, pinned = os.fspath(name), ''
  match = _PINNED.fullmatch(text)
  if match and not os.path.exists(text):
    text, pinned = match.groups()
  is_shipped = text in SHIPPED
  path = files.shipped(f'weights/{text}') if is_shipped else Path(text)
  if not path.exists():
    raise UserError(f'there is no checkpoint {text}' + nearest(text, SHIPPED))
  if pinned and not (actual := sha256(path)).startswith(pinned):
    raise UserError(
      f'{text} has the SHA-256 {actual[:_SHOWN]}..., not {pinned}...: it is '
      'damaged, or these are other weights'
    )
  if is_shipped:
    _check_shipped(text, path)
  return path


@functools.cache
def _check_shipped(name: str, path: Path) -> None:
  """Warns once if weights are not those of this version."""
  if sha256(path) != SHIPPED[name]:
    _logger.warning(
      '%s is not the %s of this version: install the program again', path, name
    )


def sha256(path: Path) -> str:
  """Returns the hash of an export.

  Raises:
    UserError: the folder is not an export, or cannot be read.
  """
  params = sorted(x for x in path.glob('params/**/*') if x.is_file())
  if not params:
    raise UserError(f'{path} is not an export: only exports have a hash')
  paths = [path / 'config.json'] + params
  for each in paths:
    files.check_regular(each)
  return files.sha256_of_all(paths)


def pinned(path: Path) -> str:
  """Returns the path of an export with its hash, as `find` accepts it."""
  return f'{path}@{sha256(path)[:_SHOWN]}'
