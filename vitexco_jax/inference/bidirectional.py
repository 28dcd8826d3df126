"""Mixes colors that were propagated forwards and backwards.

Between two bound references, a frame gets colors from both. Their shares depend on
how near each reference is and on the confidence of each prediction.

A frame of a dissolve gets colors from both shots, in the shares in which it shows
them. A shot that stays as it is has its own colors: a black one none, so that colors
fade to it.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax import color, sizes
from vitexco_jax.inference.video_colorizer import Prediction
from vitexco_jax.models.mixing import mix, trust
from vitexco_jax.structs import Array


class Colors(NamedTuple):
  """Frames with mixed colors."""

  rgb: np.ndarray  # [t, H, W, 3]
  ab: Array  # [t, h, w, 2]
  confidence: Array  # [t, h, w, 1]


class Uncolored(NamedTuple):
  """Frames that have colors of the other direction only."""

  rgb: np.ndarray  # [t, H, W, 3]


def uncolored(rgb: Iterable[np.ndarray]) -> Iterator[Uncolored]:
  """Yields single frames without colors."""
  for frame in rgb:
    yield Uncolored(frame[None])


def mix_directions(
  predictions: Iterable[Prediction | Uncolored],
  stretch: range,
  start: int,
  backwards: np.ndarray,
  tolerance: float,
) -> Iterator[Colors]:
  """Mixes colors of both directions.

  Args:
    predictions: forwards, from frame `start` on.
    stretch: frames between the references, with the one of the first.
    start: number of the first frame.
    backwards: [frames of the stretch, h, w, 3]: ab and confidence.
    tolerance: difference of confidence that multiplies a share by e.
  """
  for prediction in predictions:
    rgb = prediction.rgb
    place = start - stretch.start
    start += len(rgb)
    back = backwards[place : place + len(rgb)].astype(np.float32)
    back_ab, back_confidence = back[..., :2], back[..., 2:]
    if isinstance(prediction, Uncolored):
      yield Colors(rgb, back_ab, back_confidence)
      continue
    # 1 at the reference before the stretch, 0 at the one after it.
    near = 1 - (place + np.arange(len(rgb))) / (stretch.stop - stretch.start)
    ab, confidence = _mix(
      tolerance,
      near.astype(np.float32)[:, None, None, None],
      prediction.ab,
      prediction.confidence,
      back_ab,
      back_confidence,
    )
    yield Colors(rgb, ab, confidence)


def mix_dissolve(
  predictions: Iterable[Prediction | Colors | Uncolored],
  dissolve: range,
  start: int,
  entering: np.ndarray | None,
  first: int,
) -> Iterator[Colors]:
  """Mixes the colors of both shots of a dissolve.

  Args:
    predictions: of the first shot, from frame `start` on; without colors if it
      stays as it is.
    dissolve: its frames.
    start: number of the first frame.
    entering: [t, h, w, 3], ab and confidence of the next shot in frames of the
      dissolve; None: it stays as it is.
    first: number of the first of these frames.
  """
  for prediction in predictions:
    rgb = prediction.rgb
    # Of the next shot.
    shares = (start - dissolve.start + 1 + np.arange(len(rgb))) / (
      len(dissolve) + 1
    )
    following = None
    if entering is not None:
      place = start - first
      following = entering[place : place + len(rgb)].astype(np.float32)
    start += len(rgb)
    if isinstance(prediction, Uncolored):
      assert following is not None  # One of the shots is colorized.
      own = _own_colors(following.shape[1:3], rgb)
    else:
      own = jnp.concatenate([prediction.ab, prediction.confidence], -1)
    if following is None:
      following = _own_colors(own.shape[1:3], rgb)
    mixed = _cross_fade(
      shares.astype(np.float32)[:, None, None, None], following, own
    )
    yield Colors(rgb, mixed[..., :2], mixed[..., 2:])


@functools.partial(jax.jit, static_argnums=0)
def _own_colors(size: tuple[int, int], rgb: np.ndarray) -> jax.Array:
  """Returns ab of [t, H, W, 3] frames, and full confidence: [t, *size, 3]."""
  resize = functools.partial(sizes.resize, size=size)
  ab = jax.vmap(resize)(color.uint8_to_lab(rgb)[..., 1:])
  return jnp.pad(ab, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1.0)


@jax.jit
def _cross_fade(
  share: jax.Array, following: jax.Array, own: jax.Array
) -> jax.Array:
  # As below, the colors of the next shot have the working size.
  following = jax.image.resize(following, own.shape, 'bilinear')
  return mix(share, following, own)


@functools.partial(jax.jit, static_argnums=0)
def _mix(
  tolerance: float,
  near: jax.Array,
  ab: jax.Array,
  confidence: jax.Array,
  back_ab: jax.Array,
  back_confidence: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  # Colors propagated backwards have the working size; the others may be finer.
  back_ab, back_confidence = (
    jax.image.resize(x, (*ab.shape[:3], x.shape[-1]), 'bilinear')
    for x in (back_ab, back_confidence)
  )
  certain = trust(confidence - back_confidence, tolerance)
  share = near / (near + (1 - near) * certain)
  return (
    mix(share, ab, back_ab),
    mix(share, confidence, back_confidence),
  )
