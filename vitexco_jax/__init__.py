"""Vitexco: exemplar-based video colorization with a Vision Transformer.

The public API is listed below; see docs/api.md. Each name is imported when it is
first used, so `import vitexco_jax` does not import JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

if TYPE_CHECKING:
  from vitexco_jax.errors import UserError as UserError
  from vitexco_jax.inference.clip_state import ClipState as ClipState
  from vitexco_jax.inference.colorize import colorize as colorize
  from vitexco_jax.inference.device_pool import Clip as Clip
  from vitexco_jax.inference.device_pool import colorize_clips as colorize_clips
  from vitexco_jax.inference.frame_server import FrameServer as FrameServer
  from vitexco_jax.inference.outputs import Options as Options
  from vitexco_jax.inference.video_colorizer import Prediction as Prediction
  from vitexco_jax.inference.video_colorizer import (
    VideoColorizer as VideoColorizer,
  )
  from vitexco_jax.media.codecs import Coding as Coding
  from vitexco_jax.media.frames import Format as Format
  from vitexco_jax.media.frames import Frame as Frame
  from vitexco_jax.media.images import read_image as read_image
  from vitexco_jax.media.images import write_image as write_image
  from vitexco_jax.media.reader import VideoReader as VideoReader
  from vitexco_jax.media.writer import VideoWriter as VideoWriter

# Names of the public API, and the modules that define them.
_MODULES = {
  'Clip': 'inference.device_pool',
  'ClipState': 'inference.clip_state',
  'Coding': 'media.codecs',
  'Format': 'media.frames',
  'Frame': 'media.frames',
  'FrameServer': 'inference.frame_server',
  'Options': 'inference.outputs',
  'Prediction': 'inference.video_colorizer',
  'UserError': 'errors',
  'VideoColorizer': 'inference.video_colorizer',
  'VideoReader': 'media.reader',
  'VideoWriter': 'media.writer',
  'colorize': 'inference.colorize',
  'colorize_clips': 'inference.device_pool',
  'read_image': 'media.images',
  'write_image': 'media.images',
}

__all__ = ['__version__', *_MODULES]


def __getattr__(name: str) -> Any:
  """Imports a public name when it is first used."""
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  """Lists the public names, also those that are not imported yet."""
  return sorted({*globals(), *__all__})
