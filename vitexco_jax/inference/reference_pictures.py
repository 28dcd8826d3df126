"""Reads and sets the references of a film, at most at the size of the networks."""

import functools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from vitexco_jax import sizes
from vitexco_jax.errors import UserError
from vitexco_jax.inference import joining
from vitexco_jax.inference.shot_plan import FIRST_FRAME, Choice
from vitexco_jax.inference.source import Source
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import borders, sandbox, video
from vitexco_jax.media.borders import Borders

_PICTURES = 16  # References in memory.
# Relative difference of aspect between a bound reference and the video.
_ASPECT = 0.02
_logger = logging.getLogger(__name__)


class ReferencePictures:
  """Reads references; consecutive stretches often share them."""

  def __init__(
    self,
    opener: sandbox.Direct | sandbox.Sandbox,
    path: Path,
    deinterlace: bool,
    size: tuple[int, int],
    bound: tuple[int, int],
  ):
    """Reads nothing yet.

    Args:
      opener: opens the video.
      path: of the video.
      deinterlace: whether to deinterlace it.
      size: (height, width) of its frames.
      bound: largest (height, width) of the results.
    """
    self._open = functools.partial(opener.open, path, deinterlace=deinterlace)
    self._size, self._bound = size, bound
    self._warned: set[Choice] = set()  # Stills that differ from their frames.
    self.read = functools.lru_cache(_PICTURES)(self._read)

  def _read(self, choice: Choice, inner: Borders) -> np.ndarray:
    """Reads a reference: [h, w, 3] uint8.

    Args:
      choice: the reference.
      inner: borders of its shot, which a bound reference has as well.

    Raises:
      UserError: it cannot be read, or is bound and has another aspect ratio.
    """
    if choice.picture == FIRST_FRAME:
      with self._open() as reader:
        rgb = next(reader).rgb
    else:
      rgb = video.read_image(choice.picture)
    if choice.frame is None:
      rgb = borders.without(rgb)
    else:
      rgb = self._fit(rgb, choice, inner)
    height, width = sizes.within(rgb.shape[:2], self._bound)
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)

  def set_references(
    self,
    colorizer: VideoColorizer,
    bound: Choice | None,
    others: Iterable[Choice],
    inner: Borders,
    source: Source,
  ) -> None:
    """Sets the references of the next frames.

    Args:
      colorizer: gets them.
      bound: the reference that is bound to the next frame, if any.
      others: that are not bound.
      inner: borders of the shot.
      source: reads that frame.
    """
    pictures = [self.read(x, inner) for x in others]
    if bound is not None:
      still = self.read(bound, inner)
      if colorizer.config.use.fit_stills:
        still = self._fit_to_frame(
          still, bound, inner, source, colorizer.config.use.still_agreement
        )
      pictures.insert(0, still)
    colorizer.set_reference(*pictures, first_frame=bound is not None)

  def _fit_to_frame(
    self,
    still: np.ndarray,
    choice: Choice,
    inner: Borders,
    source: Source,
    least: float,
  ) -> np.ndarray:
    """Fits a bound still to its frame; warns if its structure differs."""
    # It imports SciPy, which only bound stills need.
    from vitexco_jax.inference import stills

    assert choice.frame is not None
    (frame,) = source.frames(choice.frame, choice.frame + 1)
    fitted = stills.fit(still, inner.crop(joining.shallow(frame.rgb)))
    if fitted.agreement < least and choice not in self._warned:
      self._warned.add(choice)
      _logger.warning(
        '%s: only %.0f %% of its structure is that of frame %d: see whether an '
        'editor moved or invented something, or whether it shows another frame',
        choice.picture,
        100 * fitted.agreement,
        choice.frame,
      )
    return fitted.rgb

  def _fit(self, rgb: np.ndarray, choice: Choice, inner: Borders) -> np.ndarray:
    """Resizes a bound picture, with or without borders, to the frame's size."""
    size = self._size
    inner_size = inner.size(*size)
    if same_shape(rgb.shape, size):
      rgb = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)
      return inner.crop(rgb)
    if same_shape(rgb.shape, inner_size):
      return cv2.resize(rgb, inner_size[::-1], interpolation=cv2.INTER_AREA)
    raise UserError(
      f'{choice.picture} is bound to frame {choice.frame} but has '
      f'{rgb.shape[1]}x{rgb.shape[0]} pixels, not the aspect ratio of the '
      f'video, {size[1]}x{size[0]}: crop it, or do not bind it to a frame'
    )


def same_shape(size: Sequence[int], other: Sequence[int]) -> bool:
  """Returns whether two (height, width, ...) have about the same aspect."""
  return abs(size[1] / size[0] * other[0] / other[1] - 1) <= _ASPECT
