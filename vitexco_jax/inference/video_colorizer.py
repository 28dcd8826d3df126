"""The engine: colorizes frames of a video with one or more references.

Arrays in, arrays out. Frames are processed in blocks: the networks process them at
the working size, the predicted ab is resized to the size of the frame, and the L of
the frame is kept. Only a `ClipState` passes from block to block, so memory does not grow
with the length of a video, and a clip cut in two gives the same frames as the
whole clip.

  colorizer = VideoColorizer.from_checkpoint('weights/small')
  colorizer.set_reference(reference)  # Or () to colorize without a reference.
  for rgb in colorizer.colorize(frames):
    ...
"""

import copy
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitexco_jax import sizes, stages
from vitexco_jax.config import check, override
from vitexco_jax.errors import UserError
from vitexco_jax.generator import abstract_params, make_generator
from vitexco_jax.inference import frame_blocks, guide, preparation
from vitexco_jax.inference import frame_programs as programs
from vitexco_jax.inference.clip_state import ClipSetup, ClipState
from vitexco_jax.inference.preparation import FlowSettings, HostState, Prepared
from vitexco_jax.models.motion import Anchor
from vitexco_jax.models.references import combine, without_picture
from vitexco_jax.structs import Array, Reference
from vitexco_jax.traces import Program


class Prediction(NamedTuple):
  """A block of frames with predicted colors, at the working size."""

  rgb: np.ndarray  # [t, H, W, 3] uint8 or uint16, the input.
  ab: jax.Array  # [t, h, w, 2]
  confidence: jax.Array  # [t, h, w, 1], in [-1, 1].


