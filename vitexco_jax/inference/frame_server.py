"""Colorizes the frames of a clip in any order, for video editors.

An editor requests a frame, then one far away from it. Colors depend on previous
frames: those of the shot, from its start or the nearest still before the frame.
Therefore a clip is divided into *stretches* (see `stretches`) and each stretch, from
its first frame on, into blocks. A block is always computed as a whole, from the state
after the previous block. So a frame gets the same colors in any order of requests.

Colors and states of a few blocks stay in memory. A request elsewhere colorizes the
frames from the nearest known state on, or from the start of the stretch.
"""

import bisect
import collections
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np

from vitexco_jax import sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference import frame_blocks, stills
from vitexco_jax.inference.bidirectional import (
  Colors,
  mix_directions,
  mix_dissolve,
  uncolored,
)
from vitexco_jax.inference.joining import shallow
from vitexco_jax.inference.reference_pictures import same_shape
from vitexco_jax.inference.video_colorizer import (
  ClipState,
  Prediction,
  VideoColorizer,
)
from vitexco_jax.media import borders, shots

BLOCK = 8  # Frames that are colorized together.
_CHUNK = 32  # Frames whose cuts are detected together.
_BLOCKS = 4  # Whose colors are in memory.
_STATES = 16  # In memory.
_STRETCHES = 2  # With references, and colors propagated backwards, on the disk.

_Value = TypeVar('_Value')


class Frames(Protocol):
  """Frames that are read by number: [h, w, 3] uint8 or uint16 each."""

  def __len__(self) -> int:
    """Returns the number of frames."""

  def __getitem__(self, number: int, /) -> np.ndarray:
    """Returns a frame."""


class FrameColors(NamedTuple):
  """Colors of a frame, at the size at which they are propagated."""

  ab: np.ndarray  # [h, w, 2]
  confidence: np.ndarray  # [h, w, 1], in [-1, 1].

  def join(self, rgb: np.ndarray) -> np.ndarray:
    """Returns the L of [H, W, 3] uint8 or uint16 with these colors."""
    return np.asarray(sizes.join(rgb, self.ab))


class _Stretch(NamedTuple):
  """Frames `start` to `stop` - 1, which have the same references."""

  start: int
  stop: int  # The end of the stretch, or of the block if nothing follows.
  begins_with_still: bool
  ends_at_still: bool  # Colors are also propagated backwards from `stop`.

  @property
  def propagates_forwards(self) -> bool:
    return self.begins_with_still or not self.ends_at_still


