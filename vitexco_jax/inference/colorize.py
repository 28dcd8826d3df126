"""Colouring a video of any length with one reference or several.

`VideoColorizer` is the Python door, `colorize` the command; `colorize_clips` has
several colorizers, each on its device, share the work. Frames stream
through in blocks: the networks see them at the working size, the predicted ab
comes back to the frame's own size, and the frame's own L is kept. Between blocks
only the last frame is carried, so memory does not grow with length, and a clip
cut in two gives the same frames as the whole.

  colorizer = VideoColorizer.from_checkpoint('weights/small')
  colorizer.set_reference(reference)  # Or () for colors without a reference.
  for rgb in colorizer.colorize(frames):
    ...
"""

import collections
import concurrent.futures
import copy
import functools
import hashlib
import itertools
import math
import os
import queue
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import checkpoint, color, files, flow, sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference import film, plan, preflight, worker
from vitexco_jax.media import strips, video
from vitexco_jax.models import layers
from vitexco_jax.models.anchor import Anchor
from vitexco_jax.models.correspondence import STRIDE
from vitexco_jax.models.references import combine, compress
from vitexco_jax.models.vitexco import Generator, colorize_clip

_BLOCK = 8  # Frames at a time ...
_BLOCK_PIXELS = 2**22  # ... unless they are large.
# That a pixel of the working size and frame takes: twice XLA's own figure of the
# paper's networks, 800.
_PIXEL_BYTES = 1600
_PREVIEW_SECONDS = 5.0
_PREVIEW_COLUMNS = 4
_BY_PRIOR = object()  # In the place of an encoded reference.


def working_size(text: str | None, usual: tuple[int, int]) -> tuple[int, int]:
  """The working size that is asked for, or that the memory allows.

  That is the usual one, which the weights were trained for, or as much of it as
  lets a block of frames take half of the memory: of the GPU, if there is one. The
  memory that happens to be free does not matter, so a run that is resumed, or
  repeated, has the same size.

  Args:
    text: HEIGHTxWIDTH; None: not asked for.
    usual: (height, width).

  Raises:
    UserError: the text is no size.
  """
  if text is not None:
    found = re.fullmatch(r'(\d{1,5})x(\d{1,5})', text)
    if not found:
      raise UserError(
        f'--working-size={text} is no size: write HEIGHTxWIDTH, as in 224x384'
      )
    return int(found[1]), int(found[2])
  scale = math.sqrt(_memory() / 2 / (_BLOCK * math.prod(usual) * _PIXEL_BYTES))
  if scale >= 1:
    return usual
  return tuple(
    max(2, int(side * scale / sizes.TOKEN + 1e-6)) * sizes.TOKEN
    for side in usual
  )


def _memory() -> int:
  """Bytes that the device has for this process."""
  stats = jax.local_devices()[0].memory_stats()
  if stats is None:  # A CPU.
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  return stats['bytes_limit']


class Prediction(NamedTuple):
  """A block of frames with their colours, at the working size."""

  rgb: np.ndarray  # [t, H, W, 3] uint8 or uint16, as they came.
  ab: jax.Array  # [t, h, w, 2]
  confidence: jax.Array  # [t, h, w, 1], in [-1, 1].


