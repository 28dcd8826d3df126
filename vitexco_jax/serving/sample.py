"""A sample to try: a short film and pictures, made of photos of scikit-image.

The photos may be used freely: the astronaut (NASA) and the rocket (SpaceX) are in the
public domain, the cup of coffee (Rachel Michetti) is CC0.
"""

import importlib.resources
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vitexco_jax import color
from vitexco_jax.media import video
from vitexco_jax.serving import drawings
from vitexco_jax.serving.drawings import Drawing

NAME = 'sample.mp4'
PHOTOS = ('astronaut.png', 'coffee.png', 'rocket.jpg')

_FRAMES = 48  # Of each photo.
_SIZE = 288, 384  # Of the film: (height, width).
_ZOOM = 0.75  # Share of a photo that is visible at the end.


def photos() -> list[Path]:
  """Returns the photos; [] if they are not installed."""
  folder = importlib.resources.files('skimage.data')
  paths = [Path(str(folder / name)) for name in PHOTOS]
  return paths if all(path.is_file() for path in paths) else []


def make(path: Path) -> dict[str, Drawing]:
  """Writes the film, gray: the camera moves over each photo.

  Args:
    path: of a new MP4.

  Returns:
    Pictures in color by their names, all of the size of the film, so that the
    networks are compiled once.

  Raises:
    UserError: the film cannot be written.
  """
  pictures = {}
  form = video.Format(*_SIZE)
  with video.VideoWriter(path, form, overwrite=True) as writer:
    for photo in photos():
      frames = list(_moves(video.read_image(photo)))
      pictures[photo.name] = drawings.draw(frames[0])
      for rgb in frames:
        writer.write(video.Frame(np.asarray(color.gray(rgb))))
  return pictures


def _moves(rgb: np.ndarray) -> Iterator[np.ndarray]:
  """Yields frames [h, w, 3] of a camera that approaches the center."""
  height, width = rgb.shape[:2]
  aspect = _SIZE[1] / _SIZE[0]
  full = min(height, width / aspect)  # Height of the visible part.
  for share in np.linspace(1, _ZOOM, _FRAMES):
    h = share * full
    scale = _SIZE[0] / h
    left = (width - h * aspect) / 2 * (2 - share)
    top = (height - h) / 2
    move = np.array(
      [[scale, 0, -scale * left], [0, scale, -scale * top]], np.float32
    )
    yield cv2.warpAffine(rgb, move, _SIZE[::-1], flags=cv2.INTER_AREA)
