"""The anchor: its colors are mixed in where the content is equal."""

import jax.numpy as jnp
import numpy as np
from tiny_generator import H, T, W, random_luminance

from vitexco_jax.models.anchor import Anchor
from vitexco_jax.models.vitexco import colorize_clip
from vitexco_jax.structs import Guidance


def test_an_anchor_gives_its_colors_where_lightness_is_equal():
  luminance = random_luminance(b=1)
  guidance = Guidance(jnp.zeros((1, T, 1)), jnp.zeros((1, T, 1)))
  # The first frame of the clip, moved right by two pixels, half of it occluded.
  lab = np.zeros((1, H, W, 3), np.float32)
  lab[..., :1] = np.roll(luminance[:, 0], 2, 2)
  lab[..., 1:] = 30.0
  lab[:, : H // 2, :, :1] += 1000.0
  flow = np.zeros((1, T, H, W, 2), np.float32)
  flow[..., 0] = 2.0

  def tens(luminance, guidance, previous_lab):
    return jnp.full((*luminance.shape[:-1], 2), 10.0)

  weight = np.full((1, T, H, W, 1), 0.4, np.float32)
  weight[:, -1] = 0.0
  anchor = Anchor(jnp.asarray(lab), jnp.asarray(flow), weight)
  ab, last_lab = colorize_clip(
    tens, luminance, guidance, jnp.zeros_like(lab), anchor=anchor
  )
  inner = ab[:, :, :, :-2]  # Two columns are outside of the anchor.
  np.testing.assert_allclose(inner[:, 0, H // 2 :], 18.0, atol=1e-3)
  np.testing.assert_allclose(inner[:, :, : H // 2], 10.0, atol=1e-3)
  difference = np.abs(luminance[:, 1] - luminance[:, 0])
  want = 10 + 20 * 0.4 * np.exp(-difference / 5)
  want = np.broadcast_to(want, (*want.shape[:-1], 2))
  np.testing.assert_allclose(
    ab[:, 1, H // 2 :, :-2], want[:, H // 2 :, :-2], atol=1e-3
  )
  np.testing.assert_array_equal(ab[:, -1], np.full_like(ab[:, -1], 10.0))
  np.testing.assert_array_equal(last_lab[..., 1:], ab[:, -1])