class VideoColorizer:
  """Colours frames after a reference; holds the frame before."""

  def __init__(
    self, params: Mapping[str, Any], config: ml_collections.ConfigDict
  ):
    """Takes the generator's parameters and the config that they belong to."""
    if min(config.use.size) < 2 * sizes.TOKEN:
      raise UserError(
        f'config.use.size={tuple(config.use.size)} must be at least '
        f'{2 * sizes.TOKEN} on both sides'
      )
    self._anchor_weight = config.use.get('anchor', 0.0)
    if not 0 <= self._anchor_weight <= 1:
      raise UserError(
        f'config.use.anchor={self._anchor_weight} must be within 0 and 1'
      )
    self._refine = _whole(config, 'refine', 1, 4)
    self._enlarge = _whole(config, 'enlarge', 1, 4)
    self._components = _whole(config, 'components', 0, 4096)
    self.config = config
    generator = make_generator(config)
    self._encode_reference = jax.jit(
      functools.partial(generator.apply, method='encode_reference')
    )
    # Compiled anew for each first argument, size or refinement.
    self._guide_frames = jax.jit(
      functools.partial(_guide_frames, generator), static_argnums=0
    )
    self._colorize_frames = jax.jit(
      functools.partial(_colorize_frames, generator), static_argnums=0
    )
    self._guide_by_prior = jax.jit(
      functools.partial(_guide_by_prior, generator), static_argnums=0
    )
    self._blends, self.has_prior = generator.blends, generator.has_prior
    self._variables = jax.device_put({'params': params})
    self._reference = None
    self._encoded = {}  # Pictures of the references, by digest.

  @classmethod
  def from_checkpoint(
    cls,
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
  ) -> 'VideoColorizer':
    """Loads an export, or the newest checkpoint of a work directory.

    Args:
      path: the folder; None: the weights that come with the program.
      overrides: values to change in its config, such as `{'use.size': (112,
        192)}`.

    Raises:
      UserError: missing, partial, of another architecture, or without a setting
        that `overrides` names.
    """
    path = files.shipped('weights/small') if path is None else path
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
      # What is set of the use changes no shapes, and to look takes a second.
      if not all(name.startswith('use.') for name in overrides):
        expected = checkpoint.abstract_params(config)
        checkpoint.check_params(params, expected, f'{path}, as it is set here,')
    return cls(params, config)

  def on(self, device: jax.Device) -> 'VideoColorizer':
    """Another of the same weights, on a device; it needs its own reference."""
    other = copy.copy(self)
    other._variables = jax.device_put(self._variables, device)
    other._reference = None
    other._encoded = {}
    return other

  def set_reference(self, *rgb: np.ndarray, first_frame: bool = False) -> None:
    """Takes references and starts afresh.

    Args:
      rgb: [h, w, 3] uint8, of any sizes. Of several each position of a frame
        takes its colour from the one that matches it best. None at all: frames
        are colorized by the prior.
      first_frame: whether the first of them is the very frame that comes first;
        its colours are then carried on from frame to frame as well.

    Raises:
      UserError: no reference is given, and the weights have no prior.
    """
    if not rgb:
      self.check_prior()
    for picture in rgb:
      _check(picture)
    self._first_frame = rgb[0] if first_frame else None
    self._frame_size = None
    known, self._encoded = self._encoded, {}
    for picture in rgb:
      size = self._working_size(picture)
      digest = hashlib.sha256(np.ascontiguousarray(picture)).digest()
      key = digest, picture.shape, size
      # The references before may have been the same.
      self._encoded[key] = known.get(key) or self._encode(size, picture)
    if not rgb:
      self._reference = _BY_PRIOR
    elif list(self._encoded) != list(known):
      encoded = combine(list(self._encoded.values()))
      self._reference = compress(encoded, self._components)

  def check_prior(self) -> None:
    """Raises UserError where the weights cannot do without a reference."""
    if not self.has_prior:
      raise UserError(
        'these weights have no color prior, so they need a reference: name a '
        'color picture by --reference, or use other weights by --checkpoint'
      )

  def _encode(self, size, picture):
    """A reference at the working size, which an anchor wants first, and enlarged."""
    scales = sorted({1, self._enlarge})
    fitted = (
      _fitted(tuple(scale * side for side in size), 1, picture)
      for scale in scales
    )
    return combine(
      [self._encode_reference(self._variables, rgb) for rgb in fitted]
    )

  @property
  def fingerprint(self) -> str:
    """Equal for the same weights."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(self._variables):
      digest.update(np.asarray(leaf))
    return digest.hexdigest()[:16]

  @property
  def bound(self) -> tuple[int, int]:
    """(height, width) within which pictures are looked at, at most."""
    scale = max(self._refine, self._enlarge)
    return tuple(scale * side for side in self.config.use.size)

  @property
  def state(self) -> np.ndarray:
    """What the next frame takes from those before, once one was coloured.

    [1, h, w, 5]: Lab of the frame before, l centred, and the flow from it to an
    anchor.
    """
    return np.concatenate([self._previous_lab, self._anchor_flow], -1)

  def resume(self, state: np.ndarray, frame_size: tuple[int, int]) -> None:
    """Goes on after a frame that was coloured earlier by the same reference.

    Args:
      state: the property of that time; comes after `set_reference`.
      frame_size: (height, width) of the frames.
    """
    self._set_frame_size(frame_size)
    self._carry_on_from(state[..., :3], state[..., 3:])

  def colorize(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Colours frames, lazily; the next call goes on where this one stopped.

    Args:
      frames: [h, w, 3] uint8 each, or uint16, all of one size; only their L is
        looked at.

    Yields:
      For each, [h, w, 3] of its type: its L with predicted colours.

    Raises:
      ValueError: no reference is set, or a frame is of another size.
    """
    # While the device colours a block, the one before it goes out.
    ready = ()
    for block in self.predict(frames):
      coloured = sizes.join_frames(block.rgb, block.ab)
      yield from np.asarray(ready)
      ready = coloured
    yield from np.asarray(ready)

  def predict(self, frames: Iterable[np.ndarray]) -> Iterator[Prediction]:
    """As `colorize`, but yields colours as the networks predict them.

    Args:
      frames: as of `colorize`.

    Yields:
      Blocks of frames with their colours, which the device may still be at.

    Raises:
      ValueError: as `colorize`.
    """
    if self._reference is None:
      raise ValueError('set_reference comes before colorize')
    for block in self._blocks(frames):
      yield self._predict_block(block)

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

  def _predict_block(self, block):
    for rgb in block:
      _check(rgb)
      if self._frame_size is None:
        self._start(rgb.shape[:2])
      if rgb.shape[:2] != self._frame_size:
        raise ValueError(
          f'a frame of {rgb.shape[:2]} after frames of {self._frame_size}'
        )
    rgb = np.stack(block)
    luminance = _shrink(self._size, self._scale, rgb)
    backward_flow, anchor_flow = self._flows(luminance)
    seen = jnp.concatenate([self._previous_lab[..., :1], luminance])
    if self._reference is _BY_PRIOR:
      guidance, steady, anchored = self._guide_by_prior(
        self._scale, self._variables, seen, backward_flow
      )
    else:
      guidance, steady, anchored = self._guide_frames(
        self._scale,
        self._variables,
        self._reference,
        seen,
        backward_flow,
        anchor_flow,
      )
    anchor = None
    if anchored is not None:
      weight = self._anchor_weight * anchored
      anchor = Anchor(self._first_lab, anchor_flow, weight)
    ab, confidence, self._previous_lab = self._colorize_frames(
      self._size,
      self._variables,
      guidance,
      self._previous_lab,
      luminance,
      backward_flow,
      steady,
      anchor,
    )
    return Prediction(rgb, ab, confidence)

  @property
  def _anchored(self):
    return self._first_frame is not None and self._anchor_weight > 0

  def _flows(self, luminance):
    """From frames of [t, h, w, 1] to those before, and to the anchor.

    Each is [1, t, h, w, 2], or None where nobody looks at it.
    """
    if not (self._blends or self._anchored):
      return None, None
    # Not of `_previous_lab`, for which the device would have to be waited for.
    greys = [self._previous_grey, *_grey(luminance)]
    self._previous_grey = greys[-1]
    pairs = itertools.pairwise(greys)
    steps = [flow.backward_flow(grey, before) for before, grey in pairs]
    backward_flow = np.stack(steps)[None] if self._blends else None
    if not self._anchored:
      return backward_flow, None
    ways = [self._anchor_flow[0]]
    for grey, step in zip(greys[1:], steps, strict=True):
      way = flow.flow_to_reference(grey, self._first_grey, step, ways[-1])
      ways.append(way)
    self._anchor_flow = ways[-1][None]
    return backward_flow, np.stack(ways[1:])[None]

  def _start(self, frame_size):
    """Learns the frames' size, and so that of the frame before the first."""
    self._set_frame_size(frame_size)
    padded = sizes.padded(self._size, self._scale * sizes.TOKEN)
    lab = self._first_lab
    if lab is None:
      lab = jnp.zeros((1, *padded, 3))
    self._carry_on_from(lab, np.zeros((1, *padded, 2), np.float32))

  def _set_frame_size(self, frame_size):
    """Sets sizes: `_scale` times `_size` is that at which colours move."""
    self._frame_size = frame_size
    working = sizes.within(frame_size, self.config.use.size)
    self._scale = min(self._refine, max(1, round(frame_size[0] / working[0])))
    self._size = tuple(self._scale * side for side in working)
    self._first_lab = None
    if self._first_frame is not None:
      seen = self._working_size(self._first_frame)
      if max(abs(np.subtract(seen, working))) > 1:  # By rounding.
        raise ValueError(
          f'the first frame is {frame_size}, not the size of the reference'
        )
      self._first_lab = _lab(self._size, self._scale, self._first_frame)
      self._first_grey = _grey(self._first_lab[0, ..., :1])

  def _carry_on_from(self, previous_lab, anchor_flow):
    self._previous_lab = previous_lab
    self._anchor_flow = anchor_flow
    self._previous_grey = _grey(previous_lab[0, ..., :1])

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


