"""Settings on which the output of a film depends."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference.shot_plan import FIRST_FRAME, NONE, Choice, Plan
from vitexco_jax.media import video

SOURCE = 'SHA-256 of the video'  # Name of this setting.


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
    f'shot {number}': f'{shot.start}-{shot.stop - 1}: '
    + ', '.join(map(describe, shot.references))
    + (f' within {[*shot.borders]}' if any(shot.borders) else '')
    for number, shot in enumerate(plan.shots, 1)
  }
