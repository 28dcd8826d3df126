"""Colouring a video of any length with one reference or several.

`VideoColorizer` is the Python door, `colorize` the command; `colorize_clips` has
several colorizers, each on its device, share the work. Frames stream
through in blocks: the networks see them at the working size, the predicted ab
comes back to the frame's own size, and the frame's own L is kept. Between blocks
only the last frame is carried, so memory does not grow with length, and a clip
cut in two gives the same frames as the whole.

  colorizer = VideoColorizer.from_checkpoint('weights/small')
  colorizer.set_reference(reference)
  for rgb in colorizer.colorize(frames):
    ...
"""

import collections
import concurrent.futures
import functools
import itertools
import math
import queue
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import checkpoint, color, flow, sizes, video
from vitexco_jax.errors import UserError
from vitexco_jax.models.vitexco import (
  Generator,
  colorize_clip,
  competing,
)

FIRST_FRAME = 'first-frame'

_BLOCK = 8  # Frames at a time ...
_BLOCK_PIXELS = 2**22  # ... unless they are large.
_GREY_BELOW = 1.0  # Mean chroma, in Lab, of a picture without colour.


class VideoColorizer:
  """Colours frames after a reference; holds the frame before."""

  def __init__(
    self,
    params: Mapping[str, Any],
    config: ml_collections.ConfigDict,
    device: jax.Device | None = None,
  ):
    """Takes the generator's parameters and the config that they belong to.

    Args:
      params: the parameters.
      config: their config.
      device: where to compute; None leaves it to JAX.
    """
    if min(config.use.size) < 2 * sizes.TOKEN:
      raise UserError(
        f'config.use.size={tuple(config.use.size)} must be at least '
        f'{2 * sizes.TOKEN} on both sides'
      )
    self.config = config
    generator = make_generator(config)
    # Compiled anew for each working size, the first argument left.
    self._encode_reference, self._colorize_frames = (
      jax.jit(functools.partial(function, generator), static_argnums=0)
      for function in (_encode_reference, _colorize_frames)
    )
    self._blends = config.model.colorizer.residual == 'blend'
    self._variables = jax.device_put({'params': params}, device)
    self._reference = None

  @classmethod
  def from_checkpoint(
    cls,
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    device: jax.Device | None = None,
  ) -> 'VideoColorizer':
    """Loads an export, or the newest checkpoint of a work directory.

    Args:
      path: the folder.
      overrides: values to change in its config, such as `{'use.size': (112,
        192)}`.
      device: where to compute; None leaves it to JAX.

    Raises:
      UserError: missing, partial, of another architecture, or without a setting
        that `overrides` names.
    """
    params = checkpoint.load_params(path)
    config = checkpoint.load_config(path)
    if overrides:
      for name, value in overrides.items():
        try:
          config.update_from_flattened_dict({name: value})
        except KeyError as error:  # Of an earlier version, perhaps.
          raise UserError(
            f'the weights at {path} have no such setting: leave out '
            f'--config.{name}'
          ) from error
      expected = checkpoint.abstract_params(config)
      checkpoint.check_params(params, expected, f'{path}, as it is set here,')
    return cls(params, config, device)

  def set_reference(self, *rgb: np.ndarray, first_frame: bool = False) -> None:
    """Takes references and starts afresh.

    Args:
      rgb: one or more [h, w, 3] uint8, of any sizes. Of several each position
        of a frame takes its colour from the one that matches it best.
      first_frame: whether the first of them is the very frame that comes first;
        its colours are then carried on from frame to frame as well.
    """
    if not rgb:
      raise ValueError('set_reference takes one reference at least')
    for picture in rgb:
      _check(picture)
    self._first_frame = first_frame
    self._frame_size = None
    self._reference = competing(
      [
        self._encode_reference(
          self._working_size(picture), self._variables, picture
        )
        for picture in rgb
      ]
    )

  def colorize(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Colours frames, lazily; the next call goes on where this one stopped.

    Args:
      frames: [h, w, 3] uint8 each, all of one size; only their L is looked at.

    Yields:
      For each, [h, w, 3] uint8: its L with predicted colours.

    Raises:
      ValueError: no reference is set, or a frame is of another size.
    """
    if self._reference is None:
      raise ValueError('set_reference comes before colorize')
    # While the device colours a block, the one before it goes out.
    ready = ()
    for block in self._blocks(frames):
      coloured = self._colorize_block(block)
      yield from np.asarray(ready)
      ready = coloured
    yield from np.asarray(ready)

  def _blocks(self, frames):
    """Full blocks; what is left at the end one by one, as two programs serve."""
    frames = iter(frames)
    for first in frames:
      size = max(1, min(_BLOCK, _BLOCK_PIXELS // math.prod(first.shape[:2])))
      block = [first, *itertools.islice(frames, size - 1)]
      if len(block) == size:
        yield block
      else:
        yield from ([frame] for frame in block)

  def _colorize_block(self, block):
    for rgb in block:
      _check(rgb)
      if self._frame_size is None:
        self._start(rgb)
      if rgb.shape[:2] != self._frame_size:
        raise ValueError(
          f'a frame of {rgb.shape[:2]} after frames of {self._frame_size}'
        )
    rgb = np.stack(block)
    luminance = _shrink(self._working_size(block[0]), rgb)
    coloured, self._previous_lab = self._colorize_frames(
      self._working_size(block[0]),
      self._variables,
      self._reference,
      self._previous_lab,
      rgb,
      luminance,
      self._backward_flow(luminance) if self._blends else None,
    )
    return coloured

  def _backward_flow(self, luminance):
    """From each frame of [t, h, w, 1] to the one before: [1, t, h, w, 2]."""
    greys = np.uint8(np.round((np.asarray(luminance) + 50.0) * 2.55))
    if self._previous_grey is None:  # There is none: any flow will do.
      self._previous_grey = greys[0]
    before = [self._previous_grey, *greys[:-1]]
    self._previous_grey = greys[-1]
    steps = map(flow.backward_flow, greys, before)
    return np.stack(list(steps))[None]

  def _start(self, rgb):
    """Learns the frames' size, and so that of the frame before the first."""
    self._frame_size = rgb.shape[:2]
    padded = sizes.padded(self._working_size(rgb))
    lab = self._reference.lab
    if not self._first_frame:
      lab = jnp.zeros((1, *padded, 3))
    elif lab.shape[1:3] != padded:
      raise ValueError(
        f'the first frame is {self._frame_size}, not the size of the reference'
      )
    self._previous_lab = lab
    self._previous_grey = None

  def _working_size(self, rgb):
    return sizes.within(rgb.shape[:2], self.config.use.size)


class Clip(NamedTuple):
  """Frames, and what they take their colours from."""

  frames: Iterable[np.ndarray]  # [h, w, 3] uint8 each, all of one size.
  references: Sequence[np.ndarray]  # [H, W, 3] uint8 each, of any sizes.


def colorize_clips(
  colorizers: Sequence[VideoColorizer], clips: Iterable[Clip]
) -> Iterator[np.ndarray]:
  """Colours clips side by side, a colorizer one clip at a time.

  Args:
    colorizers: of the same weights, each on a device of its own.
    clips: of any lengths and sizes; asked for as they are needed.

  Yields:
    For each in its turn, [t, h, w, 3] uint8, as `VideoColorizer.colorize`
    gives after `set_reference`.
  """
  free = queue.SimpleQueue()
  for colorizer in colorizers:
    free.put(colorizer)

  def colour(clip):
    colorizer = free.get()
    try:
      colorizer.set_reference(*clip.references)
      return np.stack(list(colorizer.colorize(clip.frames)))
    finally:
      free.put(colorizer)

  with concurrent.futures.ThreadPoolExecutor(len(colorizers)) as pool:
    begun = collections.deque()
    for clip in clips:
      begun.append(pool.submit(colour, clip))
      if len(begun) > len(colorizers):
        yield begun.popleft().result()
    while begun:
      yield begun.popleft().result()


def make_generator(config: ml_collections.ConfigDict) -> Generator:
  """The generator as it is used: matching at `config.use.temperature`.

  Raises:
    UserError: the temperature is below 0.
  """
  if not config.use.temperature >= 0:
    raise UserError(
      f'config.use.temperature={config.use.temperature} must be at least 0'
    )
  model = checkpoint.make_generator(config)
  settings = dict(model.correspondence)
  settings['temperature'] = config.use.temperature
  return model.clone(correspondence=settings)


def colorize(
  colorizer: VideoColorizer,
  video_path: Path,
  references: Sequence[str],
  output: Path,
  overwrite: bool = False,
) -> None:
  """Colours a video file, a folder of frames, or an image.

  Args:
    colorizer: the networks.
    video_path: what to colour.
    references: colour pictures, or `first-frame` for the video's own.
    output: a video file, a folder or an image.
    overwrite: whether an existing output is replaced.

  Raises:
    UserError: an input cannot be used or the output cannot be written.
  """
  first_frame = FIRST_FRAME in references
  pictures = [_read_reference(name, video_path) for name in references]
  if first_frame:  # It leads, so that its colours are carried on.
    first = references.index(FIRST_FRAME)
    pictures.insert(0, pictures.pop(first))
  with video.VideoReader(video_path) as reader:
    waiting = collections.deque()  # Frames that are being coloured.

    def grey():
      for frame in video.prefetch(reader, 2 * _BLOCK):
        waiting.append(frame)
        yield frame.rgb

    with (
      video.VideoWriter(output, reader.format, overwrite) as writer,
      tqdm.tqdm(total=reader.num_frames, unit='frame') as bar,
    ):
      colorizer.set_reference(*pictures, first_frame=first_frame)
      for rgb in colorizer.colorize(grey()):
        writer.write(waiting.popleft()._replace(rgb=rgb))
        bar.update()
  if reader.lost:
    print(
      f'warning: {video_path} is broken: {reader.lost} frames could not be '
      'read, the others are coloured',
      file=sys.stderr,
    )


def _read_reference(name: str, video_path: Path) -> np.ndarray:
  if name == FIRST_FRAME:
    with video.VideoReader(video_path) as reader:
      rgb = next(reader).rgb
  else:
    rgb = video.read_image(name)
  if is_grey(rgb):
    print(
      f'warning: the reference {name} has no colour to give', file=sys.stderr
    )
  return rgb


def is_grey(rgb: np.ndarray) -> bool:
  """Whether a picture, [h, w, 3] uint8, has no colour to speak of."""
  lab = color.uint8_to_lab(rgb)
  return float(jnp.linalg.norm(lab[..., 1:], axis=-1).mean()) < _GREY_BELOW


def _check(rgb):
  if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[-1] != 3:
    raise ValueError(f'expected [h, w, 3] uint8, got {rgb.shape} {rgb.dtype}')


def _encode_reference(generator: Generator, size, variables, rgb):
  rgb = sizes.pad(sizes.resize(rgb.astype(jnp.float32) / 255.0, size))
  return generator.apply(
    variables, jnp.clip(rgb, 0.0, 1.0)[None], method='encode_reference'
  )


@functools.partial(jax.jit, static_argnums=0)
def _shrink(size, rgb):
  """L - 50 of [t, H, W, 3] uint8 at the working size, padded: [t, h, w, 1]."""

  def shrink(rgb):
    luminance = color.uint8_to_lab(rgb)[..., :1] - 50.0
    return sizes.pad(sizes.resize(luminance, size))

  # One frame after the other: at full size, a block at once would be large.
  return jax.lax.map(shrink, rgb)


def _colorize_frames(
  generator: Generator,
  size,
  variables,
  reference,
  previous_lab,
  rgb,
  luminance,
  backward_flow,
):
  """Colours [t, H, W, 3] uint8, of which the networks see `luminance`."""
  luminance = luminance[None]
  guidance = generator.apply(variables, luminance, reference, method='guide')
  ab, last_lab = colorize_clip(
    functools.partial(generator.apply, variables, method='colorize_frame'),
    luminance,
    guidance,
    previous_lab,
    backward_flow=backward_flow,
  )
  ab = ab[0, :, : size[0], : size[1]]
  return jax.lax.map(lambda frame: sizes.join(*frame), (rgb, ab)), last_lab
