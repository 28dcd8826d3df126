"""The node `Vitexco_Colorize`, in ComfyUI's V3 interface.

An IMAGE of ComfyUI is a tensor [t, h, w, 3] of float32 in [0, 1], and a MASK
[t, h, w]. Both outputs hold the whole clip, as ComfyUI requires; everything else is
processed in blocks of a few frames.
"""

import functools
import os
from collections.abc import Sequence

# JAX would take three quarters of the memory of a GPU, which ComfyUI needs too.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import comfy.utils
import cv2
import jax
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io

from vitexco_jax import FrameServer, UserError, VideoColorizer

_TOP = 65535  # Of uint16, in which frames are colorized.


class VitexcoColorize(io.ComfyNode):
  """Colorizes video frames with color images."""

  @classmethod
  def define_schema(cls) -> io.Schema:
    """Returns the inputs and outputs of the node."""
    return io.Schema(
      node_id='Vitexco_Colorize',
      display_name='Colorize Video (Vitexco)',
      category='image/video',
      description='Colorizes video frames with color images.',
      inputs=[
        io.Image.Input(
          'video_frames', tooltip='Frames in order. Only lightness is used.'
        ),
        io.Image.Input(
          'reference_images',
          optional=True,
          tooltip='Color images with similar content. Without any, the network '
          'chooses the colors.',
        ),
        io.String.Input(
          'reference_frames',
          default='',
          tooltip='For each reference image the number of the frame that it '
          'shows, counted from 0, or "any": "0, 120, any". Empty: any.',
        ),
        io.Boolean.Input(
          'detect_cuts',
          default=True,
          tooltip='Whether to colorize each shot independently.',
        ),
        io.String.Input(
          'weights',
          default='',
          tooltip='Folder of weights. Empty: those of the program.',
        ),
      ],
      outputs=[
        io.Image.Output('images', display_name='images'),
        io.Mask.Output(
          'confidence',
          display_name='confidence',
          tooltip='How well each pixel matches a reference; 1 is best.',
        ),
      ],
    )

  @classmethod
  def validate_inputs(cls, reference_frames: str | None = None) -> bool | str:
    """Checks the numbers before the graph runs; returns True or what is wrong.

    Args:
      reference_frames: the text; None: it comes from another node.
    """
    try:
      parse_frames(reference_frames or '')
    except UserError as error:
      return str(error)
    return True

  @classmethod
  def execute(
    cls,
    video_frames: torch.Tensor,
    reference_images: torch.Tensor | None = None,
    reference_frames: str = '',
    detect_cuts: bool = True,
    weights: str = '',
  ) -> io.NodeOutput:
    """Colorizes the frames.

    Args:
      video_frames: [t, h, w, 3 or 4] in [0, 1].
      reference_images: [r, h, w, 3 or 4] in [0, 1].
      reference_frames: see `parse_frames`.
      detect_cuts: whether to colorize each shot independently.
      weights: see `VideoColorizer.from_checkpoint`; empty: those of the program.

    Returns:
      The frames in color, [t, h, w, 3], and the confidence, [t, h, w], in [0, 1].

    Raises:
      UserError: an input cannot be used; the text says what to do.
    """
    frames = _Frames(video_frames)
    stills, others = _references(
      reference_images, parse_frames(reference_frames), len(frames)
    )
    server = FrameServer(
      _load(weights).on(jax.local_devices()[0]),
      frames,
      stills,
      others,
      None if detect_cuts else lambda wanted: [False] * len(wanted),
    )
    height, width = frames[0].shape[:2]
    images = np.empty((len(frames), height, width, 3), np.float32)
    confidence = np.empty((len(frames), height, width), np.float32)
    # It also stops the node if the user cancels.
    bar = comfy.utils.ProgressBar(len(frames))
    for number in range(len(frames)):
      colors = server.colors(number)
      images[number] = np.float32(colors.join(frames[number])) / _TOP
      confidence[number] = cv2.resize(
        np.clip(colors.confidence[..., 0], 0, 1), (width, height)
      )
      bar.update(1)
    return io.NodeOutput(torch.from_numpy(images), torch.from_numpy(confidence))


class VitexcoExtension(ComfyExtension):
  """The nodes of this package."""

  async def get_node_list(self) -> list[type[io.ComfyNode]]:
    """Returns the nodes."""
    return [VitexcoColorize]


async def comfy_entrypoint() -> VitexcoExtension:
  """Returns the extension; ComfyUI calls it when it starts."""
  return VitexcoExtension()


def parse_frames(text: str) -> list[int | None]:
  """Parses numbers of frames: '0, 120, any' gives [0, 120, None].

  Raises:
    UserError: a part is neither a number nor `any`, or a number occurs twice.
  """
  numbers: list[int | None] = []
  for part in filter(None, text.replace(',', ' ').split()):
    if part.lower() == 'any':
      numbers.append(None)
    elif not part.isdecimal():
      raise UserError(
        f'`reference_frames` has {part!r}: write numbers of frames or "any", '
        'such as "0, 120, any"'
      )
    elif int(part) in numbers:
      raise UserError(f'`reference_frames` has frame {part} twice: remove one')
    else:
      numbers.append(int(part))
  return numbers


class _Frames:
  """Frames of an IMAGE as [h, w, 3] uint16, converted when they are read."""

  def __init__(self, images: Sequence[torch.Tensor]):
    self._images = images

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, number: int, /) -> np.ndarray:
    image = np.asarray(self._images[number][..., :3].cpu().numpy())
    return np.round(np.clip(image, 0, 1) * _TOP).astype(np.uint16)


def _references(
  images: torch.Tensor | None, numbers: list[int | None], num_frames: int
) -> tuple[dict[int, np.ndarray], list[np.ndarray]]:
  """Returns the stills by frame, and the other references."""
  frames = _Frames([] if images is None else images)
  pictures = [frames[number] for number in range(len(frames))]
  numbers = numbers or [None] * len(pictures)
  if len(numbers) != len(pictures):
    raise UserError(
      f'`reference_frames` has {len(numbers)} entries for {len(pictures)} '
      'reference images: write one for each image, or none'
    )
  stills = {}
  for number, picture in zip(numbers, pictures, strict=True):
    if number is not None:
      if number >= num_frames:
        raise UserError(
          f'`reference_frames` has frame {number}, but there are {num_frames} '
          'frames, counted from 0'
        )
      stills[number] = picture
  others = [
    picture
    for number, picture in zip(numbers, pictures, strict=True)
    if number is None
  ]
  return stills, others


@functools.lru_cache(1)
def _load(weights: str) -> VideoColorizer:
  return VideoColorizer.from_checkpoint(weights or None)