_DEFAULT_OPTIONS = film.Options()


def colorize(
  colorizer: VideoColorizer,
  video_path: Path,
  pictures: Sequence[str],
  output: Path,
  overwrite: bool = False,
  options: film.Options = _DEFAULT_OPTIONS,
  *,
  plan_path: Path | None = None,
  references: Path | None = None,
  gallery: Path | None = None,
  config: ml_collections.ConfigDict | None = None,
  frame_rate: Fraction | None = None,
) -> None:
  """Colours a video file, a folder of frames, or an image.

  Args:
    colorizer: the networks.
    video_path: what to colour.
    pictures: colour pictures for all shots, `first-frame` for the video's own;
      or `auto` or `none` alone; empty where another way is given.
    output: a video file, a folder or an image.
    overwrite: whether an existing output is replaced.
    options: what the output is to be like.
    plan_path: a plan to follow.
    references: what shots choose from; see `plan.list_references`.
    gallery: where `auto` looks.
    config: its `retrieval` says how pictures are compared, for the two ways before.
    frame_rate: of a folder of frames; None: 25, or as the plan says.

  Raises:
    UserError: an input cannot be used or the output cannot be written.
  """
  if plan.NONE in pictures:
    colorizer.check_prior()
  warnings = preflight.check(
    *(video_path, pictures, output, overwrite, options),
    plan_path=plan_path,
    references=references,
    gallery=gallery,
    frame_rate=frame_rate,
  )
  for warning in warnings:
    print(f'warning: {warning}', file=sys.stderr)
  if plan_path is not None:
    made = plan.read(plan_path)
    if frame_rate is not None:
      made = made._replace(frame_rate=frame_rate)
    with video.VideoReader(video_path) as reader:
      expected = reader.num_frames or 0
    if expected > 1.05 * made.frames:  # An estimate, of some files.
      print(
        f'warning: {plan_path} ends behind {made.frames} frames, but '
        f'{video_path} may have {expected}: the others are left out',
        file=sys.stderr,
      )
  else:
    made, surveyed = plan.make_plan(
      config, video_path, pictures, references, gallery, frame_rate
    )
    if references is not None or gallery is not None:
      print(plan.table(made, surveyed.seconds))
  devices = jax.local_devices()[: len(made.shots)]
  colorizers = [colorizer.on(device) for device in devices]
  job = film.Film(colorizers, video_path, made, output, overwrite, options)
  preview = _Preview(film.part_folder(output) / 'preview.jpg')
  print(f'To look at while it runs: {preview.path}')
  with tqdm.tqdm(total=film.count_steps(made), unit='frame') as bar:
    for step in job.run():
      if not bar.n:  # What an earlier run has done does not count as speed.
        bar.initial = bar.n = step.done - 1
      bar.update(step.done - bar.n)
      preview.show(step)
  for doubt in job.doubts():
    print(f'warning: {doubt}', file=sys.stderr)


