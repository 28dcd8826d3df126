"""Validation of untrusted uploads.

* The server chooses the names of stored files. The client's names are only shown
  as text and never become part of a path.
* Files are opened in child processes with resource limits (see `media.sandbox`),
  which also lists the accepted containers and codecs: a playlist would make
  FFmpeg open other files on this machine.
* Frames larger than `sandbox_child.FRAME_PIXELS` are not decoded, and neither are more
  than `MAX_FRAMES` frames.
* A picture is decoded once; only a newly encoded copy is stored.
"""

import contextlib
from pathlib import Path
from typing import NamedTuple

from vitexco_jax.errors import UserError
from vitexco_jax.media import mux, quality, video
from vitexco_jax.media.sandbox import Sandbox
from vitexco_jax.serving import drawings
from vitexco_jax.serving.drawings import Drawing

MAX_FRAMES = 200_000  # Per video: more than two hours.

_MAX_ASPECT = 4
_SUFFIXES = ('.mp4', '.mov', '.mkv')  # Of results, the best for browsers first.
_NAME = 100  # Maximum length of a displayed name, in characters.


class Facts(NamedTuple):
  """What the container of a video says about it."""

  width: int
  height: int
  frames: int | None  # None: not known without decoding.
  rate: float  # Frames per second.


def shown(name: str) -> str:
  """A file name as one line of printable text."""
  name = ''.join(x for x in name if x.isprintable()).strip()
  return name[-_NAME:] or 'unnamed'


def check_video(path: Path) -> Facts:
  """Checks that a file is a video that may be decoded.

  Raises:
    UserError: it is not.
  """
  with Sandbox() as sandbox, sandbox.open(path) as reader:
    form, frames, kind = reader.format, reader.num_frames, reader.kind
  if kind != 'video':
    raise UserError(f'{path} is an {kind}, not a video: save it as MP4')
  if max(form.height, form.width) > _MAX_ASPECT * min(form.height, form.width):
    raise UserError(
      f'{path} is {form.width}x{form.height} pixels: one side may be at most '
      f'{_MAX_ASPECT} times the other'
    )
  if (frames or 0) > MAX_FRAMES:
    raise UserError(
      f'{path} has {frames} frames, but at most {MAX_FRAMES} are allowed: cut '
      'it into parts'
    )
  return Facts(form.width, form.height, frames, float(form.frame_rate))


def result_path(path: Path, sandbox: Sandbox, coding: video.Coding) -> Path:
  """Returns the path of a video's result, in the same folder.

  It is an MP4, which browsers play, or the next container that takes the audio.

  Args:
    path: of the video.
    sandbox: opens it.
    coding: of the result.

  Raises:
    UserError: no container supports the audio.
  """
  known = [x for x in _SUFFIXES if x in coding.settings.suffixes]
  for suffix in known:
    output = path.with_name(f'colored{suffix}')
    with contextlib.suppress(UserError):
      sandbox.call(mux.left_out, path, output, about=path)
      return output
  raise UserError(
    f'none of {" ".join(known)} supports the audio of {path}: convert the '
    'audio to AAC'
  )


def redraw(path: Path) -> Drawing:
  """Reads a picture and encodes a copy: upright, and not too large.

  Raises:
    UserError: the format is not supported, or the picture is damaged, too large,
      or gray.
  """
  with Sandbox() as sandbox:
    drawing = sandbox.call(drawings.redraw, path, about=path)
  if quality.is_gray(video.decode_image(drawing.thumbnail, path)):
    raise UserError(f'{path} is black-and-white: choose a picture in color')
  return drawing
