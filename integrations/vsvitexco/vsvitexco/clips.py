"""Clips and folders as the engine takes them: arrays, read when they are needed."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import vapoursynth as vs

from vitexco_jax import UserError, read_image
from vitexco_jax.inference.choice import named_frame
from vitexco_jax.media import video

_HIGH = 720  # Height from which a clip without a matrix is BT.709.


class ClipFrames:
  """The frames of an RGB24 or RGB48 clip: [h, w, 3] uint8 or uint16 each."""

  def __init__(self, clip: vs.VideoNode):
    self._clip = clip

  def __len__(self) -> int:
    return self._clip.num_frames

  def __getitem__(self, number: int, /) -> np.ndarray:
    with self._clip.get_frame(number) as frame:
      return to_array(frame)


class FolderStills(Mapping[int, np.ndarray]):
  """The pictures of a folder that are named after frames: ref_000123.png.

  `others` has the paths of the other pictures.
  """

  def __init__(self, folder: Path, num_frames: int, offset: int = 0):
    """Lists the folder; reads no picture yet.

    Args:
      folder: the folder.
      num_frames: of the clip.
      offset: number of the clip's first frame in the names.

    Raises:
      UserError: the folder does not exist, has no pictures, or has two pictures of
        one frame or a picture of a frame that the clip does not have.
    """
    if not folder.is_dir():
      raise UserError(f'`ref_framedir={folder}` is not a folder: give one')
    self._paths: dict[int, Path] = {}
    self.others: list[Path] = []
    for path in video.image_files(folder):
      number = named_frame(path.stem)
      if number is None:
        self.others.append(path)
        continue
      number -= offset
      if not 0 <= number < num_frames:
        raise UserError(
          f'{path} is named after a frame outside {offset} to '
          f'{offset + num_frames - 1}: rename or remove it'
        )
      if number in self._paths:
        raise UserError(
          f'{path} and {self._paths[number]} are named after the same frame: '
          'remove one'
        )
      self._paths[number] = path
    if not self._paths and not self.others:
      raise UserError(f'`ref_framedir={folder}` has no pictures')

  def __getitem__(self, number: int) -> np.ndarray:
    return read_image(self._paths[number])

  def __contains__(self, number: object) -> bool:
    return number in self._paths

  def __iter__(self) -> Iterator[int]:
    return iter(self._paths)

  def __len__(self) -> int:
    return len(self._paths)


def to_rgb(clip: vs.VideoNode, name: str) -> vs.VideoNode:
  """Converts a clip to RGB24, or to RGB48 if it has more than 8 bits.

  Args:
    clip: RGB or YUV.
    name: of the argument, for messages.

  Raises:
    UserError: the clip is gray, or its format or size changes.
  """
  form = clip.format
  if form is None or form.id == vs.NONE or not clip.width:
    raise UserError(
      f'`{name}` must have one format and one size: convert it with resize'
    )
  if form.color_family not in (vs.RGB, vs.YUV):
    raise UserError(
      f'`{name}` is {form.name}, which cannot hold colors: convert it with '
      'resize, for example to vs.RGB24'
    )
  rgb = vs.RGB24 if form.bits_per_sample == 8 else vs.RGB48
  if form.color_family == vs.RGB:
    return clip.resize.Bicubic(format=rgb)
  return clip.resize.Bicubic(format=rgb, matrix_in=matrix(clip))


def from_rgb(rgb: vs.VideoNode, like: vs.VideoNode) -> vs.VideoNode:
  """Converts an RGB clip to the format of another clip."""
  form = like.format
  if form.color_family == vs.RGB:
    return rgb.resize.Bicubic(format=form.id)
  with like.get_frame(0) as frame:
    full = frame.props.get('_Range', vs.RANGE_LIMITED) == vs.RANGE_FULL
  return rgb.resize.Bicubic(
    format=form.id, matrix=matrix(like), range=int(full)
  )


def matrix(clip: vs.VideoNode) -> int:
  """Returns the matrix of a YUV clip; without one, that of its size."""
  with clip.get_frame(0) as frame:
    number = int(frame.props.get('_Matrix', vs.MATRIX_UNSPECIFIED))
  if number != vs.MATRIX_UNSPECIFIED:
    return number
  return int(vs.MATRIX_BT709 if clip.height >= _HIGH else vs.MATRIX_ST170_M)


def to_array(frame: vs.VideoFrame) -> np.ndarray:
  """Copies an RGB frame: [h, w, 3]."""
  return np.stack([np.asarray(frame[plane]) for plane in range(3)], -1)


def fill(frame: vs.VideoFrame, rgb: np.ndarray) -> None:
  """Writes [h, w, 3] into an RGB frame."""
  for plane in range(3):
    np.asarray(frame[plane])[:] = rgb[..., plane]


def marks_cuts(clip: vs.VideoNode) -> bool:
  """Returns whether an earlier filter has marked the cuts of a clip."""
  with clip.get_frame(0) as frame:
    return '_SceneChangePrev' in frame.props


def read_cuts(clip: vs.VideoNode, wanted: range) -> list[bool]:
  """Returns which frames start a shot, as `_SceneChange...` mark it.

  Args:
    clip: a clip with these properties.
    wanted: the frames in question.
  """
  result, ends = [], False
  for number in range(max(0, wanted.start - 1), wanted.stop):
    with clip.get_frame(number) as frame:
      starts = bool(frame.props.get('_SceneChangePrev', 0))
      result.append(starts or ends)
      ends = bool(frame.props.get('_SceneChangeNext', 0))
  return result[-len(wanted) :]
