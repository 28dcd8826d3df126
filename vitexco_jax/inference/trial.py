"""Tries references on shots: how well and how much of its frames they match.

Similar embeddings choose candidates, but do not say that the colors will be right.
So the most similar ones are matched with a few frames of the shot, as for
colorizing. `Choice.rank` is the product of the two results.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from vitexco_jax import sizes
from vitexco_jax.inference.shot_plan import Choice
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import borders, video


def try_on_shot(
  moments: Sequence[bytes],
  candidates: Sequence[Choice],
  colorizer: VideoColorizer,
) -> list[Choice]:
  """Tries the references of a shot with the best scores.

  Args:
    moments: frames of the shot, as image files.
    candidates: references with scores.
    colorizer: matches them; its references are replaced. `config.use.tried`
      references are tried.

  Returns:
    The candidates in the same order; those that were tried have a confidence and
    a coverage.

  Raises:
    UserError: a picture cannot be read.
  """
  use = colorizer.config.use
  frames = [video.decode_image(x, 'a frame of the film') for x in moments]
  order = sorted(
    range(len(candidates)), key=lambda i: -(candidates[i].score or 0.0)
  )
  result = list(candidates)
  for number in order[: use.tried]:
    confidence = _match(frames, candidates[number].picture, colorizer)
    result[number] = candidates[number]._replace(
      confidence=round(float(confidence.mean()), 4),
      coverage=round(float((confidence > use.covered_confidence).mean()), 4),
    )
  return result


def _match(
  frames: Sequence[np.ndarray], picture: str, colorizer: VideoColorizer
) -> np.ndarray:
  """Returns the confidence of each position of each frame."""
  rgb = borders.without(video.read_image(picture))
  height, width = sizes.within(rgb.shape[:2], colorizer.bound)
  rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
  confidences = []
  for frame in frames:
    colorizer.set_reference(rgb)  # Without colors of the frame before.
    (prediction,) = colorizer.predict([frame])
    confidences.append(np.asarray(prediction.confidence))
  return np.concatenate(confidences)
