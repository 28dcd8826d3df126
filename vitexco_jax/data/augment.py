"""Training samples made more various: framed anew, and worn like old film.

Two halves, in two places, each steered by `config.augment`:

  reframe   on the host, one sample at a time: mirrors a clip and cuts a window
            out of it, with its reference, flow and visibility.
  degrade   on the device, a batch at a time: blurs and flickers the luminance
            that the networks see, and adds grain and noise. The truth and the
            luminance of the frame before are not its business: they stay clean.

All chance comes from the generator or the key that is handed in. What is off
draws nothing, so that switching one thing on leaves the others as they were.
"""

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.flow import resize_flow, stays_inside
from vitexco_jax.structs import Clips

_BOUNDS = {
  'flip': (0, 1),
  'crop': (0.1, 1),
  'blur': (0, 10),
  'flicker': (0, 1),
  'grain': (0, 50),
  'luminance_noise': (0, 50),
}
_GRAIN_SIGMA = 0.6  # Pixels; 0.5 to 0.7 in three films at 224x384.

_Window = tuple[slice, slice]  # Rows and columns of a picture.


def check(settings: ml_collections.ConfigDict):
  """Raises UserError if a value of `config.augment` is out of bounds."""
  for name, (least, most) in _BOUNDS.items():
    if not least <= settings[name] <= most:
      raise UserError(
        f'config.augment.{name}={settings[name]} must be at least {least} and '
        f'at most {most}'
      )


def reframe(
  clip: Clips, rng: np.random.Generator, flip: float, crop: float
) -> Clips:
  """Mirrors a sample by chance, and cuts a random window out of it.

  The window has the frame's aspect and is the same in all frames of the clip,
  which are scaled back to their size, the flow and its vectors with them. The
  clip's own first frame as reference gets that window too, as it stands for the
  colored frame before the first (see `train.generate`). Any other reference
  gets a window of its own: references are not framed like the video where the
  networks are used, and if they were, matching could go by the position.

  Args:
    clip: a single sample: arrays without the axis b.
    rng: decides.
    flip: probability that left and right change places.
    crop: the smallest share of each side that a window keeps; 1: no window.

  Returns:
    The sample, of the same shapes and types. A pixel stays visible if all those
    were that its flow is mixed of, and if that flow still ends in the window.
  """
  if rng.random() < flip:
    clip = _mirror(clip)
  if crop == 1:
    return clip
  size = clip.rgb.shape[1:3]
  window = _draw_window(size, rng, crop)
  of_reference = window
  if not clip.first_frame:
    of_reference = _draw_window(size, rng, crop)
  flows = [resize_flow(flow[window], size) for flow in clip.flow]
  visible = [
    (_zoom(np.float32(was), window, cv2.INTER_LINEAR) > 0.999)
    & stays_inside(flow)
    for was, flow in zip(clip.visible, flows, strict=True)
  ]
  return clip._replace(
    rgb=np.stack([_zoom(rgb, window) for rgb in clip.rgb]),
    reference=_zoom(clip.reference, of_reference),
    flow=np.stack(flows),
    visible=np.stack(visible)[..., None].astype(np.uint8),
  )


def _mirror(clip: Clips) -> Clips:
  """Swaps left and right; dx changes its sign."""
  return clip._replace(
    rgb=clip.rgb[..., ::-1, :],
    reference=clip.reference[..., ::-1, :],
    flow=clip.flow[..., ::-1, :] * np.float32([-1, 1]),
    visible=clip.visible[..., ::-1, :],
  )


def _draw_window(
  size: tuple[int, int], rng: np.random.Generator, smallest: float
) -> _Window:
  share = rng.uniform(smallest, 1)
  window = []
  for side in size:
    kept = round(share * side)
    start = int(rng.integers(side - kept + 1))
    window.append(slice(start, start + kept))
  return tuple(window)


def _zoom(
  picture: np.ndarray, window: _Window, interpolation: int = cv2.INTER_CUBIC
) -> np.ndarray:
  """Scales a window of a picture to the size of the whole."""
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
  """Wears luminance like old film, in the order in which that happens.

  Blur, flicker and grain are up to as strong as said: each clip draws its share
  of each between 0 and 1. A strength of 0 leaves a step out.

  Args:
    luminance: [b, t, h, w, 1] float, L - 50.
    key: decides.
    blur: of a soft lens: sigma of a Gaussian in pixels, the same all over a
      clip. Outside the picture is nothing: at its border the rest counts more.
    flicker: of the exposure: each frame's L is multiplied by a gain of its own,
      at most this far from 1, and kept within [0, 100].
    grain: of the film: standard deviation in L at mid gray, fading to none at
      black and white; new in each frame, correlated in space.
    luminance_noise: standard deviation in L of each pixel by itself, the same
      for all clips (DEVC).

  Returns:
    [b, t, h, w, 1].
  """
  b, t = luminance.shape[:2]
  # The noise takes the key as it is: with it alone nothing else is drawn.
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
  """Mixes neighbors with the weights of a Gaussian.

  Args:
    x: [b, t, h, w, c].
    sigma: [b], pixels.
    norm: of each pixel's weights along a side: 1 keeps the level of a picture, 2
      the variance of white noise, up to the border.
  """

  def weights(side):
    place = jnp.arange(side, dtype=jnp.float32)
    distance = place[:, None] - place
    width = jnp.maximum(sigma, 1e-3)[:, None, None]  # 0 would give 0 / 0.
    weights = jnp.exp(-0.5 * jnp.square(distance / width))
    return weights / jnp.linalg.norm(weights, norm, axis=-1, keepdims=True)

  highest = jax.lax.Precision.HIGHEST  # GPUs would round to TF32.
  down, across = (weights(side) for side in x.shape[2:4])
  x = jnp.einsum('bij,btjwc->btiwc', down, x, precision=highest)
  return jnp.einsum('bij,bthjc->bthic', across, x, precision=highest)
