"""Image files as frames of a video: a folder, one image, or an animation."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import animations, images, scans
from vitexco_jax.media.frames import DEFAULT_FRAME_RATE, Format, Frame


class ImageSource:
  """The frames of a folder or an image file; see `reader.Source`."""

  def __init__(self, kind: str, path: Path, files: Sequence[Path], deep: bool):
    """Checks all files.

    Args:
      kind: 'folder' or 'image'.
      path: the folder or image, for errors.
      files: the frames, in order.
      deep: whether to return uint16.

    Raises:
      UserError: there are no frames, or they cannot be read or differ in size.
    """
    self.kind = kind
    self.num_frames: int | None = len(files)
    self.lost = self.interlaced = 0
    self.damaged: list[int] = []
    self.other_tracks: list[str] = []
    self._files, self._deep = files, deep
    if not files:
      raise UserError(
        f'{path} holds no frames: put images there '
        f'({" ".join(images.WRITTEN_SUFFIXES)})'
      )
    stems: dict[str, Path] = {}
    for file in files:
      other = stems.setdefault(file.stem, file)
      if other is not file:
        raise UserError(
          f'{path} holds both {other.name} and {file.name}: '
          'each frame may exist only once'
        )
    height, width, _ = images.read_image(files[0]).shape
    # Check the sizes now, not hours later. Headers do not include the rotation.
    for file in files[1:]:
      size = images.header_size(file)
      if size and sorted(size) != sorted((height, width)):
        raise _mixed_sizes(file, size, files[0], (height, width))
    with open(files[0], 'rb') as first:
      code = scans.time_code(first.read(2**16))
    self.format = Format(
      height, width, time_base=1 / DEFAULT_FRAME_RATE, time_code=code
    )

  def close(self) -> None:
    """Does nothing: no file is open."""

  def frames(self) -> Iterator[Callable[[], Frame]]:
    """Yields a function per frame that reads it."""
    for index, path in enumerate(self._files):
      yield functools.partial(self._read, path, index)

  def _read(self, path: Path, index: int) -> Frame:
    size = self.format.height, self.format.width
    rgb = images.read_image(path, self._deep)
    if rgb.shape[:2] != size:
      raise _mixed_sizes(path, rgb.shape[:2], self._files[0], size)
    return Frame(rgb, index, path.name)


def _mixed_sizes(
  path: Path,
  size: tuple[int, int],
  first_path: Path,
  first_size: tuple[int, int],
) -> UserError:
  return UserError(
    f'{path} is {size[1]}x{size[0]} pixels but {first_path.name} is '
    f'{first_size[1]}x{first_size[0]}: all frames of a folder must have the same '
    'size'
  )


class AnimationSource:
  """The frames of an image file with several frames; see `reader.Source`."""

  kind = 'animation'

  def __init__(self, path: Path, data: bytes, image: Image.Image, deep: bool):
    """Scans the frames.

    Args:
      path: the file.
      data: its content.
      image: the file, opened by Pillow.
      deep: whether to return uint16.

    Raises:
      UserError: no frame can be decoded, or the size is not supported.
    """
    images.check_size(path, image.height, image.width)
    self._path, self._deep = path, deep
    self._animation = animation = animations.Animation(data, image, path)
    self.num_frames: int | None = animation.count
    self.lost = self.interlaced = 0
    self.damaged: list[int] = []
    self.other_tracks: list[str] = []
    rate = DEFAULT_FRAME_RATE
    tick = 1 / rate
    stamps: Sequence[int] = range(animation.count + 1)
    if animation.stamps is not None:
      tick, stamps = Fraction(1, 1000), animation.stamps
      rate = (len(stamps) - 1) / (stamps[-1] * tick)
    if len(stamps) <= animation.count:
      self.lost = animation.count + 1 - len(stamps)
      self.damaged.append(len(stamps) - 1)
    height, width, _ = animation.read(0).shape
    self.format = Format(height, width, rate, tick)
    self._stamps = stamps

  def close(self) -> None:
    """Does nothing: no file is open."""

  def frames(self) -> Iterator[Callable[[], Frame]]:
    """Yields a function per frame that decodes it."""
    for index, (start, end) in enumerate(itertools.pairwise(self._stamps)):
      yield functools.partial(self._read, index, start, end)

  def _read(self, index: int, start: int, end: int) -> Frame:
    size = self.format.height, self.format.width
    rgb: np.ndarray = self._animation.read(index, self._deep)
    if rgb.shape[:2] != size:
      raise UserError(
        f'{self._path}: frame {index} is {rgb.shape[1]}x{rgb.shape[0]} pixels, '
        f'the first {size[1]}x{size[0]}: all frames must have the same size'
      )
    return Frame(rgb, start, duration=end - start)