class _Preview:
  """The newest pictures, refreshed every few seconds."""

  def __init__(self, path: Path):
    self.path = path
    self._columns = collections.deque(maxlen=_PREVIEW_COLUMNS)
    self._due = 0.0

  def show(self, step: worker.Step) -> None:
    if step.rgb is None or time.monotonic() < self._due:
      return
    self._due = time.monotonic() + _PREVIEW_SECONDS
    self._columns.append([worker.shallow(step.grey), worker.shallow(step.rgb)])
    rows = list(zip(*self._columns, strict=True))
    labels = (f'up to frame {step.number}', 'coloured')
    video.write_image(self.path, strips.strip(rows, labels))


def _whole(config, name, least, most):
  """A whole number of `config.use`; `least` is its default."""
  value = config.use.get(name, least)  # Older weights have none.
  if not (isinstance(value, int) and least <= value <= most):
    raise UserError(
      f'config.use.{name}={value} must be a whole number, {least} at least and '
      f'{most} at most'
    )
  return value


def _check(rgb):
  known = rgb.dtype in (np.uint8, np.uint16)
  if not known or rgb.ndim != 3 or rgb.shape[-1] != 3:
    raise ValueError(
      f'expected [h, w, 3] uint8 or uint16, got {rgb.shape} {rgb.dtype}'
    )


