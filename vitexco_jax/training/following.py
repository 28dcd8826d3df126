"""A measure of how much a prediction follows its reference.

A network can lower every loss and still ignore the reference, because it learns which
colors go with which lightness. To detect this, the same frames are colorized twice:
with the clip's first frame as reference, and with that frame in complementary colors.
If the frames were recolored in the same way, the true colors would change by `target`;
the prediction changes by `change`:

  follow = sum(change * target) / sum(target ** 2)

1: the prediction changes as the reference does. 0: the reference is ignored. The first
frame does not count. The networks do not get the reference as its previous frame, so
that its colors can reach the prediction only by the matching.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax import color
from vitexco_jax.structs import Array, Clips
from vitexco_jax.training.forward import Generated


def recolor(rgb: Array) -> jax.Array:
  """Returns complementary colors of the same lightness, clipped to sRGB.

  Args:
    rgb: [..., 3] uint8.

  Returns:
    [..., 3] uint8.
  """
  lab = color.rgb_to_lab(jnp.asarray(rgb, jnp.float32) / 255.0)
  mirrored = color.lab_to_rgb(lab * jnp.array([1.0, -1.0, -1.0]))
  return jnp.round(mirrored * 255.0).astype(jnp.uint8)


def measure(
  preview: Callable[[Mapping[str, Any], Clips], Generated],
  params: Mapping[str, Any],
  clips: Clips,
) -> dict[str, float]:
  """Measures how much the warped colors and the prediction follow.

  Args:
    preview: colorizes clips; returns a `forward.Generated`.
    params: by group.
    clips: [b, t, h, w, ...]; their references are not used.

  Returns:
    `follow/warped`, that of the matching, and `follow/prediction`.
  """
  plain = clips._replace(
    reference=clips.rgb[:, 0], first_frame=np.zeros_like(clips.first_frame)
  )
  recolored = plain._replace(reference=np.asarray(recolor(plain.reference)))
  before, after = preview(params, plain), preview(params, recolored)
  later = clips.rgb[:, 1:]
  target = _ab(recolor(later)) - _ab(later)

  def follow(x: Array, y: Array) -> float:
    change = (y - x)[:, 1:]
    return float((change * target).sum() / jnp.maximum((target**2).sum(), 1e-6))

  return {
    'follow/warped': follow(
      before.guidance.warped_ab, after.guidance.warped_ab
    ),
    'follow/prediction': follow(before.ab, after.ab),
  }


def _ab(rgb: Array) -> jax.Array:
  """Converts uint8 RGB [..., 3] to ab [..., 2]."""
  return color.rgb_to_lab(jnp.asarray(rgb, jnp.float32) / 255.0)[..., 1:]
