"""Vitexco, Fig. 2: the overall architecture of the network.

  frame, reference -> ViT -> Feature Transform -> correspondence subnet
    -> warped color, confidence map
  frame, warped color, confidence map, previous frame in color
    -> colorization subnet -> color of the frame

`encode_reference` computes once what depends only on the reference, and `guide`
matches any number of frames. Only the colorization subnet needs the previous
frame: `colorize_clip` scans it over time.

Additions to the paper are in their own files: `stem` (a hybrid ViT), `references`
(several references, principal components), `motion` (colors propagated by optical
flow), `anchor` (references that are frames of the clip), and `prior` (colors
without a reference).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax import color, flow
from vitexco_jax.models import anchor as anchors
from vitexco_jax.models import correspondence as matching
from vitexco_jax.models import (
  efficientnet,
  feature_transform,
  layers,
  references,
  settings,
  vit,
)
from vitexco_jax.models import prior as priors
from vitexco_jax.models import stem as stems
from vitexco_jax.models.colorizer import Colorizer
from vitexco_jax.models.motion import Motion, guide_along, replace_unsteady
from vitexco_jax.structs import Guidance, Reference

ALL_LEVELS = settings.LEVELS


class Seen(NamedTuple):
  """What the ViT and the Feature Transform compute of pictures."""

  features: tuple[jax.Array, ...]  # [b, h/stride, w/stride, c] per level.
  embedding: jax.Array  # [b, d], the class token of the ViT.
  # Maps of the stem, of strides 4, 8, 16, 32; without a stem there are none.
  maps: tuple[jax.Array, ...]


class Generator(nn.Module):
  """Both subnets, for one frame at a time.

  Each attribute holds the settings of one network, as keyword arguments;
  `correspondence` also holds `temperature` and `block` of `correspondence.match`.

  Attributes:
    vit: settings of `vit.VisionTransformer`.
    feature_transform: settings of `feature_transform.FeatureTransform`.
    correspondence: settings of `correspondence.CorrespondenceNet`.
    colorizer: settings of `colorizer.Colorizer`.
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
  stem: str = ''
  dtype: str = 'float32'
  prior: Mapping[str, Any] = flax.core.FrozenDict(width=0.0)
  motion: Motion = Motion()

  def setup(self) -> None:
    settings.check(self)
    dtype = jnp.dtype(self.dtype)
    net = dict(self.correspondence)
    self.temperature = net.pop('temperature')
    self.block = net.pop('block')
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
    self.colorizer_net = Colorizer(
      **self.colorizer, dtype=dtype, name='colorizer'
    )
    if self.has_prior:
      self.prior_net = priors.Prior(**self.prior, dtype=dtype, name='prior')

  @property
  def blends(self) -> bool:
    """Whether the colorizer needs the previous frame warped to each frame."""
    return self.colorizer.get('residual') == 'blend'

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
    image, maps, laterals = vit.normalize(rgb), (), (None,) * len(ALL_LEVELS)
    if self.stem:
      pyramid = self.stem_net.pyramid(rgb)
      maps, laterals = pyramid[1:], stems.make_laterals(pyramid)
      image = laterals[-1]
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
    lab = color.center(color.rgb_to_lab(rgb))
    seen = self.see(rgb, self.levels, train)
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
    """Computes the queries of frames that the ViT has seen.

    Args:
      seen: of b * t frames, with the levels that matching uses.
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
      Warped color and confidence, fields [b, t, h, w, c].
    """
    queries = references.project(queries, reference)
    b, t, n, m, d = queries.shape
    warped_ab, confidence = matching.match(
      queries.reshape(b, -1, d),
      reference.keys,
      reference.ab,
      self.temperature,
      self.block,
    )
    s = matching.STRIDE

    def picture(x):
      x = layers.upsample_nearest(x.reshape(b * t, n, m, -1), s)
      return x.reshape(b, t, n * s, m * s, -1)

    return Guidance(picture(warped_ab), picture(confidence))

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
    return self.match(self.encode_frames(luminance, train), reference)

  def colorize_frame(
    self, luminance: jax.Array, guidance: Guidance, previous_lab: jax.Array
  ) -> jax.Array:
    """Predicts ab of one frame, [b, h, w, 2]; arguments as in `Colorizer`."""
    return self.colorizer_net(luminance, *guidance, previous_lab)

  # Additions to the paper.
  guide_along = guide_along
  see_and_predict = priors.see_and_predict
  predict_color = priors.predict_color
  guide_by_prior = priors.guide_by_prior

  def __call__(self, rgb: jax.Array) -> jax.Array:
    """Runs every network once, to initialize the parameters.

    Args:
      rgb: [b, h, w, 3] in [0, 1]; h and w multiples of 16.

    Returns:
      ab, [b, h, w, 2].
    """
    lab = color.center(color.rgb_to_lab(rgb))
    self.features(rgb)  # Losses may use levels that matching does not.
    reference = self.encode_reference(rgb)
    guidance = self.guide(lab[:, None, ..., :1], reference)
    if self.has_prior:
      self.predict_color(lab[..., :1])
    return self.colorize_frame(
      lab[..., :1], jax.tree.map(lambda x: x[:, 0], guidance), lab
    )


