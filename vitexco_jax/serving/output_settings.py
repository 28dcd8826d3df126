"""Settings of the result that users choose on the page."""

from pathlib import Path
from typing import Any, NamedTuple

from vitexco_jax import sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference.outputs import Options
from vitexco_jax.media import video

_MAX_SATURATION = 4.0
_MAX_SMOOTHING = 100_000.0
_SCALES = (0.5, 0.75, 1.5, 2.0)  # Of the usual working size.


class Settings(NamedTuple):
  """What the user chooses; the defaults are those of the program.

  Attributes:
    saturation: factor of the colors.
    smoothing: see `Options`.
    codec: see `video.Coding`.
    quality: see `video.Coding`.
    working_size: (height, width); None: that of the weights.
  """

  saturation: float = 1.0
  smoothing: float = 0.0
  codec: str = 'h264'
  quality: int | None = None
  working_size: tuple[int, int] | None = None

  @property
  def coding(self) -> video.Coding:
    """How the result is stored."""
    return video.Coding(self.codec, None, self.quality)

  def options(self, deinterlace: bool = False) -> Options:
    """Returns the options of the film."""
    return Options(
      self.coding, self.saturation, self.smoothing, deinterlace=deinterlace
    )


def working_sizes(usual: tuple[int, int]) -> list[tuple[int, int]]:
  """Returns the working sizes to choose from, the usual one first.

  They are a few, as a large one takes the memory of other users.

  Args:
    usual: (height, width) of the weights.
  """
  others = (
    tuple(round(scale * x / sizes.TOKEN) * sizes.TOKEN for x in usual)
    for scale in _SCALES
  )
  listed = [usual]
  listed.extend((x[0], x[1]) for x in others if min(x) >= 2 * sizes.TOKEN)
  return listed


def describe(settings: Settings, usual: tuple[int, int]) -> dict[str, Any]:
  """Returns settings and the values to choose from, for JSON.

  Args:
    settings: to describe.
    usual: (height, width), the working size of the weights.
  """
  size = settings.working_size
  return {
    'values': settings._asdict() | {'working_size': size and _text(size)},
    'most': {'saturation': _MAX_SATURATION, 'smoothing': _MAX_SMOOTHING},
    'qualities': {
      name: [codec.quality, codec.worst]
      for name in video.CODECS
      for codec in [video.Coding(name).settings]
    },
    'working_sizes': [_text(x) for x in working_sizes(usual)],
  }


def parse(body: object, usual: tuple[int, int]) -> Settings:
  """Returns the settings of the JSON of a request.

  Args:
    body: a value for each field of `Settings`; null: the default.
    usual: (height, width), the working size of the weights.

  Raises:
    UserError: a value is missing, unknown, or not supported.
  """
  if not isinstance(body, dict) or set(body) != set(Settings._fields):
    raise UserError(
      f'the body must be an object of {", ".join(Settings._fields)}'
    )
  settings = Settings(
    _number('saturation', body['saturation'], 1.0, _MAX_SATURATION),
    _number('smoothing', body['smoothing'], 0.0, _MAX_SMOOTHING),
    _codec(body['codec']),
    _quality(body['quality']),
    _size(body['working_size'], usual),
  )
  suffix = settings.coding.settings.suffixes[0]
  settings.options().check(Path(f'result{suffix}'))
  return settings


def _number(name: str, value: object, default: float, most: float) -> float:
  if value is None:
    return default
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not 0 <= value <= most:  # type: ignore[operator]
    raise UserError(f'`{name}` must be a number from 0 to {most:g}')
  return float(value)  # type: ignore[arg-type]


def _codec(value: object) -> str:
  if value is None:
    return Settings().codec
  if value not in video.CODECS:
    raise UserError(f'`codec` must be one of {", ".join(video.CODECS)}')
  return str(value)


def _quality(value: object) -> int | None:
  if value is not None and type(value) is not int:
    raise UserError('`quality` must be a whole number')
  return value


def _size(value: object, usual: tuple[int, int]) -> tuple[int, int] | None:
  if value is None:
    return None
  offered = {_text(x): x for x in working_sizes(usual)}
  if not isinstance(value, str) or value not in offered:
    raise UserError(f'`working_size` must be one of {", ".join(offered)}')
  return offered[value]


def _text(size: tuple[int, int]) -> str:
  return f'{size[0]}x{size[1]}'
