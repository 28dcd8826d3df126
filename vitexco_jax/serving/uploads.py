"""Validation of untrusted uploads.

* Files get names of ours. Theirs are text to show, and no path is made of them.
* Files are opened in child processes with limits, see `media.sandbox`, which also
  says which containers and codecs are taken: a playlist would have FFmpeg open
  other files of this machine.
* Frames of more than `sandbox.FRAME_PIXELS` are not decoded, nor more than
  `MAX_FRAMES`.
* A picture is decoded once, and what is kept is a picture of our own.
"""

from pathlib import Path

from vitexco_jax.errors import UserError
from vitexco_jax.media import quality, video
from vitexco_jax.media.sandbox import Sandbox
from vitexco_jax.serving import drawings
from vitexco_jax.serving.drawings import Drawing

MAX_FRAMES = 200_000  # Of a video: two hours and more.

_MAX_ASPECT = 4
_NAME = 100  # Characters that are shown of a name.


def shown(name: str) -> str:
  """A file's name as text of one line."""
  name = ''.join(x for x in name if x.isprintable()).strip()
  return name[-_NAME:] or 'unnamed'


def check_video(path: Path) -> None:
  """Raises UserError unless a file is a video that may be decoded here."""
  with Sandbox() as sandbox, sandbox.open(path) as reader:
    form, frames, kind = reader.format, reader.num_frames, reader.kind
  if kind != 'video':
    raise UserError(
      f'{path} is no video that is taken here, but an {kind}: save it as MP4'
    )
  if max(form.height, form.width) > _MAX_ASPECT * min(form.height, form.width):
    raise UserError(
      f'{path} is {form.width}x{form.height} pixels: one side may be at most '
      f'{_MAX_ASPECT} times the other'
    )
  if (frames or 0) > MAX_FRAMES:
    raise UserError(
      f'{path} has {frames} frames, at most {MAX_FRAMES} are taken: cut it in '
      'parts'
    )


def redraw(path: Path) -> Drawing:
  """Reads a picture, and makes one of our own: upright, and not too large.

  Raises:
    UserError: it is of no kind that is taken, damaged, too large, or gray.
  """
  with Sandbox() as sandbox:
    drawing = sandbox.call(drawings.redraw, path, about=path)
  if quality.is_gray(video.decode_image(drawing.thumbnail, path)):
    raise UserError(f'{path} has no color to give')
  return drawing