class VideoColorizer:
  """Colorizes frames with references; holds the state of one clip."""

  # What is computed for a block of frames; subclasses may compute something else.
  block_program = staticmethod(programs.colorize_block)

  def __init__(
    self, params: Mapping[str, Any], config: ml_collections.ConfigDict
  ):
    """Initializes the engine.

    Args:
      params: of the generator.
      config: that belongs to them.

    Raises:
      UserError: a value of the config is wrong.
    """
    check(config)
    use = config.use
    self._refine, self._enlarge = use.refine, use.enlarge
    self._guide = guide.Settings(*(use[x] for x in guide.Settings._fields))
    self.config = config
    generator = make_generator(config, in_use=True)
    self._in_cells = in_cells = use.matched_cells > 0
    self._encode_reference = Program(programs.encode_reference, generator)
    self._collect = Program(programs.collect, in_cells)
    self._condense = Program(programs.condense, in_cells, use.components)
    # Compiled for each size and scale.
    self._colorize_block = Program(self.block_program, generator, static=2)
    self._follows_motion = generator.follows_motion
    self._uses_anchor = generator.uses_anchor
    self._carried = generator.carried
    self.has_prior = generator.has_prior
    self._flow_alpha = generator.motion.flow_alpha
    self._variables = jax.device_put({'params': params})
    self._forget_references()

  def _forget_references(self) -> None:
    self._reference: Reference | None = None
    self._by_prior = False  # Whether to colorize without a reference.
    self._encoded: dict[tuple, Reference] = {}  # By digest and size.
    self._anchor_picture: np.ndarray | None = None
    self._reset()

  def _reset(self) -> None:
    """Removes everything that belongs to one clip."""
    self._setup: ClipSetup | None = None
    self._state: ClipState | None = None
    # A cache: to get it from the state, the device must finish first.
    self._previous_luminance: np.ndarray | None = None

  @classmethod
  def from_checkpoint(
    cls,
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
  ) -> 'VideoColorizer':
    """Loads an export, or the newest checkpoint of a work directory.

    Args:
      path: the folder, or a name; see `weights`. None: `small`, the weights that
        come with the program.
      overrides: values to change in the config, such as `{'use.size': (112,
        192)}`.

    Raises:
      UserError: the weights are missing, incomplete, or of another architecture,
        or an override is wrong.
    """
    # It imports Orbax, which arrays do not need.
    from vitexco_jax import checkpoint

    path = 'small' if path is None else path
    params = checkpoint.load_params(path)
    config = checkpoint.load_config(path)
    if overrides:
      config = override(config, overrides)
      # Only `model` changes shapes, and the check takes a second.
      if any(name.startswith('model.') for name in overrides):
        expected = abstract_params(config)
        checkpoint.check_params(params, expected, f'{path}, as it is set here,')
    return cls(params, config)

  def on(self, device: jax.Device) -> 'VideoColorizer':
    """Returns a colorizer with the same weights and no reference on a device."""
    other = copy.copy(self)
    other._variables = jax.device_put(self._variables, device)
    other._forget_references()
    return other

  def set_reference(self, *rgb: np.ndarray, first_frame: bool = False) -> None:
    """Sets the references and resets the state.

    Args:
      rgb: [h, w, 3] uint8 or uint16, of any sizes. With several references, each
        pixel uses the best match. Without any, the prior colorizes frames.
      first_frame: whether the first of them is the next frame in color. Its
        colors are then also propagated from frame to frame.

    Raises:
      UserError: no reference is given, and the weights have no prior.
    """
    if not rgb:
      self.check_prior()
    for picture in rgb:
      _check_picture(picture)
    self._reset()
    self._anchor_picture = rgb[0] if first_frame else None
    known, self._encoded = self._encoded, {}
    for picture in rgb:
      size = self._working_size(picture.shape[:2])
      digest = hashlib.sha256(picture.tobytes()).digest()
      key = digest, picture.shape, size
      # The previous references may include the same picture.
      self._encoded[key] = known.get(key) or self._encode(size, picture)
    self._by_prior = not rgb
    if self._by_prior:
      self._reference = None
    elif list(self._encoded) != list(known):
      collected = self._collect(list(self._encoded.values()))
      self._reference = self._condense(collected)

  def check_prior(self) -> None:
    """Raises UserError if the weights need a reference."""
    if not self.has_prior:
      raise UserError(
        'these weights have no color prior, so they need a reference: give one, '
        'or use other weights'
      )

  def _encode(self, size: tuple[int, int], picture: np.ndarray) -> Reference:
    """Encodes a reference at the working size and, after it, enlarged."""
    placed = self._put(picture)

    def encode(scale: int) -> Reference:
      own, bound = (
        (scale * h, scale * w) for h, w in (size, self.config.use.size)
      )
      # A program of the networks takes many seconds to compile.
      rgb = programs.fit_reference(own, sizes.shared(own, bound), placed)
      encoded = self._encode_reference(self._variables, rgb)
      own = sizes.padded(own)
      return programs.cut_reference(own, self._in_cells, encoded)

    return combine([encode(scale) for scale in sorted({1, self._enlarge})])

  @property
  def fingerprint(self) -> str:
    """A hash of the weights."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(self._variables):
      digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]

  @property
  def bound(self) -> tuple[int, int]:
    """Largest (height, width) at which the networks process a picture."""
    scale = max(self._refine, self._enlarge)
    return tuple(scale * side for side in self.config.use.size)

  @property
  def state(self) -> ClipState | None:
    """The state that the next frame needs; None before the first frame."""
    return self._state

  def resume(self, state: ClipState, frame_size: tuple[int, int]) -> None:
    """Continues after a frame that was colorized earlier.

    Call `set_reference` with the references of that time first.

    Args:
      state: the value of the property after that frame.
      frame_size: (height, width) of the frames.
    """
    self._setup = self._make_setup(frame_size)
    self._state = state._replace(previous=self._put(state.previous))
    self._previous_luminance = None

  def colorize(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Colorizes frames lazily; the next call continues after the last frame.

    Args:
      frames: [h, w, 3] uint8 or uint16, all of one size. Only their L is used.

    Yields:
      For each frame, [h, w, 3] of the same type: its L with predicted colors.

    Raises:
      ValueError: no reference is set, or a frame has another size.
    """
    blocks = (sizes.join_frames(x.rgb, x.ab) for x in self.predict(frames))
    yield from map(np.asarray, frame_blocks.delayed(blocks))

  def predict(self, frames: Iterable[np.ndarray]) -> Iterator[Prediction]:
    """Does what `colorize` does, but yields colors at the working size.

    Args:
      frames: see `colorize`.

    Yields:
      Blocks of frames with their colors, which the device may still compute.

    Raises:
      ValueError: see `colorize`.
    """
    if self._reference is None and not self._by_prior:
      raise ValueError('set_reference comes before colorize')
    begins, prepared = self._state is None, None
    for block in frame_blocks.split(frames, begins):
      setup, state = self._clip(block[0].shape[:2])
      # A device works in order. It gets a block to shrink before the networks of
      # the previous one, so that the host prepares the one during the other.
      shrunk = self._shrink(setup, block)
      if prepared is not None:
        yield self._color(setup, prepared)
      prepared = preparation.prepare(
        block,
        shrunk,
        self._host_state(state) if prepared is None else prepared.state,
        self._guide,
        self._flow_settings,
        setup.anchor_gray if self._has_anchor else None,
      )
      if begins:  # The first frame does not wait for others.
        yield self._color(setup, prepared)
        begins, prepared = False, None
    if prepared is not None:
      yield self._color(setup, prepared)

  def _shrink(
    self, setup: ClipSetup, block: list[np.ndarray]
  ) -> list[jax.Array]:
    """Checks frames and begins to scale their L - 50 to the working size."""
    for frame in block:
      _check_picture(frame)
    for frame in block:
      if frame.shape[:2] != setup.frame_size:
        raise ValueError(
          f'a frame of {frame.shape[:2]} after frames of {setup.frame_size}'
        )
    fit = functools.partial(programs.fit_luminance, setup.size, setup.scale)
    return [fit(self._put(frame)) for frame in block]

  def _color(self, setup: ClipSetup, prepared: Prepared) -> Prediction:
    """Begins to colorize a block; the state is then the one after it."""
    assert self._state is not None
    count = len(prepared.frames)
    fill = functools.partial(
      frame_blocks.fill, count=frame_blocks.length(setup.frame_size)
    )
    anchor, reference = None, self._reference
    if reference is not None and not self._has_anchor:
      reference = without_picture(reference)
    if setup.anchor_lab is not None and prepared.anchor_flow is not None:
      anchor = Anchor(setup.anchor_lab, fill(prepared.anchor_flow, 1))
    flow = prepared.backward_flow
    with stages.stage(stages.NETWORK):
      ab, confidence, last = self._colorize_block(
        setup.size,
        setup.scale,
        self._variables,
        reference,
        count,
        fill(prepared.luminance, 0),
        self._state.previous,
        None if flow is None else fill(flow, 1),
        anchor,
      )
      if count < len(ab):
        ab, confidence = ab[:count], confidence[:count]
    self._previous_luminance, anchor_flow, gain = prepared.state
    self._state = ClipState(last, anchor_flow, gain)
    return Prediction(np.stack(prepared.frames), ab, confidence)

  @property
  def _has_anchor(self) -> bool:
    return self._uses_anchor and self._anchor_picture is not None

  @property
  def _flow_settings(self) -> FlowSettings | None:
    if not self._follows_motion:
      return None
    (device,) = jax.tree.leaves(self._variables)[0].devices()
    method = self.config.use.flow
    if method == 'auto':
      method = 'dis' if device.platform == 'cpu' else 'jax'
    return FlowSettings(method == 'jax', self._flow_alpha)

  def _host_state(self, state: ClipState) -> HostState:
    previous, anchor_flow, gain = state
    luminance = self._previous_luminance
    if luminance is None:
      lab = np.asarray(previous[0, ..., :3])
      luminance = lab[..., :1] if lab.any() else None
    return HostState(luminance, anchor_flow, gain)

  def _clip(self, frame_size: tuple[int, int]) -> tuple[ClipSetup, ClipState]:
    """Returns the setup and the state; before the first frame there is no color."""
    if self._setup is not None and self._state is not None:
      return self._setup, self._state
    setup = self._make_setup(frame_size)
    padded = sizes.padded(setup.size, setup.scale * sizes.TOKEN)
    lab = setup.anchor_lab
    if lab is None:
      lab = jnp.zeros((1, *padded, 3))
    lab = jnp.pad(lab, ((0, 0), (0, 0), (0, 0), (0, self._carried)))
    anchor_flow = np.zeros((1, *padded, 2), np.float32)
    self._setup, self._state = setup, ClipState(self._put(lab), anchor_flow)
    return self._setup, self._state

  def _put(self, array: Array) -> jax.Array:
    """Commits an array to the device of the weights, as results of programs are.

    Otherwise, for example, the first block would need a program of its own.
    """
    sharding = jax.tree.leaves(self._variables)[0].sharding
    return jax.device_put(array, sharding)

  def _make_setup(self, frame_size: tuple[int, int]) -> ClipSetup:
    working = self._working_size(frame_size)
    scale = min(self._refine, max(1, round(frame_size[0] / working[0])))
    size = scale * working[0], scale * working[1]
    if self._anchor_picture is None:
      return ClipSetup(frame_size, scale, size, None, None)
    anchor_size = self._working_size(self._anchor_picture.shape[:2])
    if max(abs(np.subtract(anchor_size, working))) > 1:  # 1: rounding.
      raise ValueError(
        f'the first frame is {frame_size}, not the size of the reference'
      )
    picture = self._put(self._anchor_picture)
    lab = programs.fit_lab(size, scale, picture)
    gray = programs.lightness_levels(lab[0, ..., :1])
    return ClipSetup(frame_size, scale, size, lab, gray)

  def _working_size(self, size: tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) at which a picture of a size is matched."""
    return sizes.within(size, self.config.use.size)


def _check_picture(rgb: np.ndarray) -> None:
  known = rgb.dtype in (np.uint8, np.uint16)
  if not known or rgb.ndim != 3 or rgb.shape[-1] != 3:
    raise ValueError(
      f'expected [h, w, 3] uint8 or uint16, got {rgb.shape} {rgb.dtype}'
    )
