"""Videos that are written without the code under test, and short helpers."""

import threading
from fractions import Fraction

import av
import numpy as np

from vitexco_jax.media.video import Format, Frame, VideoReader, VideoWriter

HEIGHT, WIDTH = 48, 64

# Red and blue shares of luma, by FFmpeg's number of the matrix.
BT709, BT601, BT2020 = 1, 5, 9
SHARES = {
  BT709: (0.2126, 0.0722),
  BT601: (0.299, 0.114),
  BT2020: (0.2627, 0.0593),
}


def ycbcr(rgb, matrix, full, bits=8):
  """The recommendations' formulas; float [h, w] of Y, Cb and Cr."""
  red, blue = SHARES[matrix]
  r, g, b = np.moveaxis(rgb / 255, -1, 0)
  y = red * r + (1 - red - blue) * g + blue * b
  cb, cr = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
  unit = 2 ** (bits - 8)
  if full:
    top = 2**bits - 1
    return y * top, cb * top + 128 * unit, cr * top + 128 * unit
  return (
    (16 + 219 * y) * unit,
    (128 + 224 * cb) * unit,
    (128 + 224 * cr) * unit,
  )


def blocks(height=HEIGHT, width=WIDTH, seed=0):
  """Colored squares of 8x8 pixels."""
  rng = np.random.default_rng(seed)
  squares = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
  return squares.repeat(8, 0).repeat(8, 1)


def moving(count, height=HEIGHT, width=WIDTH):
  """Smooth colors that change from frame to frame."""
  y, x = np.mgrid[:height, :width]
  for i in range(count):
    yield np.stack(
      [
        255 * x / width,
        255 * y / height,
        128 + 90 * np.sin((x + y) / 30 + i / 4),
      ],
      -1,
    ).astype(np.uint8)


def save(
  path,
  frames,
  codec='libx264',
  pts=None,
  time_base=Fraction(1, 25),
  pixels='yuv420p',
  **options,
):
  """Writes a video without the code under test."""
  frames = list(frames)
  height, width = frames[0].shape[:2]
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(
      codec,
      rate=25,
      width=width,
      height=height,
      pix_fmt=pixels,
      time_base=time_base,
      options=options or {'preset': 'ultrafast', 'g': '10'},
    )
    for index, rgb in enumerate(frames):
      picture = av.VideoFrame.from_ndarray(rgb, 'rgb24').reformat(format=pixels)
      picture.pts = index if pts is None else pts[index]
      picture.time_base = time_base
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return path


def save_planes(path, planes, pixels, matrix=None, full=False):
  """Writes one lossless frame of the given planes."""
  height, width = planes[0].shape
  picture = av.VideoFrame(width, height, pixels)
  for plane, values in zip(picture.planes, planes, strict=True):
    wide = '<u2' if pixels.endswith('le') else np.uint8
    rows = np.ascontiguousarray(values.round().astype(wide)).view(np.uint8)
    padded = np.zeros((plane.height, plane.line_size), np.uint8)
    padded[:, : rows.shape[1]] = rows
    plane.update(padded.tobytes())
  picture.pts, picture.time_base = 0, Fraction(1, 25)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(
      'ffv1', rate=25, width=width, height=height, pix_fmt=pixels
    )
    if matrix is not None:
      picture.colorspace = stream.colorspace = matrix
      picture.color_range = stream.color_range = 2 if full else 1
    container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return path


def read(path):
  with VideoReader(path) as reader:
    return list(reader), reader


def write(path, frames, form=None, **kwargs):
  frames = [f if isinstance(f, Frame) else Frame(f) for f in frames]
  form = form or Format(*frames[0].rgb.shape[:2])
  with VideoWriter(path, form, **kwargs) as writer:
    for frame in frames:
      writer.write(frame)
  return path


def threads():
  return [
    thread.name
    for thread in threading.enumerate()
    if thread.name.startswith(('prefetch', 'encode'))
  ]
