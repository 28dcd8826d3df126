"""The training objective, Sec. III-D: what each loss compares.

`losses.py` defines the losses as functions of arrays. Here a batch of clips is
colorized, and each loss with a weight above 0 gets its arrays. In each clip, the
losses on the prediction are those of the frames after the first; the first is
given to the networks as the previous frame.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from vitexco_jax import color
from vitexco_jax.data import augment
from vitexco_jax.models.discriminator import Discriminator
from vitexco_jax.models.vitexco import Generator
from vitexco_jax.pretrained import vgg16
from vitexco_jax.structs import Array, Clips
from vitexco_jax.training import forward, losses
from vitexco_jax.training.forward import Generated

# (params, RGB [n, h, w, 3] in [0, 1], levels) to features by level, finest first.
Features = Callable[
  [Mapping[str, Any], jax.Array, Sequence[int]], Sequence[jax.Array]
]
# (params, spectral, clips, key) to unweighted losses by name, new spectral.
Terms = Callable[
  [Mapping[str, Any], Mapping[str, Any], Clips, jax.Array],
  tuple[dict[str, jax.Array], Mapping[str, Any]],
]


def make_terms(
  generator: Generator,
  discriminator: Discriminator | None,
  settings: ml_collections.ConfigDict,
  augmentation: ml_collections.ConfigDict,
  unroll: int,
  axis: str | None,
) -> Terms:
  """Makes `terms(params, spectral, clips, key)`, the losses of a batch.

  `terms` returns the losses by name, without their weights, and the new spectral
  vectors of the discriminator; `discriminator` is the discriminator's loss, all
  others are the generator's. Losses of weight 0 are left out.

  Args:
    generator: colorizes the clips.
    discriminator: None if the adversarial loss has no weight.
    settings: `config.loss`.
    augmentation: `config.augment`.
    unroll: number of frames that a scan unrolls; 0: all on CPU, 1 on GPU.
    axis: the name of the mapped axis of devices that share the batch, or None.
  """
  features = _make_features(settings.features, generator)
  weights = settings.weights
  degrade = functools.partial(
    augment.degrade,
    blur=augmentation.blur,
    flicker=augmentation.flicker,
    grain=augmentation.grain,
    luminance_noise=augmentation.luminance_noise,
  )
  # The gradient of a scan is slow on XLA's CPU backend.
  unrolls_all = not unroll and jax.default_backend() == 'cpu'

  def terms(
    params: Mapping[str, Any],
    spectral: Mapping[str, Any],
    clips: Clips,
    key: jax.Array,
  ) -> tuple[dict[str, jax.Array], Mapping[str, Any]]:
    frames = clips.rgb.shape[1] if unrolls_all else max(unroll, 1)
    generated = forward.generate(generator, params, clips, degrade, frames, key)
    values = {}
    if weights.l1:
      same_only = settings.l1_same_video_only
      values['l1'] = _l1(generated, clips.same_video if same_only else None)
    if weights.warped:
      values['warped'] = _warped(generated, clips.same_video)
    if weights.error:
      values['error'] = losses.expected_error(
        generated.log_error, generated.ab, generated.lab[..., 1:]
      )
    if weights.perceptual or weights.contextual:
      bound = functools.partial(features, params)
      values |= _feature_losses(bound, generated, clips, weights)
    if weights.temporal:
      values['temporal'] = _temporal(generated, clips)
    if weights.smoothness:
      values['smoothness'] = losses.smoothness(
        _current(generated.ab), _current(generated.lab)
      )
    if discriminator is not None:
      adversarial, spectral = _adversarial(
        discriminator, params['discriminator'], spectral, generated, axis
      )
      values |= adversarial
    return values, spectral

  return terms


def _make_features(kind: str, generator: Generator) -> Features:
  """Returns the features for the perceptual and contextual losses.

  Args:
    kind: `config.loss.features`.
    generator: provides the Feature Transform; its parameters get no gradient.
  """
  if kind == 'vgg16':
    vgg = vgg16.load_vgg16()
    return lambda params, rgb, levels: vgg16.vgg16_features(vgg, rgb, levels)

  def features(
    params: Mapping[str, Any], rgb: jax.Array, levels: Sequence[int]
  ) -> Sequence[jax.Array]:
    frozen = jax.lax.stop_gradient(forward.generator_params(params))
    apply: Callable[..., Any] = generator.apply
    return apply({'params': frozen}, rgb, levels, method='features')

  return features


def _current(x: Array) -> jax.Array:
  """Frames 2 to t of each clip: [b, t, ...] to [b * (t - 1), ...]."""
  return jnp.asarray(x[:, 1:]).reshape(-1, *x.shape[2:])


def _previous(x: jax.Array) -> jax.Array:
  """The previous frames of `_current(x)`, in the same order."""
  return x[:, :-1].reshape(-1, *x.shape[2:])


def _l1(generated: Generated, included: Array | None) -> jax.Array:
  """L1 of the prediction; `included` [b] bool selects clips, None: all."""
  t = generated.ab.shape[1]
  sample_weight = None
  if included is not None:
    sample_weight = jnp.repeat(included.astype(jnp.float32), t - 1)
  return losses.l1(
    _current(generated.ab), _current(generated.lab[..., 1:]), sample_weight
  )


def _warped(generated: Generated, same_video: Array) -> jax.Array:
  """L1 of the warped color of all frames, if the reference is of their video."""
  _, t, h, w, _ = generated.lab.shape
  return losses.l1(
    jnp.asarray(generated.guidance.warped_ab).reshape(-1, h, w, 2),
    generated.lab[..., 1:].reshape(-1, h, w, 2),
    jnp.repeat(same_video.astype(jnp.float32), t),
  )


def _predicted_rgb(generated: Generated) -> jax.Array:
  """The prediction as RGB, [b * (t - 1), h, w, 3]."""
  luminance = _current(generated.lab)[..., :1]
  lab = jnp.concatenate([luminance, _current(generated.ab)], -1)
  return color.lab_to_rgb(color.uncenter(lab))


def _feature_losses(
  features: Callable[[jax.Array, Sequence[int]], Sequence[jax.Array]],
  generated: Generated,
  clips: Clips,
  weights: Mapping[str, float],
) -> dict[str, jax.Array]:
  """The perceptual and the contextual loss, if they have a weight.

  Args:
    features: of RGB in [0, 1], [n, h, w, 3], by level.
    generated: true and predicted clips.
    clips: [b, t, h, w, ...].
    weights: `config.loss.weights`.
  """
  values = {}
  prediction = features(_predicted_rgb(generated), (3, 4, 5))
  if weights['perceptual']:
    truth = forward.unit_range(_current(clips.rgb))
    (true_features,) = features(truth, (5,))
    values['perceptual'] = losses.perceptual(prediction[-1], true_features)
  if weights['contextual']:
    reference = features(forward.unit_range(clips.reference), (3, 4, 5))
    repeats = clips.rgb.shape[1] - 1
    values['contextual'] = losses.contextual(
      prediction, [jnp.repeat(x, repeats, 0) for x in reference]
    )
  return values


def _temporal(generated: Generated, clips: Clips) -> jax.Array:
  return losses.temporal(
    _current(generated.ab),
    _previous(generated.ab),
    jnp.asarray(clips.flow).reshape(-1, *clips.flow.shape[2:]),
    jnp.asarray(clips.visible).reshape(-1, *clips.visible.shape[2:]),
  )


def _adversarial(
  discriminator: Discriminator,
  params: Mapping[str, Any],
  spectral: Mapping[str, Any],
  generated: Generated,
  axis: str | None,
) -> tuple[dict[str, jax.Array], Mapping[str, Any]]:
  """The losses of generator and discriminator on pairs of successive frames.

  Args:
    discriminator: the network.
    params: of the discriminator.
    spectral: its power-iteration vectors.
    generated: true and predicted clips.
    axis: of the devices, or None.

  Returns:
    The losses `adversarial` and `discriminator`, and the new spectral vectors.
  """

  def pairs(
    ab: jax.Array,
  ) -> jax.Array:  # [b * (t - 1), h, w, 6], L not centered.
    lab = jnp.concatenate([generated.lab[..., :1], ab], -1)
    lab = color.uncenter(lab)
    return jnp.concatenate([_current(lab), _previous(lab)], -1)

  real, fake = pairs(generated.lab[..., 1:]), pairs(generated.ab)

  def scores(
    params: Mapping[str, Any], fake: jax.Array
  ) -> tuple[jax.Array, jax.Array, Mapping[str, Any]]:
    both, updated = discriminator.apply(
      {'params': params, 'batch_stats': spectral},
      jnp.concatenate([real, fake]),
      True,
      mutable='batch_stats',
    )
    real_scores, fake_scores = jnp.split(both, 2)
    return real_scores, fake_scores, updated['batch_stats']

  # Both calls share one forward pass: XLA finds that they compute the same values.
  real_scores, fake_scores, _ = scores(jax.lax.stop_gradient(params), fake)
  generator_loss = losses.adversarial_generator(real_scores, fake_scores, axis)
  real_scores, fake_scores, spectral = scores(
    params, jax.lax.stop_gradient(fake)
  )
  discriminator_loss = losses.adversarial_discriminator(
    real_scores, fake_scores, axis
  )
  return {
    'adversarial': generator_loss,
    'discriminator': discriminator_loss,
  }, spectral
