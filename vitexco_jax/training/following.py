"""How far a prediction follows its reference.

A network can lower every loss and still ignore the reference: it learns which
color goes with which lightness. To see whether it does, the same frames are
colored twice, by their clip's own first frame as it is, and by that frame in
complementary colors. Had the frames been recolored in the same way, the truth
would change by `wanted`; the prediction changes by `found`:

  follow = sum(found * wanted) / sum(wanted ** 2)

1: all of the change arrives. 0: the reference is ignored. The first frame does not
count, and does not see the reference as the frame before it, so that colors can
come by the matching alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax import color
from vitexco_jax.structs import Clips


def recolor(rgb: jax.Array) -> jax.Array:
  """Complementary colors of the same lightness, as far as sRGB holds them.

  Args:
    rgb: [..., 3] uint8.

  Returns:
    [..., 3] uint8.
  """
  lab = color.rgb_to_lab(jnp.asarray(rgb, jnp.float32) / 255.0)
  mirrored = color.lab_to_rgb(lab * jnp.array([1.0, -1.0, -1.0]))
  return jnp.round(mirrored * 255.0).astype(jnp.uint8)


def measure(
  preview: Callable[[Mapping[str, Any], Clips], Any],
  params: Mapping[str, Any],
  clips: Clips,
) -> dict[str, float]:
  """Measures how far the prediction, and the warped colors, follow.

  Args:
    preview: colors clips; returns a `Generated`.
    params: by group.
    clips: [b, t, h, w, ...]; their references are not looked at.

  Returns:
    `follow/warped`, that of the matching alone, and `follow/prediction`.
  """
  plain = clips._replace(
    reference=clips.rgb[:, 0], first_frame=np.zeros_like(clips.first_frame)
  )
  mirrored = plain._replace(reference=np.asarray(recolor(plain.reference)))
  before, after = preview(params, plain), preview(params, mirrored)
  later = clips.rgb[:, 1:]
  wanted = _ab(recolor(later)) - _ab(later)

  def follow(x, y):
    found = (y - x)[:, 1:]
    return float((found * wanted).sum() / jnp.maximum((wanted**2).sum(), 1e-6))

  return {
    'follow/warped': follow(
      before.guidance.warped_ab, after.guidance.warped_ab
    ),
    'follow/prediction': follow(before.ab, after.ab),
  }


def _ab(rgb: jax.Array) -> jax.Array:
  return color.rgb_to_lab(jnp.asarray(rgb, jnp.float32) / 255.0)[..., 1:]