def colorize_clip(
  colorize_frame: Callable[[jax.Array, Guidance, jax.Array], jax.Array],
  luminance: jax.Array,
  guidance: Guidance,
  previous_lab: jax.Array,
  clean_luminance: jax.Array | None = None,
  backward_flow: jax.Array | None = None,
  steady: jax.Array | None = None,
  anchor: anchors.Anchor | None = None,
  anchor_lightness: float = 5.0,
  unroll: int = 1,
) -> tuple[jax.Array, jax.Array]:
  """Colorizes frames in order; each one sees the previous one in color.

  The arguments from `clean_luminance` to `anchor_lightness` are additions to the paper.

  Args:
    colorize_frame: `Generator.colorize_frame`, bound to parameters.
    luminance: [b, t, h, w, 1], L - 50.
    guidance: of these frames, each field [b, t, h, w, c].
    previous_lab: [b, h, w, 3], l = L - 50, the frame before the first one. Use
      zeros if there is none, or the reference if that is the previous frame.
    clean_luminance: [b, t, h, w, 1], the lightness that the next frame sees if
      `luminance` has noise; None means `luminance`.
    backward_flow: [b, t, h, w, 2], (dx, dy) in pixels from each frame to the
      previous one, which is warped by it; None means no warping.
    steady: [b, t, h, w, 1] in [0, 1], likeness to the previous frame; see
      `motion.replace_unsteady`. None means 1.
    anchor: a reference that is a frame of the clip; see `anchor.mix`. None means
      that there is none.
    anchor_lightness: tolerance of `anchor.mix`.
    unroll: number of scan steps to unroll.

  Returns:
    ab [b, t, h, w, 2], and the last frame [b, h, w, 3], which is the
    `previous_lab` of the next call.
  """

  def step(previous_lab, frame):
    luminance, guidance, clean_luminance, backward_flow, steady, way = frame
    if backward_flow is not None:
      previous_lab = flow.warp(previous_lab, backward_flow)
    if steady is not None:
      previous_lab = replace_unsteady(previous_lab, steady, guidance.warped_ab)
    ab = colorize_frame(luminance, guidance, previous_lab)
    if anchor is not None:
      warped = anchors.Anchor(anchor.lab, *way)
      ab = anchors.mix(ab, luminance, warped, anchor_lightness)
    return jnp.concatenate([clean_luminance, ab], -1), ab

  if clean_luminance is None:
    clean_luminance = luminance
  way = None if anchor is None else (anchor.flow, anchor.weight)
  frames = (
    luminance,
    guidance,
    clean_luminance,
    backward_flow,
    steady,
    way,
  )
  frames = jax.tree.map(lambda x: x.swapaxes(0, 1), frames)
  last_lab, ab = jax.lax.scan(step, previous_lab, frames, unroll=unroll)
  return ab.swapaxes(0, 1), last_lab
