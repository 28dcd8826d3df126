"""Vitexco, Fig. 2: the overall architecture of the network.

  frame, reference -> ViT -> Feature Transform -> correspondence subnet
    -> warped color, confidence map
  frame, warped color, confidence map, previous frame in color
    -> colorization subnet -> color of the frame

`encode_reference` computes once what depends only on the reference, and `guide`
matches any number of frames. Only the colorization subnet needs the previous
frame: `colorize_clip` scans it over time.

Additions to the paper are in their own files: `stem` (a hybrid ViT), `references`
(several references, principal components), `prior` (colors without a reference),
`motion` (colors of other frames by optical flow), and `mixture` (a colorization
subnet that chooses between all of these).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax import color, flow
from vitexco_jax.models import (
  cells,
  efficientnet,
  feature_transform,
  layers,
  references,
  settings,
  vit,
)
from vitexco_jax.models import correspondence as matching
from vitexco_jax.models import motion as motions
from vitexco_jax.models import prior as priors
from vitexco_jax.models import stem as stems
from vitexco_jax.models.colorizer import Colorizer
from vitexco_jax.models.mixture import CARRIED, Mixture
from vitexco_jax.models.motion import Motion
from vitexco_jax.structs import Guidance, Reference, Seen

ALL_LEVELS = settings.LEVELS


class Generator(nn.Module):
  """Both subnets, for one frame at a time.

  Each attribute holds the settings of one network, as keyword arguments;
  `correspondence` also holds `temperature` and `block` of `correspondence.match`,
  and, in use, `cells`, the count of `cells.match`; `colorizer` holds `kind`: `u_net`, the paper's, or `mixture`.

  Attributes:
    vit: settings of `vit.VisionTransformer`.
    feature_transform: settings of `feature_transform.FeatureTransform`.
    correspondence: settings of `correspondence.CorrespondenceNet`.
    colorizer: settings of `colorizer.Colorizer`.
    mixture: settings of `mixture.Mixture`, which replaces it.
    stem: the convolutional network before the ViT, `efficientnet_lite0`, or ''
      for none, as in the paper.
    dtype: of convolutions and matrix products, `float32` or `bfloat16`.
    prior: settings of `prior.Prior`; with a width of 0 there is none.
    motion: how far colors are propagated along optical flow.
  """

  vit: Mapping[str, Any]
  feature_transform: Mapping[str, Any]
  correspondence: Mapping[str, Any]
  colorizer: Mapping[str, Any]
  mixture: Mapping[str, Any] = flax.core.FrozenDict()
  stem: str = ''
  dtype: str = 'float32'
  prior: Mapping[str, Any] = flax.core.FrozenDict(width=0.0)
  motion: Motion = Motion()

  def setup(self) -> None:
    """Creates the networks."""
    settings.check(self)
    dtype = jnp.dtype(self.dtype)
    net = dict(self.correspondence)
    self.temperature = net.pop('temperature')
    self.block = net.pop('block')
    self.cells = net.pop('cells', 0)
    self.levels = tuple(net['levels'])
    if self.stem:
      self.stem_net = efficientnet.EfficientNetLite0(name='stem')
    self.vit_net = vit.VisionTransformer(
      **self.vit,
      dtype=dtype,
      input_stride=stems.STRIDE if self.stem else 1,
      name='vit',
    )
    self.feature_transform_net = feature_transform.FeatureTransform(
      **self.feature_transform,
      patch=vit.checked_sizes(self.vit['variant'], self.vit['taps']).patch,
      dtype=dtype,
      name='feature_transform',
    )
    self.correspondence_net = matching.CorrespondenceNet(
      **net, maps=4 if self.stem else 0, dtype=dtype, name='correspondence'
    )
    self.colorizer_net: Mixture | Colorizer
    colorizer = dict(self.colorizer)
    if colorizer.pop('kind') == 'mixture':
      self.colorizer_net = Mixture(
        **self.mixture, dtype=dtype, name='colorizer'
      )
    else:
      self.colorizer_net = Colorizer(**colorizer, dtype=dtype, name='colorizer')
    if self.has_prior:
      self.prior_net = priors.Prior(**self.prior, dtype=dtype, name='prior')

  @property
  def follows_motion(self) -> bool:
    """Whether the colorizer needs optical flow to the previous frame."""
    return self.colorizer['kind'] == 'mixture'

  @property
  def flow_alpha(self) -> float | None:
    """Smoothness of this optical flow; None without it."""
    return self.motion.flow_alpha if self.follows_motion else None

  @property
  def carried(self) -> int:
    """Number of channels that each frame passes to the next one in addition to Lab."""
    return CARRIED if self.follows_motion else 0

  @property
  def uses_anchor(self) -> bool:
    """Whether the colorizer uses references that are frames of the clip."""
    return self.follows_motion and self.mixture['anchor_weight'] > 0

  @property
  def has_prior(self) -> bool:
    """Whether frames can be colorized without a reference."""
    return self.prior['width'] > 0

  def see(
    self,
    rgb: jax.Array,
    levels: Sequence[int] = ALL_LEVELS,
    train: bool = False,
  ) -> Seen:
    """Runs the ViT and the Feature Transform.

    Args:
      rgb: [b, h, w, 3] in [0, 1], gray for a frame; h and w multiples of 16.
      levels: which of the five levels to compute, counted from 1, finest first.
      train: whether to apply dropout (rng `dropout`).

    Returns:
      Features of these levels, embedding, and maps of the stem.
    """
    image = vit.normalize(rgb)
    maps: tuple[jax.Array, ...] = ()
    laterals: Sequence[jax.Array | None] = (None,) * len(ALL_LEVELS)
    if self.stem:
      pyramid = self.stem_net.pyramid(rgb)
      maps = pyramid[1:]
      laterals = stem_laterals = stems.make_laterals(pyramid)
      image = stem_laterals[-1]
    taps, embedding = self.vit_net(image)
    features = self.feature_transform_net(taps, levels, train, laterals)
    return Seen(features, embedding, maps)

  def features(
    self,
    rgb: jax.Array,
    levels: Sequence[int] = ALL_LEVELS,
    train: bool = False,
  ) -> tuple[jax.Array, ...]:
    """Returns the features of `see`, [b, h/stride, w/stride, c] per level."""
    return self.see(rgb, levels, train).features

  def encode_reference(self, rgb: jax.Array, train: bool = False) -> Reference:
    """Computes what depends only on the reference.

    Args:
      rgb: [b, h, w, 3] in [0, 1]; h and w multiples of 16.
      train: whether to apply dropout (rng `dropout`).

    Returns:
      Color, keys, and pooled color of the reference.
    """
    return self.make_reference(rgb, self.see(rgb, self.levels, train))

  def make_reference(self, rgb: jax.Array, seen: Seen) -> Reference:
    """Does what `encode_reference` does, from the output of `see`.

    Args:
      rgb: see `encode_reference`.
      seen: output for it, with the levels that matching uses.
    """
    lab = color.center(color.rgb_to_lab(rgb))
    keys = self.correspondence_net.keys(seen.features, seen.maps)
    ab = layers.average_pool(lab[..., 1:], matching.STRIDE)
    return Reference(lab, keys, ab.reshape(*keys.shape[:2], 2))

  def encode_frames(
    self, luminance: jax.Array, train: bool = False
  ) -> jax.Array:
    """Computes the queries of frames.

    Args:
      luminance: [b, t, h, w, 1], L - 50; h and w multiples of 16.
      train: whether to apply dropout (rng `dropout`).

    Returns:
      [b, t, h/4, w/4, d], of unit length.
    """
    b, t, h, w, _ = luminance.shape
    pictures = vit.gray(luminance.reshape(b * t, h, w, 1))
    seen = self.see(pictures, self.levels, train)
    return self.make_queries(seen, luminance.shape)

  def make_queries(self, seen: Seen, shape: Sequence[int]) -> jax.Array:
    """Computes the queries of frames from the output of `see`.

    Args:
      seen: output for b * t frames, with the levels that matching uses.
      shape: of the frames, (b, t, h, w, 1).

    Returns:
      [b, t, h/4, w/4, d], of unit length.
    """
    queries = self.correspondence_net.queries(seen.features, seen.maps)
    b, t, h, w, _ = shape
    s = matching.STRIDE
    return queries.reshape(b, t, h // s, w // s, -1)

  def match(self, queries: jax.Array, reference: Reference) -> Guidance:
    """Matches encoded frames with their reference.

    Args:
      queries: [b, t, h/4, w/4, d], from `encode_frames`.
      reference: one for each clip.

    Returns:
      Warped color and confidence, fields [b, t, h/4, w/4, c].
    """
    queries = references.project(queries, reference)
    b, t, n, m, d = queries.shape
    if reference.cells is not None:
      warped_ab, confidence = cells.match(
        queries, reference, self.temperature, self.cells
      )
    else:
      warped_ab, confidence = matching.match(
        queries.reshape(b, -1, d),
        reference.keys,
        reference.ab,
        self.temperature,
        self.block,
      )
    return Guidance(
      warped_ab.reshape(b, t, n, m, 2), confidence.reshape(b, t, n, m, 1)
    )

  def guide(
    self, luminance: jax.Array, reference: Reference, train: bool = False
  ) -> Guidance:
    """Runs the correspondence subnet on all frames of clips.

    Args:
      luminance: [b, t, h, w, 1], L - 50; h and w multiples of 16.
      reference: one for each clip, from `encode_reference`.
      train: whether to apply dropout (rng `dropout`).

    Returns:
      Warped color and confidence, fields [b, t, h, w, c].
    """
    queries = self.encode_frames(luminance, train)
    return upsample(self.match(queries, reference))

  def colorize_frame(
    self,
    luminance: jax.Array,
    guidance: Guidance,
    previous: jax.Array,
    scale: int = 1,
  ) -> jax.Array:
    """Predicts the color of one frame.

    Args:
      luminance: [b, h, w, 1], L - 50.
      guidance: of the frame, fields [b, h, w, c].
      previous: [b, h, w, 3 + carried], the previous frame: Lab, l = L - 50, and
        what else the colorizer returned; zeros if there is none. If
        `follows_motion`, it must be warped to this frame.
      scale: size of the frame relative to the one that was matched.

    Returns:
      [b, h, w, 2 + carried]: ab, and what else the next frame needs.
    """
    net = self.colorizer_net
    if isinstance(net, Mixture):
      stride = scale * matching.STRIDE // 2
      return net(luminance, guidance, previous, stride)
    return net(luminance, guidance.warped_ab, guidance.confidence, previous)

  # Additions to the paper.
  extract = motions.extract
  guide_extracted = motions.guide_extracted
  guide_along = motions.guide_along
  see_and_predict = priors.see_and_predict
  predict_color = priors.predict_color

  def __call__(self, rgb: jax.Array) -> jax.Array:
    """Runs every network once, to initialize the parameters.

    Args:
      rgb: [b, h, w, 3] in [0, 1]; h and w multiples of 16.

    Returns:
      ab, [b, h, w, 2].
    """
    # The first networks run only once, because tracing them takes seconds.
    all_levels = self.see(rgb)  # Losses may use levels that matching does not.

    def take(levels: Sequence[int]) -> tuple[jax.Array, ...]:
      return tuple(all_levels.features[level - 1] for level in levels)

    seen = all_levels._replace(features=take(self.levels))
    reference = self.make_reference(rgb, seen)
    lab = reference.lab
    luminance = lab[..., :1]
    queries = self.make_queries(seen, luminance[:, None].shape)
    guidance = upsample(self.match(queries, reference))
    if self.has_prior:
      self.prior_net(take(priors.LEVELS), seen.embedding, luminance)
    previous = jnp.pad(lab, ((0, 0), (0, 0), (0, 0), (0, self.carried)))
    ab_and_carried = self.colorize_frame(
      luminance, jax.tree.map(lambda x: x[:, 0], guidance), previous
    )
    return ab_and_carried[..., :2]


def upsample(guidance: Guidance) -> Guidance:
  """Repeats cells: fields [b, t, h/4, w/4, c] to [b, t, h, w, c]."""

  def finer(x: jax.Array) -> jax.Array:
    b, t, n, m, c = x.shape
    x = layers.upsample_nearest(x.reshape(b * t, n, m, c), matching.STRIDE)
    return x.reshape(b, t, *x.shape[1:])

  result: Guidance = jax.tree.map(finer, guidance)
  return result


def colorize_clip(
  colorize_frame: Callable[[jax.Array, Guidance, jax.Array], jax.Array],
  luminance: jax.Array,
  guidance: Guidance,
  previous: jax.Array,
  clean_luminance: jax.Array | None = None,
  backward_flow: jax.Array | None = None,
  unroll: int = 1,
) -> tuple[jax.Array, jax.Array]:
  """Colorizes frames in order; each one sees the previous one in color.

  Args:
    colorize_frame: `Generator.colorize_frame`, bound to parameters.
    luminance: [b, t, h, w, 1], L - 50.
    guidance: of these frames, each field [b, t, h, w, c].
    previous: [b, h, w, 3 + carried], the frame before the first one: Lab, l = L -
      50, and what else the colorizer carries. Use zeros if there is none, or the
      reference and zeros if that is the previous frame.
    clean_luminance: [b, t, h, w, 1], the lightness that the next frame sees if
      `luminance` has noise; None means `luminance`.
    backward_flow: [b, t, h, w, 2], (dx, dy) in pixels from each frame to the
      previous one, which is warped by it; None means no warping. An addition to
      the paper.
    unroll: number of scan steps to unroll.

  Returns:
    ab and what is carried, [b, t, h, w, 2 + carried], and the last frame, which
    is `previous` of the next call.
  """

  def step(
    previous: jax.Array,
    frame: tuple[jax.Array, Guidance, jax.Array, jax.Array | None],
  ) -> tuple[jax.Array, jax.Array]:
    luminance, guidance, clean_luminance, backward_flow = frame
    if backward_flow is not None:
      previous = flow.warp(previous, backward_flow)
    predicted = colorize_frame(luminance, guidance, previous)
    return jnp.concatenate([clean_luminance, predicted], -1), predicted

  if clean_luminance is None:
    clean_luminance = luminance
  frames = luminance, guidance, clean_luminance, backward_flow
  frames = jax.tree.map(lambda x: x.swapaxes(0, 1), frames)
  last, predicted = jax.lax.scan(step, previous, frames, unroll=unroll)
  return predicted.swapaxes(0, 1), last