class FrameServer:
  """Colorizes frames on request; holds a few blocks in memory."""

  def __init__(
    self,
    colorizer: VideoColorizer,
    frames: Frames,
    stills: Mapping[int, np.ndarray],
    references: Sequence[np.ndarray] = (),
    find_cuts: Callable[[range], Sequence[bool]] | None = None,
    colored: Frames | None = None,
    dissolves: Sequence[range] = (),
  ):
    """Reads no frame yet.

    Args:
      colorizer: the engine; its references are replaced.
      frames: of the clip, all of one size; they are read when they are needed.
      stills: color pictures of frames, by number: [h, w, 3] uint8 or uint16.
        They may be read when they are needed.
      references: color pictures for all shots, of any sizes. A shot that has
        neither a still nor a reference uses the nearest still; without any
        picture, the prior colorizes it.
      find_cuts: returns for a range of frames which of them start a new shot;
        None: cuts are detected.
      colored: the clip in color, of which the first frame of each shot is used
        as a still.
      dissolves: frames in which a shot dissolves into the next one, which starts
        after them. They get the colors of both.

    Raises:
      UserError: a dissolve is empty, overlaps the one before it, or is not within
        the clip.
    """
    self._colorizer, self._frames, self._stills = colorizer, frames, stills
    self._numbers = sorted(stills)
    self._colored = colored
    self._references = [self._shrink(picture) for picture in references]
    self._find_cuts = find_cuts or self._detect
    self._dissolves = _check_dissolves(dissolves, len(frames))
    self._cuts: dict[int, bytes] = {}  # Of chunks; 1: a new shot starts.
    self._lock = threading.Lock()
    # By number of the first frame.
    self._blocks: _Recent[list[FrameColors]] = _Recent(_BLOCKS)
    # Before the frame of that number.
    self._states: _Recent[ClipState] = _Recent(_STATES)
    # By first frame of the stretch.
    self._backwards: _Recent[np.ndarray] = _Recent(_STRETCHES)
    # By dissolve, of the next shot.
    self._entering: _Recent[np.ndarray] = _Recent(_STRETCHES)
    # By number of the frame, and whether they are bound to it.
    self._pictures: _Recent[np.ndarray] = _Recent(2 * _STRETCHES)

  def colors(self, number: int) -> FrameColors:
    """Returns the colors of a frame.

    Raises:
      UserError: a still does not have the aspect ratio of the clip, or there is no
        picture and the weights have no prior.
    """
    with self._lock:
      stretch = self._stretch(number)
      first = number - (number - stretch.start) % BLOCK
      if first not in self._blocks:
        self._color(stretch, first)
      return self._blocks[first][number - first]

  def _stretch(self, number: int) -> _Stretch:
    start = number
    while not (self._has_still(start) or self._starts_shot(start)):
      start -= 1
    later = bisect.bisect_right(self._numbers, number)
    still = self._numbers[later] if later < len(self._numbers) else None
    # Without a later still, the end of the shot does not matter.
    block_stop = number - (number - start) % BLOCK + BLOCK
    limit = min(block_stop, len(self._frames)) if still is None else still
    stop = number + 1
    while stop < limit and not (
      self._has_still(stop) or self._starts_shot(stop)
    ):
      stop += 1
    ends_at_still = stop == still and not self._starts_shot(stop)
    return _Stretch(start, stop, self._has_still(start), ends_at_still)

  def _color(self, stretch: _Stretch, first: int) -> None:
    """Colorizes the block of a frame and those before it that it needs."""
    if stretch.ends_at_still and stretch.start not in self._backwards:
      self._backwards[stretch.start] = self._color_backwards(
        range(stretch.start, stretch.stop), stretch.stop, stretch.stop
      )
    firsts = [first]
    if stretch.propagates_forwards:
      while firsts[-1] > stretch.start and firsts[-1] not in self._states:
        firsts.append(firsts[-1] - BLOCK)
    for start in reversed(firsts):
      self._color_block(stretch, start)

  def _color_block(self, stretch: _Stretch, start: int) -> None:
    stop = min(start + BLOCK, stretch.stop)
    numbers = range(start, stop)
    rgb = [self._frames[number] for number in numbers]
    # These colors need the colorizer, too.
    entering = [self._enter(self._dissolve(number)) for number in numbers]
    blocks = self._predict(stretch, start, rgb)
    colors = (
      FrameColors(*each)
      for block in blocks
      for each in zip(
        np.asarray(block.ab), np.asarray(block.confidence), strict=True
      )
    )
    self._blocks[start] = [
      self._cross_fade(*each)
      for each in zip(numbers, colors, entering, strict=True)
    ]
    if stretch.propagates_forwards:
      state = self._colorizer.state
      assert state is not None  # It has colorized the block.
      self._states[stop] = state

  def _predict(
    self, stretch: _Stretch, start: int, rgb: Sequence[np.ndarray]
  ) -> Iterator[Prediction] | Iterator[Colors]:
    """Predicts colors, and mixes in those that were propagated backwards."""
    forwards = stretch.propagates_forwards
    if forwards:
      still = stretch.start if stretch.begins_with_still else None
      self._set_references(stretch.start, still)
      if start > stretch.start:
        self._colorizer.resume(self._states[start], rgb[0].shape[:2])
    if not stretch.ends_at_still:
      return self._colorizer.predict(rgb)
    return mix_directions(
      self._colorizer.predict(rgb) if forwards else uncolored(rgb),
      range(stretch.start, stretch.stop),
      start,
      self._backwards[stretch.start],
      self._colorizer.config.use.mix_tolerance,
    )

  def _enter(self, dissolve: range | None) -> np.ndarray | None:
    """Returns the colors of the next shot in the frames of a dissolve."""
    if dissolve is None:
      return None
    if dissolve not in self._entering:
      following = self._stretch(dissolve.stop)
      source = following.start
      still = source if following.begins_with_still else None
      if still is None and following.ends_at_still:
        source = still = following.stop
      self._entering[dissolve] = self._color_backwards(dissolve, source, still)
    return self._entering[dissolve]

  def _cross_fade(
    self, number: int, colors: FrameColors, entering: np.ndarray | None
  ) -> FrameColors:
    """Mixes in the colors of the next shot."""
    dissolve = self._dissolve(number)
    if dissolve is None:
      return colors
    own = Colors(self._frames[number][None], *(x[None] for x in colors))
    (mixed,) = mix_dissolve(
      [own], dissolve, number, entering, first=dissolve.start
    )
    return FrameColors(np.asarray(mixed.ab[0]), np.asarray(mixed.confidence[0]))

  def _color_backwards(
    self, wanted: range, source: int, still: int | None
  ) -> np.ndarray:
    """Returns colors propagated backwards.

    Args:
      wanted: the frames that get them.
      source: the frame from which they come, not before the end of `wanted`.
      still: the same, if it has a still.

    Returns:
      [frames, h, w, 3] float16, ab and confidence, on the disk.
    """
    height, width = sizes.within(
      self._frames[wanted.start].shape[:2],
      tuple(self._colorizer.config.use.size),
    )
    # Editors decode forwards much faster than backwards.
    numbers = range(wanted.start, source + 1)
    small = _on_disk(np.uint8, (len(numbers), height, width, 3))
    for i, number in enumerate(numbers):
      small[i] = cv2.resize(
        shallow(self._frames[number]),
        (width, height),
        interpolation=cv2.INTER_AREA,
      )
    result = _on_disk(np.float16, (len(wanted), height, width, 3))
    self._set_references(source, still)
    number = source
    for block in frame_blocks.ahead(self._colorizer.predict(small[::-1])):
      for colors in np.concatenate([block.ab, block.confidence], -1):
        if number < wanted.stop:
          result[number - wanted.start] = colors
        number -= 1
    return result

  def _set_references(self, start: int, still: int | None) -> None:
    """Sets the references of a stretch.

    Args:
      start: a frame of its shot.
      still: the next frame, if it has a still.
    """
    pictures = list(self._references)
    if still is not None:
      pictures.insert(0, self._read_still(still, bound=True))
    elif not pictures and self._numbers:
      nearest = min(self._numbers, key=lambda x: abs(x - start))
      pictures = [self._read_still(nearest, bound=False)]
    self._colorizer.set_reference(*pictures, first_frame=still is not None)

  def _read_still(self, number: int, bound: bool) -> np.ndarray:
    """Reads a still: [h, w, 3] uint8, at most at the size of the networks.

    Args:
      number: of its frame.
      bound: whether to fit it to this frame.
    """
    key = number, bound
    if key not in self._pictures:
      if number in self._stills:
        still = shallow(self._stills[number])
      else:
        assert self._colored is not None
        still = shallow(self._colored[number])
      self._pictures[key] = (
        self._fit(still, number) if bound else self._shrink(still)
      )
    return self._pictures[key]

  def _fit(self, still: np.ndarray, number: int) -> np.ndarray:
    frame = shallow(self._frames[number])
    if not same_shape(still.shape, frame.shape):
      raise UserError(
        f'the still of frame {number} has {still.shape[1]}x{still.shape[0]} '
        'pixels, not the aspect ratio of the clip, '
        f'{frame.shape[1]}x{frame.shape[0]}: crop it, or do not bind it to a '
        'frame'
      )
    height, width = sizes.within(frame.shape[:2], self._colorizer.bound)
    still = cv2.resize(still, (width, height), interpolation=cv2.INTER_AREA)
    if self._colorizer.config.use.fit_stills:
      still = stills.fit(still, frame).rgb
    return still

  def _shrink(self, picture: np.ndarray) -> np.ndarray:
    picture = borders.without(shallow(picture))
    height, width = sizes.within(picture.shape[:2], self._colorizer.bound)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)

  def _has_still(self, number: int) -> bool:
    return number in self._stills or (
      self._colored is not None and self._starts_shot(number)
    )

  def _starts_shot(self, number: int) -> bool:
    if number == 0:
      return True
    before = self._dissolve(number - 1)
    if before is not None:
      return number == before.stop
    chunk = number // _CHUNK
    if chunk not in self._cuts:
      stop = min((chunk + 1) * _CHUNK, len(self._frames))
      self._cuts[chunk] = bytes(self._find_cuts(range(chunk * _CHUNK, stop)))
    return bool(self._cuts[chunk][number % _CHUNK])

  def _dissolve(self, number: int) -> range | None:
    """Returns the dissolve of a frame."""
    return next((x for x in self._dissolves if number in x), None)

  def _detect(self, wanted: range) -> list[bool]:
    return shots.find_cuts(
      lambda number: shallow(self._frames[number]), len(self._frames), wanted
    )


class _Recent(collections.OrderedDict[Hashable, _Value]):
  """Holds the values that were set last."""

  def __init__(self, size: int):
    super().__init__()
    self._size = size

  def __setitem__(self, key: Hashable, value: _Value) -> None:
    super().__setitem__(key, value)
    self.move_to_end(key)
    if len(self) > self._size:
      self.popitem(last=False)


def _check_dissolves(dissolves: Sequence[range], count: int) -> list[range]:
  """Returns the dissolves of a clip of `count` frames in order."""
  result = sorted(dissolves, key=lambda x: x.start)
  end = 0
  for x in result:
    # The next shot has a frame of its own.
    if not end <= x.start < x.stop < count:
      raise UserError(
        f'the dissolve of frames {x.start} to {x.stop - 1} must be within the '
        f'clip of {count} frames, before its last frame, and after the dissolve '
        'before it'
      )
    end = x.stop
  return result


def _on_disk(dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
  """Creates an array in a temporary file."""
  with tempfile.TemporaryFile() as file:
    return np.memmap(file, dtype, 'w+', shape=shape)
