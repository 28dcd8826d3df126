"""The pretraining objective: features of other networks, and color.

A linear head maps each decoder's output to VGG16's map of the same stride:

  tokens -> decoder -> linear head, discarded after pretraining -> map of VGG16

Each position of VGG16's map is scaled to unit length, as the matching and the
contextual loss normalize features: only the direction counts. The head is needed
because a decoder's own output has another distribution: it is bounded below by a
GELU, has dropout, and in narrow configs has fewer channels than the map. So the
decoder must contain what the map contains, in a form that a linear layer, such as
the first one of the matching, can use.

The loss of a level is the unexplained share of the map's variance, so that all
levels have equal weight.

If the ViT is trained, its class token learns the pooled features of EfficientNet-lite0
of the same picture in color: 1280 channels, projected to as many random orthogonal
directions as the token has. Such a projection nearly preserves cosines, so class
tokens can be compared directly.

With a prior (`config.model.prior`), decoders, class token and prior learn color as
well: from a gray picture they predict ab and its expected error s. With the distance
e of predicted and true ab at each position, the losses are

  color:  (sqrt(e^2 + 10^2) - 10) / 20: large errors do not dominate
  spread: log s + e / s, minimal if s is the expected error
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from vitexco_jax import color
from vitexco_jax.models import efficientnet, layers, prior, vit
from vitexco_jax.models.vitexco import ALL_LEVELS, Generator
from vitexco_jax.pretrained import efficientnet_weights, vgg16
from vitexco_jax.structs import Array
from vitexco_jax.training import forward

_ROBUST = 10.0  # In ab; larger errors count linearly.


class Heads(nn.Module):
  """Linear maps from the decoders' outputs to VGG16's maps."""

  @nn.compact
  def __call__(self, features: Iterable[jax.Array]) -> tuple[jax.Array, ...]:
    """Maps [b, h, w, any] to [b, h, w, channels of VGG16] for each level."""
    return tuple(
      nn.Dense(channels, name=f'level{level}')(x)
      for level, channels, x in zip(
        ALL_LEVELS, vgg16.CHANNELS, features, strict=True
      )
    )


class Fit(NamedTuple):
  """How well maps are reproduced; the mean of several is the Fit of all pictures."""

  error: jax.Array  # Squared, mean over pictures, positions and channels.
  square: jax.Array  # Of the target, the same mean.
  mean: jax.Array  # [c], of the target over pictures and positions.

  def variance(self) -> jax.Array:
    """The target's variance in each channel, mean over channels."""
    return self.square - (self.mean**2).mean()

  def explained(self) -> jax.Array:
    """The explained share of the variance, at most 1; below 0 at first."""
    return 1 - self.error / self.variance()


class Comparison(NamedTuple):
  """The networks' outputs for a batch, compared with their targets."""

  fits: dict[str, Fit]  # By level: `level1`. Empty if maps have no weight.
  class_token: (
    jax.Array | None
  )  # Mean of 1 - cosine; None if the ViT is frozen.
  color: dict[str, jax.Array]  # For gray pictures; empty without a prior.