def _grey(luminance) -> np.ndarray:
  """L - 50 as flow sees it: [..., 1] uint8."""
  return np.uint8(np.round((np.clip(luminance, -50, 50) + 50.0) * 2.55))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _lab(size, scale, rgb):
  """Lab of [H, W, 3], l centred, at a size, padded: [1, h, w, 3]."""
  return color.center(color.rgb_to_lab(_fitted(size, scale, rgb)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _fitted(size, scale, rgb):
  """[H, W, 3] in [0, 1] at a size, padded: [1, h, w, 3]."""
  rgb = rgb.astype(jnp.float32) / jnp.iinfo(rgb.dtype).max
  rgb = sizes.pad(sizes.resize(rgb, size), scale * sizes.TOKEN)
  return jnp.clip(rgb, 0.0, 1.0)[None]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shrink(size, scale, rgb):
  """L - 50 of [t, H, W, 3] uint8 at a size, padded: [t, h, w, 1]."""

  def shrink(rgb):
    luminance = color.uint8_to_lab(rgb)[..., :1] - 50.0
    return sizes.pad(sizes.resize(luminance, size), scale * sizes.TOKEN)

  # One frame after the other: at full size, a block at once would be large.
  return jax.lax.map(shrink, rgb)


def _guide_frames(
  generator: Generator,
  scale,
  variables,
  reference,
  luminance,
  backward_flow,
  anchor_flow,
):
  """Matches frames of [1 + t, h, w, 1] luminance, all but the first.

  It is done at a `scale`-th of their size.

  Returns:
    Their guidance, and [1, t, h, w, 1] for each flow: where it leads to the same.
    None where the flow is.
  """
  apply = functools.partial(generator.apply, variables)
  small = layers.average_pool(luminance, scale)[None]
  steady = anchored = None
  if backward_flow is None and anchor_flow is None:
    guidance = apply(small[:, 1:], reference, method='guide')
  else:
    guidance, steady, anchored = apply(
      *(small, reference, backward_flow, anchor_flow, scale),
      method='guide_along',
    )
  return _at_size(luminance, scale, guidance), steady, anchored


def _guide_by_prior(
  generator: Generator, scale, variables, luminance, backward_flow
):
  """As `_guide_frames`, without a reference."""
  small = layers.average_pool(luminance, scale)[None]
  guidance, steady, anchored = generator.apply(
    variables, small, backward_flow, scale, method='guide_by_prior'
  )
  return _at_size(luminance, scale, guidance), steady, anchored


def _at_size(luminance, scale, guidance):
  """Guidance of a `scale`-th of the size of [n, h, w, 1] luminance, at that."""
  if scale == 1:
    return guidance
  size = luminance.shape[1:3]
  return jax.tree.map(functools.partial(_finer, size), guidance)


def _colorize_frames(
  generator: Generator,
  size,
  variables,
  guidance,
  previous_lab,
  luminance,
  backward_flow,
  steady,
  anchor,
):
  """Colours frames of [t, h, w, 1] luminance; carries `previous_lab`."""
  ab, last_lab = colorize_clip(
    functools.partial(generator.apply, variables, method='colorize_frame'),
    luminance[None],
    guidance,
    previous_lab,
    backward_flow=backward_flow,
    steady=steady,
    anchor=anchor,
  )
  ab, confidence = (
    x[0, :, : size[0], : size[1]] for x in (ab, guidance.confidence)
  )
  return ab, confidence, last_lab


def _finer(size, x):
  """Brings what is constant in the matching's cells to [b, t, *size, c]."""
  b, t, _, _, c = x.shape
  cells = layers.average_pool(x.reshape(b * t, *x.shape[2:]), STRIDE)
  fine = jax.image.resize(cells, (b * t, *size, c), 'bilinear')
  return fine.reshape(b, t, *size, c)
