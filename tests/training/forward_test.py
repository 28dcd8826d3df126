"""The forward pass of training: degraded input, clean truth, previous frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from skimage import color as skcolor
from tiny_training import GROUPS, random_clips

from vitexco_jax import color
from vitexco_jax.data import augment
from vitexco_jax.structs import Guidance, Reference
from vitexco_jax.training import forward


class _Recorder:
  """A generator that returns its inputs: `warped_ab` and `confidence` are the
  luminance to match, `ab` is the luminance to color and that of the previous frame.
  """

  follows_motion = False
  carried = 0

  def apply(self, variables, *args, method, rngs=None, **kwargs):
    return getattr(self, method)(*args, **kwargs)

  def encode_reference(self, rgb, train):
    return Reference(color.center(color.rgb_to_lab(rgb)), None, None)

  def guide(self, luminance, reference, train):
    return Guidance(luminance.repeat(2, -1), luminance)

  def guide_along(self, luminance, reference, backward_flow, anchor, train):
    anchored = jnp.ones_like(luminance[:, 1:])
    guidance = self.guide(luminance[:, 1:], reference, train)
    return guidance._replace(anchored=anchored)

  def colorize_frame(self, luminance, guidance, previous_lab):
    return jnp.concatenate([luminance, previous_lab[..., :1]], -1)


def test_only_the_input_is_degraded():
  clips = random_clips(4)
  params = dict.fromkeys(GROUPS)
  degrade = functools.partial(
    augment.degrade, blur=1.0, flicker=0.1, grain=2.0, luminance_noise=2.0
  )

  @jax.jit
  def generate(clips, key=None):
    return forward.generate(_Recorder(), params, clips, degrade, key=key)

  plain, degraded = generate(clips), generate(clips, jax.random.key(0))
  truth = skcolor.rgb2lab(clips.rgb) - (50, 0, 0)
  for lab in (plain.lab, degraded.lab):
    np.testing.assert_allclose(lab, truth, atol=2e-3)
  np.testing.assert_array_equal(plain.ab[..., :1], plain.lab[..., :1])

  luminance = degraded.guidance.confidence
  assert np.abs(luminance - degraded.lab[..., :1]).mean() > 1
  np.testing.assert_array_equal(degraded.ab[..., :1], luminance)
  # The previous frame: the reference or nothing, then the clean one.
  previous = skcolor.rgb2lab(clips.reference)[..., :1] - 50
  previous[~clips.first_frame] = 0
  np.testing.assert_allclose(degraded.ab[:, 0, ..., 1:], previous, atol=2e-3)
  np.testing.assert_array_equal(
    degraded.ab[:, 1:, ..., 1:], degraded.lab[:, :-1, ..., :1]
  )


def test_a_mixture_gets_the_previous_frame_along_the_flow():
  """By whole pixels; a reference that is the first frame is not moved."""
  clips = random_clips(4)
  flow = np.zeros_like(clips.backward_flow)
  flow[..., 1] = 3.0
  recorder = _Recorder()
  recorder.follows_motion = True
  generated = jax.jit(functools.partial(forward.generate, recorder))(
    dict.fromkeys(GROUPS), clips._replace(backward_flow=flow)
  )
  previous = generated.lab[:, :-1, 3:, :, :1]
  np.testing.assert_allclose(
    generated.ab[:, 1:, :-3, :, 1:], previous, atol=1e-3
  )
  reference = skcolor.rgb2lab(clips.reference)[..., :1] - 50
  first = clips.first_frame
  # Other references are no anchors.
  assert (generated.guidance.anchored[first] == 1).all()
  assert not generated.guidance.anchored[~first].any()
  np.testing.assert_allclose(
    generated.ab[first, 0, ..., 1:], reference[first], atol=2e-3
  )