def make_compare(
  generator: Generator, settings: ml_collections.ConfigDict, trains_vit: bool
) -> Callable[..., Comparison]:
  """Makes `compare(params, heads, rgb, in_gray, key=None)`, a pure function.

  Its arguments are the parameters of the generator and of the heads, pictures
  [b, h, w, 3] uint8, [b] bool, whether the networks get a picture in gray, and a
  key for dropout; None: no dropout.

  Args:
    generator: the networks.
    settings: `config.pretrain`.
    trains_vit: whether class tokens are compared.
  """
  weights = settings.weights
  vgg = vgg16.load_vgg16() if weights.maps else None
  width = vit.VARIANTS[generator.vit['variant']].width
  embed = make_teacher(width) if trains_vit else None
  levels = ALL_LEVELS if weights.maps else prior.LEVELS

  def class_token_distance(
    embedding: jax.Array, rgb: jax.Array
  ) -> jax.Array | None:
    if embed is None:
      return None
    count = -int(-settings.taught * len(rgb) // 1)
    cosine = layers.l2_normalize(embedding[:count]) * embed(rgb[:count])
    return 1 - cosine.sum(-1).mean()

  def compare(
    params: Mapping[str, Any],
    heads: Mapping[str, Any],
    rgb: jax.Array,
    in_gray: jax.Array,
    key: jax.Array | None = None,
  ) -> Comparison:
    rgb = forward.unit_range(rgb)
    lab = color.rgb_to_lab(rgb)
    luminance = color.center(lab)[..., :1]
    inputs = jnp.where(in_gray[:, None, None, None], vit.gray(luminance), rgb)
    apply: Callable[..., Any] = functools.partial(
      generator.apply,
      {'params': params},
      train=key is not None,
      rngs={} if key is None else {'dropout': key},
    )
    colors = {}
    if weights.color:
      seen, predicted = apply(
        inputs, luminance, levels, method='see_and_predict'
      )
      colors = compare_colors(predicted, lab[..., 1:], in_gray)
    else:
      seen = apply(inputs, levels, method='see')
    fits = {}
    if vgg is not None:
      maps = Heads().apply({'params': heads}, seen.features)
      targets = map(make_target, vgg16.vgg16_features(vgg, inputs))
      names = (f'level{level}' for level in ALL_LEVELS)
      fits = dict(zip(names, map(fit, maps, targets), strict=True))
    distance = class_token_distance(seen.embedding, rgb)
    return Comparison(fits, distance, colors)

  return compare


def compare_colors(
  colors: prior.PriorColor, true_ab: jax.Array, counted: Array
) -> dict[str, jax.Array]:
  """Compares predicted colors with the true ones.

  Args:
    colors: at stride 4.
    true_ab: [b, h, w, 2].
    counted: [b] bool, whether a picture counts; all values are 0 if none does.

  Returns:
    The losses `color` and `spread`, and the squared errors of ab of the prior,
    `error`, and of gray, `gray`; means over pictures and positions.
  """
  true_ab = layers.average_pool(true_ab, prior.STRIDE)
  square = jnp.square(colors.ab - true_ab).sum(-1)
  distance = jax.lax.stop_gradient(jnp.sqrt(square + 0.25))
  spread = colors.spread[..., 0]
  values = {
    'color': (jnp.sqrt(square + _ROBUST**2) - _ROBUST) / (2 * _ROBUST),
    'spread': jnp.log(spread) + distance / spread,
    'error': square,
    'gray': jnp.square(true_ab).sum(-1),
  }
  share = jnp.asarray(counted) / jnp.maximum(counted.sum(), 1)
  return {name: share @ x.mean((1, 2)) for name, x in values.items()}


def make_target(vgg_map: jax.Array) -> jax.Array:
  """Scales each position [b, h, w, c] to a mean square of 1 over channels."""
  return layers.l2_normalize(vgg_map) * jnp.sqrt(vgg_map.shape[-1])


def fit(maps: jax.Array, targets: jax.Array) -> Fit:
  """Compares maps with their targets, both [b, h, w, c]."""
  return Fit(
    jnp.square(maps - targets).mean(),
    jnp.square(targets).mean(),
    targets.mean((0, 1, 2)),
  )


def make_teacher(width: int) -> Callable[[jax.Array], jax.Array]:
  """Makes the function that computes the targets of class tokens.

  It maps RGB in [0, 1], [b, h, w, 3], to unit vectors [b, width].
  """
  params = efficientnet_weights.load_efficientnet_lite0()
  # For 1,150 gray pictures, the nearest neighbor has the same ImageNet synset in 33 %
  # with 192 directions, and in 37 % with all features.
  directions = nn.initializers.orthogonal()(
    jax.random.key(0), (efficientnet.WIDTH, width)
  )

  def embed(rgb: jax.Array) -> jax.Array:
    side = efficientnet.SIZE  # The size that it was trained at.
    rgb = jax.image.resize(rgb, (len(rgb), side, side, 3), 'bilinear')
    apply: Callable[..., Any] = efficientnet.EfficientNetLite0().apply
    features = apply({'params': params}, rgb)
    return layers.l2_normalize(features @ directions)

  return embed
