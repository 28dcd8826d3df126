"""Settings on which the output of a film depends."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import vitexco_jax
from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference.shot_plan import FIRST_FRAME, NONE, Choice, Plan
from vitexco_jax.inference.stretches import Stretch
from vitexco_jax.media import video

SOURCE = 'SHA-256 of the video'  # Name of this setting.
_SHOT = 'shot '  # How the names of the settings of shots begin.
# Of the package, what decides the pixels and the bytes of an output.
_CODE = '*.py', 'models/*.py', 'media/*.py', 'inference/*.py'
# Settings of other files, and of warnings.
_NO_PIXELS = frozenset(
  (
    'compare',
    'confidence',
    'config.use.still_agreement',
    'config.use.still_candidates',
    'config.use.still_sharpness',
    'config.use.still_duplicate',
    'config.use.unsure_confidence',
    'config.use.unsure_frames',
  )
)
_OF_BOUND_STILLS = frozenset(
  ('config.use.fit_stills', 'config.use.mix_tolerance', 'config.use.anchor')
)
_OF_COLORS = 'config.', 'weights', 'saturation', 'smoothing'


@functools.cache
def program_version() -> str:
  """Returns the version of the program, with a hash of its code.

  The hash separates two states of a checkout.
  """
  package = Path(vitexco_jax.__file__).parent
  paths = sorted(path for part in _CODE for path in package.glob(part))
  return f'{vitexco_jax.__version__} {files.sha256_of_all(paths)[:8]}'


def settings_of(
  settings: Mapping[str, str], stretch: Stretch
) -> dict[str, str]:
  """Returns the settings that change the segments of a stretch."""
  bound = stretch.before is not None or stretch.after is not None

  def matters(name: str) -> bool:
    if stretch.skipped and name.startswith(_OF_COLORS):
      return False
    return name not in _NO_PIXELS and (bound or name not in _OF_BOUND_STILLS)

  return {name: x for name, x in settings.items() if matters(name)}


def without_shots(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the settings that are not about one shot."""
  return {k: x for k, x in settings.items() if not k.startswith(_SHOT)}


def hash_pictures(plan: Plan) -> dict[str, str]:
  """Returns SHA-256 of the references' files by path."""
  # The hash of the video covers its first frame.
  hashes = {FIRST_FRAME: '', NONE: ''}
  for picture in {x.picture for y in plan.shots for x in y.references}:
    if picture not in hashes:
      with video.explained('read', picture):
        hashes[picture] = files.sha256(Path(picture))
  return hashes


def hash_source(path: Path) -> str:
  """Returns SHA-256 of a video or of all images of a folder.

  It reads 800 MB per second or more, much faster than decoding.
  """
  with video.explained('read', path):
    if path.is_dir():
      return files.sha256_of_all(video.image_files(path))
    return files.sha256(path)


def name_settings(
  prefix: str, settings: Iterable[tuple[str, Any]]
) -> dict[str, str]:
  """Converts settings to text; of a path only the file name counts."""
  return {
    f'{prefix}{name}': value.name if isinstance(value, Path) else str(value)
    for name, value in settings
  }


def check_same(
  place: Path, earlier_settings: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
  """Raises UserError if an earlier run had other settings."""
  for name in {**earlier_settings, **now}:
    earlier, current = earlier_settings.get(name), now.get(name)
    if name == 'video' and earlier_settings[SOURCE] == now[SOURCE]:
      continue  # The file was renamed.
    if earlier != current:
      raise UserError(
        f'{place} was begun with `{name}` {earlier}, which now is {current}: '
        'set it back, or remove that to start from the beginning'
      )


def describe_shots(plan: Plan, hashes: Mapping[str, str]) -> dict[str, str]:
  """Describes each shot of a plan by one setting.

  Args:
    plan: the plan.
    hashes: see `hash_pictures`.
  """

  def describe(choice: Choice) -> str:
    digest = hashes[choice.picture]
    frame = '' if choice.frame is None else f' at {choice.frame}'
    return f'{Path(choice.picture).name} {digest[:8]}{frame}'

  return {
    f'{_SHOT}{number}': f'{shot.start}-{shot.stop - 1}: '
    + ', '.join(map(describe, shot.references))
    + (f' within {[*shot.borders]}' if any(shot.borders) else '')
    + (f' dissolve {shot.dissolve}' if shot.dissolve else '')
    for number, shot in enumerate(plan.shots, 1)
  }
