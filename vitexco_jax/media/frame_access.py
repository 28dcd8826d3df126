"""Access to a few frames in the middle of a long video.

A reader decodes from the start. This module seeks, and trusts the result only where
the time stamps are those of a full pass; otherwise it reads from the start as well.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.media import containers, interlacing, rgb_conversion
from vitexco_jax.media.reader import VideoReader

_BEFORE = Fraction(1)  # Seconds that are decoded before the first frame.


def read_frames(
  path: Path, number: int, times: Sequence[float], deinterlace: bool = False
) -> list[np.ndarray]:
  """Reads consecutive frames of a video.

  Args:
    path: the video.
    number: of the first frame, from 0.
    times: of the frames, in seconds from the first frame of the video.
    deinterlace: whether to deinterlace the frames, as `VideoReader` does.

  Returns:
    A list of [h, w, 3] uint8; shorter than `times` at the end of the video.

  Raises:
    UserError: the video cannot be read, or has no such frame.
  """
  try:
    frames = _seek(path, times, deinterlace)
  except av.FFmpegError:
    frames = []
  if frames:
    return frames
  with VideoReader(path, deinterlace=deinterlace) as reader:
    reader.skip(number)
    frames = [frame.rgb for frame, _ in zip(reader, times, strict=False)]
  if not frames:
    raise UserError(f'{path} has no frame {number}')
  return frames


def _seek(
  path: Path, times: Sequence[float], deinterlace: bool
) -> list[np.ndarray]:
  """Reads frames by their times; [] unless each of them is found."""
  with containers.open_input(path) as container:
    stream = containers.main_stream(container)
    flags = av.format.Flags(container.format.flags)
    if stream is None or av.format.Flags.ts_discont in flags:
      return []  # The clock may jump.
    stream.thread_type = 'AUTO'
    stream.codec_context.thread_count = containers.bounds().threads
    stream.codec_context.options = containers.decoding_options()
    first = next(container.decode(stream), None)
    tick = stream.time_base
    if first is None or first.pts is None or not tick:
      return []
    to_rgb = rgb_conversion.ToRgb(first, path, False)
    stamps = [first.pts + round(time / tick) for time in times]
    container.seek(stamps[0] - round(_BEFORE / tick), stream=stream)
    pictures = container.decode(stream)
    if deinterlace:
      marked = bool(interlacing.field_order(first))
      pictures = interlacing.deinterlaced(pictures, only_marked=marked)
    frames: list[np.ndarray] = []
    for picture in pictures:
      if picture.pts is None or picture.is_corrupt:
        return []
      if picture.pts == stamps[len(frames)]:
        frames.append(to_rgb.convert(picture))
        if len(frames) == len(stamps):
          return frames
      elif picture.pts > stamps[len(frames)]:
        return []
  return []
