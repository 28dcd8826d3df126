"""A folder of photos of any sizes, each with a reference of its own by name.

The reference of a.jpg is a_ref with any suffix of an image, as in a_ref.png, in the
same folder.
"""

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import outputs, preflight
from vitexco_jax.inference.outputs import Options
from vitexco_jax.inference.shot_plan import Choice, Plan, Shot
from vitexco_jax.media import video

if TYPE_CHECKING:
  from vitexco_jax.inference.video_colorizer import VideoColorizer

_REFERENCE = '_ref'  # End of the name of a reference, without its suffix.
_logger = logging.getLogger(__name__)


class Photo(NamedTuple):
  """A photo to colorize."""

  path: Path
  reference: str
  target: Path


def has_references(folder: Path) -> bool:
  """Whether a path is a folder with a photo and its reference."""
  if not folder.is_dir():
    return False
  stems = {path.stem for path in video.image_files(folder)}
  return any(f'{stem}{_REFERENCE}' in stems for stem in stems)


def check(
  folder: Path,
  pictures: Sequence[str],
  output: Path,
  overwrite: bool,
  options: Options,
) -> list[Photo]:
  """Lists the photos of a folder and checks everything before the work.

  Args:
    folder: of photos and references.
    pictures: at most one, for photos without a reference of their own: a path or
      `none`.
    output: a folder.
    overwrite: whether to replace photos in it; otherwise they are left out.
    options: of the output.

  Raises:
    UserError: a photo has no reference, or something cannot be read or written.
  """
  if video.output_kind(output) != 'folder':
    raise UserError(
      f'`output={output}` must be a folder, as {folder} has photos'
    )
  if options.compare or options.confidence or len(pictures) > 1:
    raise UserError(
      f'{folder} has photos with references (NAME{_REFERENCE}): leave out '
      '`compare`, `confidence`, and all `pictures` except one'
    )
  paths = {path.stem: path for path in video.image_files(folder)}
  own = {f'{stem}{_REFERENCE}' for stem in paths} & paths.keys()
  photos: list[Photo] = []
  for stem, path in paths.items():
    if stem in own:
      continue
    reference = paths.get(f'{stem}{_REFERENCE}')
    if reference is None and not pictures:
      raise UserError(
        f'{path} has no reference: add {stem}{_REFERENCE}.jpg, or name one for '
        'all others with `pictures`'
      )
    picture = str(reference) if reference else pictures[0]
    target = output / f'{stem}.png'
    if target.exists() and not overwrite:
      _logger.info(f'{target} exists, and stays')
      continue
    inputs = [] if picture == 'none' else [Path(picture)]
    outputs.check(path, target, overwrite, options, inputs)
    for warning in preflight.check_inputs(path, [picture]):
      _logger.warning('%s', warning)
    photos.append(Photo(path, picture, target))
  return photos


def colorize(
  colorizer: 'VideoColorizer', photos: Sequence[Photo], options: Options
) -> None:
  """Colorizes photos; see `check`.

  Args:
    colorizer: the engine.
    photos: from `check`.
    options: of the output.

  Raises:
    UserError: a photo cannot be read, or a result cannot be written.
  """
  # They import JAX, which checks of the input do not need.
  import tqdm

  from vitexco_jax.inference import film

  confidences = []
  for photo in tqdm.tqdm(photos, 'photos', unit='photo'):
    with video.VideoReader(photo.path) as reader:
      form = reader.format
    shot = Shot(0, 1, (Choice(photo.reference),))
    plan = Plan(
      str(photo.path), form.width, form.height, 1, Fraction(25), (shot,)
    )
    files.make_folder('output', photo.target.parent)
    job = film.Film([colorizer], photo.path, plan, photo.target, True, options)
    for _ in job.run():
      pass
    confidences.append(float(job.confidences[0]))
  if confidences:
    mean = sum(confidences) / len(confidences)
    _logger.info(
      f'Wrote {photos[0].target.parent}: {len(photos)} photos; mean confidence '
      f'{mean:.2f}'
    )
