"""Data augmentation: random crops, flips, and artifacts of old film.

Two functions, both configured by `config.augment`:

  reframe   on the host, per sample: flips a clip and crops a window, together
            with reference, flow, and visibility.
  degrade   on the device, per batch: adds blur, flicker, grain, and noise to the
            luminance that the networks see. The truth and the luminance of the
            previous frame stay clean.

All randomness comes from the given generator or key. Disabled augmentations draw no
random numbers, so enabling one does not change the others.
"""

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax.flow import resize_flow, stays_inside
from vitexco_jax.structs import Clips

_GRAIN_SIGMA = 0.6  # Pixels; 0.5 to 0.7 in three films at 224x384.

_Window = tuple[slice, slice]  # Rows and columns of a picture.


def reframe(
  clip: Clips, rng: np.random.Generator, flip: float, crop: float
) -> Clips:
  """Randomly flips a sample and crops it to a random window.

  The window has the frame's aspect ratio and is the same in all frames of the clip.
  Frames and flow are scaled back to full size. If the reference is the first frame
  of the clip, it gets the same window, since it also serves as the previous colored
  frame (see `forward.generate`). Any other reference gets a different window: at
  inference references are framed differently from the video, and matching must not
  rely on positions.

  Args:
    clip: a single sample: arrays without the axis b.
    rng: source of randomness.
    flip: probability of a horizontal flip.
    crop: minimum share of each side in a window; 1: no crop.

  Returns:
    The sample, with the same shapes and types. A pixel stays visible if all pixels
    that its flow is interpolated from were visible, and the flow ends within the
    window.
  """
  if rng.random() < flip:
    clip = _mirror(clip)
  if crop == 1:
    return clip
  height, width = clip.rgb.shape[1:3]
  size = height, width
  window = _draw_window(size, rng, crop)
  of_reference = window
  if not clip.first_frame:
    of_reference = _draw_window(size, rng, crop)
  flows = [resize_flow(flow[window], size) for flow in clip.flow]
  visible = [
    (_zoom(mask.astype(np.float32), window, cv2.INTER_LINEAR) > 0.999)
    & stays_inside(flow)
    for mask, flow in zip(clip.visible, flows, strict=True)
  ]
  return clip._replace(
    rgb=np.stack([_zoom(rgb, window) for rgb in clip.rgb]),
    reference=_zoom(np.asarray(clip.reference), of_reference),
    flow=np.stack(flows),
    visible=np.stack(visible)[..., None].astype(np.uint8),
  )


def _mirror(clip: Clips) -> Clips:
  """Flips horizontally and negates dx."""
  return clip._replace(
    rgb=clip.rgb[..., ::-1, :],
    reference=clip.reference[..., ::-1, :],
    flow=clip.flow[..., ::-1, :] * np.array([-1, 1], np.float32),
    visible=clip.visible[..., ::-1, :],
  )


def _draw_window(
  size: tuple[int, int], rng: np.random.Generator, smallest: float
) -> _Window:
  share = rng.uniform(smallest, 1)

  def draw(side: int) -> slice:
    length = round(share * side)
    start = int(rng.integers(side - length + 1))
    return slice(start, start + length)

  height, width = size
  return draw(height), draw(width)


def _zoom(
  picture: np.ndarray, window: _Window, interpolation: int = cv2.INTER_CUBIC
) -> np.ndarray:
  """Scales a window of a picture to the size of the picture."""
  height, width = picture.shape[:2]
  return cv2.resize(
    picture[window], (width, height), interpolation=interpolation
  )


def degrade(
  luminance: jax.Array,
  key: jax.Array,
  *,
  blur: float = 0.0,
  flicker: float = 0.0,
  grain: float = 0.0,
  luminance_noise: float = 0.0,
) -> jax.Array:
  """Adds artifacts of old film to luminance, in their physical order.

  The arguments are maximum strengths of blur, flicker, and grain: each clip draws a
  factor between 0 and 1 for each of them. A strength of 0 skips a step.

  Args:
    luminance: [b, t, h, w, 1] float, L - 50.
    key: source of randomness.
    blur: of a soft lens: sigma of a Gaussian in pixels, constant within a clip;
      its weights are normalized at the border of the picture.
    flicker: of the exposure: each frame's L is multiplied by a random gain that
      differs from 1 by at most this, and clipped to [0, 100].
    grain: of the film: standard deviation in L at mid gray, decreasing to 0 at
      black and white; new in each frame, correlated in space.
    luminance_noise: standard deviation in L of independent noise per pixel, the
      same for all clips (DEVC).

  Returns:
    [b, t, h, w, 1].
  """
  b, t = luminance.shape[:2]
  # The noise uses the key itself, so that it does not depend on the other steps.
  shares, gains, grains = jax.random.split(jax.random.fold_in(key, 1), 3)
  shares = jax.random.uniform(shares, (3, b, 1, 1, 1, 1))
  if blur:
    luminance = _smooth(luminance, blur * shares[0].reshape(b), norm=1)
  if flicker:
    change = jax.random.uniform(gains, (b, t, 1, 1, 1), minval=-1.0)
    gain = 1 + flicker * shares[1] * change
    luminance = jnp.clip((luminance + 50) * gain - 50, -50, 50)
  if grain:
    white = jax.random.normal(grains, luminance.shape)
    unit = _smooth(white, jnp.full(b, _GRAIN_SIGMA), norm=2)
    midtone = 1 - jnp.square(luminance / 50)
    luminance = luminance + grain * shares[2] * midtone * unit
  if luminance_noise:
    noise = jax.random.normal(key, luminance.shape)
    luminance = luminance + luminance_noise * noise
  return luminance


def _smooth(x: jax.Array, sigma: jax.Array, norm: int) -> jax.Array:
  """Applies a Gaussian filter.

  Args:
    x: [b, t, h, w, c].
    sigma: [b], pixels.
    norm: order of the norm by which weights are normalized: 1 preserves the mean
      of a picture, 2 the variance of white noise, also at the border.
  """

  def weights(side: int) -> jax.Array:
    place = jnp.arange(side, dtype=jnp.float32)
    distance = place[:, None] - place
    width = jnp.maximum(sigma, 1e-3)[:, None, None]  # Avoid 0 / 0.
    weights = jnp.exp(-0.5 * jnp.square(distance / width))
    return weights / jnp.linalg.norm(weights, norm, axis=-1, keepdims=True)

  highest = jax.lax.Precision.HIGHEST  # GPUs would round to TF32.
  down, across = (weights(side) for side in x.shape[2:4])
  x = jnp.einsum('bij,btjwc->btiwc', down, x, precision=highest)
  return jnp.einsum('bij,bthjc->bthic', across, x, precision=highest)
