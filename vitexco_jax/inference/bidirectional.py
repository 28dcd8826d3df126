"""Mixes colors that were propagated forwards and backwards.

Between two bound references, a frame gets colors from both. Their shares depend on
how near each reference is and on the confidence of each prediction.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np

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
