"""Vitexco, Fig. 2: the generator, wired from its boxes.

  frame, reference -> ViT -> Feature Transform -> correspondence -> guidance
  frame, guidance, previous frame in colour -> colorizer -> ab
  frame -> ViT -> Feature Transform -> prior -> guidance without a reference

What depends on the reference alone is paid for once (`encode_reference`). What
depends on the frames alone is done for a block of them at once (`guide`). Only
the colorizer waits for the frame before: `colorize_clip` scans it over time.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn

from vitexco_jax import color, flow
from vitexco_jax.errors import UserError
from vitexco_jax.models import correspondence as matching
from vitexco_jax.models import efficientnet, feature_transform, layers, vit
from vitexco_jax.models import prior as color_prior
from vitexco_jax.models.colorizer import Colorizer
from vitexco_jax.structs import Guidance, Reference

ALL_LEVELS = (1, 2, 3, 4, 5)
_ALIKE = 0.7  # Cosine of two places that show the same thing.
_UNSURE_SPREAD = 20.0  # In ab, at which the prior's confidence is 1/e.
_STEM_STRIDE = 16  # Of the map that a hybrid ViT's tokens are made of.


class Seen(NamedTuple):
  """What the networks see of pictures."""

  features: tuple[jax.Array, ...]  # The Feature Transform's.
  embedding: jax.Array  # The ViT's, [b, d].
  maps: tuple[jax.Array, ...]  # The stem's own, of strides 4 to 32, if any.


class Generator(nn.Module):
  """Both subnets, for one frame at a time.

  The attributes are the settings of the boxes, under the names of the boxes'
  own attributes; `correspondence` also holds `temperature` and `block`, see
  `correspondence.match`. `dtype` is that of the convolutions and products.
  """

  vit: Mapping[str, Any]
  feature_transform: Mapping[str, Any]
  correspondence: Mapping[str, Any]
  colorizer: Mapping[str, Any]
  stem: str = ''
  dtype: str = 'float32'
  # Earlier exports have no prior.
  prior: Mapping[str, Any] = flax.core.FrozenDict(width=0.0)

  def setup(self):
    dtype = jnp.dtype(self.dtype)
    net = dict(self.correspondence)
    self.temperature = net.pop('temperature')
    self.block = net.pop('block')
    self.levels = tuple(net['levels'])
    _check(self)
    if self.stem:
      self.stem_net = efficientnet.EfficientNetLite0(name='stem')
    self.vit_net = vit.VisionTransformer(
      **self.vit,
      dtype=dtype,
      input_stride=_STEM_STRIDE if self.stem else 1,
      name='vit',
    )
    self.feature_transform_net = feature_transform.FeatureTransform(
      **self.feature_transform,
      patch=vit.checked_sizes(**self.vit).patch,
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
      self.prior_net = color_prior.Prior(
        **self.prior, dtype=dtype, name='prior'
      )

  @property
  def blends(self) -> bool:
    """Whether the colorizer wants the frame before along the optical flow."""
    return self.colorizer.get('residual') == 'blend'

  @property
  def has_prior(self) -> bool:
    """Whether frames can be colorized without a reference."""
    return self.prior['width'] > 0

  def features(
    self,
    rgb: jax.Array,
    levels: Sequence[int] = ALL_LEVELS,
    train: bool = False,
  ) -> tuple[jax.Array, ...]:
    """The Feature Transform's view of pictures.

    Args:
      rgb: [b, h, w, 3] in [0, 1], grey for a frame; h and w multiples of 16.
      levels: which of the five, counted from 1, finest first.
      train: whether dropout (rng `dropout`) is on.

    Returns:
      One [b, h/stride, w/stride, c] per level.
    """
    return self.see(rgb, levels, train).features

  def see(
    self,
    rgb: jax.Array,
    levels: Sequence[int] = ALL_LEVELS,
    train: bool = False,
  ) -> Seen:
    """All that is seen of pictures; arguments as of `features`."""
    image, maps, laterals = vit.normalize(rgb), (), (None,) * len(ALL_LEVELS)
    if self.stem:
      pyramid = self.stem_net.pyramid(rgb)
      maps, laterals = pyramid[1:], _laterals(pyramid)
      image = laterals[-1]
    taps, embedding = self.vit_net(image)
    features = self.feature_transform_net(taps, levels, train, laterals)
    return Seen(features, embedding, maps)

  def encode_reference(self, rgb: jax.Array, train: bool = False) -> Reference:
    """Does all that depends on the reference alone. [b, h, w, 3] in [0, 1]."""
    lab = color.center(color.rgb_to_lab(rgb))
    seen = self.see(rgb, self.levels, train)
    keys = self.correspondence_net.keys(seen.features, seen.maps)
    ab = layers.average_pool(lab[..., 1:], matching.STRIDE)
    return Reference(lab, keys, ab.reshape(*keys.shape[:2], 2))

  def guide(
    self, luminance: jax.Array, reference: Reference, train: bool = False
  ) -> Guidance:
    """Matches frames to their reference, all at once.

    Args:
      luminance: [b, t, h, w, 1], L - 50; h and w multiples of 16.
      reference: of each clip.
      train: whether dropout (rng `dropout`) is on.

    Returns:
      Guidance with fields [b, t, h, w, c].
    """
    return self.match(self.encode_frames(luminance, train), reference)

  def guide_along(
    self,
    luminance: jax.Array,
    reference: Reference,
    backward_flow: jax.Array | None = None,
    anchor_flow: jax.Array | None = None,
    scale: int = 1,
  ) -> tuple[Guidance, jax.Array | None, jax.Array | None]:
    """As `guide`, and says where optical flow leads to what looks the same.

    Args:
      luminance: [b, 1 + t, h, w, 1] of the frames and of the one before them.
      reference: of each clip. Of several the first comes first, at the size of its
        `lab`.
      backward_flow: [b, t, scale*h, scale*w, 2] from each frame to the one before.
      anchor_flow: as that, to the first reference.
      scale: of the flows' grid.

    Returns:
      Guidance of the t frames, and `likeness` along each flow, [b, t, scale*h,
      scale*w, 1]: to the frame before, with a tolerance of 0.1, and to the first
      reference, of 0.2. None where the flow is.
    """
    queries = self.encode_frames(luminance)
    guidance = self.match(queries[:, 1:], reference)
    like = functools.partial(
      likeness,
      confidence=guidance.confidence,
      stride=matching.STRIDE * scale,
    )
    steady = anchored = None
    if backward_flow is not None:
      # By all features: what the reference does not show has its own there.
      before, frames = queries[:, :-1], queries[:, 1:]
      steady = like(frames, before, backward_flow, tolerance=0.1)
    if anchor_flow is not None:
      frames = _components(queries[:, 1:], reference)
      n, m = (side // matching.STRIDE for side in reference.lab.shape[1:3])
      keys = reference.keys[:, : n * m].reshape(-1, n, m, frames.shape[-1])
      keys = _fit(keys, frames.shape[2:4])[:, None]
      keys = jnp.broadcast_to(keys, frames.shape)
      anchored = like(frames, keys, anchor_flow, tolerance=0.2)
    return guidance, steady, anchored

  def see_and_predict(
    self,
    rgb: jax.Array,
    luminance: jax.Array,
    levels: Sequence[int] = color_prior.LEVELS,
    train: bool = False,
  ) -> tuple[Seen, color_prior.PriorColor]:
    """As `see`, and predicts the pictures' colors without a reference.

    Args:
      rgb: see `features`.
      luminance: [b, h, w, 1], L - 50.
      levels: those of the prior among them.
      train: see `features`.
    """
    seen = self.see(rgb, levels, train)
    features = [seen.features[levels.index(x)] for x in color_prior.LEVELS]
    return seen, self.prior_net(features, seen.embedding, luminance)

  def predict_color(self, luminance: jax.Array) -> color_prior.PriorColor:
    """Predicts colors at stride 4 of gray pictures, [b, h, w, 1] L - 50."""
    return self.see_and_predict(gray(luminance), luminance)[1]

  def guide_by_prior(
    self,
    luminance: jax.Array,
    backward_flow: jax.Array | None = None,
    scale: int = 1,
  ) -> tuple[Guidance, jax.Array | None, None]:
    """As `guide_along`, for frames that have no reference.

    The prior's colors stand in for the warped ones; its confidence is 1 where it
    is sure and falls with the spread.

    Args:
      luminance: [b, 1 + t, h, w, 1] of the frames and of the previous one.
      backward_flow: [b, t, scale*h, scale*w, 2] from each frame to the previous
        one.
      scale: of the flow's grid.
    """
    b, t, h, w, _ = luminance.shape
    pictures = luminance.reshape(b * t, h, w, 1)
    levels = tuple(sorted({*self.levels, *color_prior.LEVELS}))
    seen, colors = self.see_and_predict(gray(pictures), pictures, levels)

    def of_frames(x):
      x = layers.upsample_nearest(x, color_prior.STRIDE)
      return x.reshape(b, t, h, w, -1)[:, 1:]

    confidence = jnp.exp(-colors.spread / _UNSURE_SPREAD)
    guidance = Guidance(of_frames(colors.ab), of_frames(confidence))
    if backward_flow is None:
      return guidance, None, None
    features = tuple(seen.features[levels.index(x)] for x in self.levels)
    queries = self._queries(seen._replace(features=features), luminance.shape)
    steady = likeness(
      *(queries[:, 1:], queries[:, :-1], backward_flow),
      _ALIKE,
      *(matching.STRIDE * scale, 0.1),
    )
    return guidance, steady, None

  def encode_frames(
    self, luminance: jax.Array, train: bool = False
  ) -> jax.Array:
    """Queries of frames, [b, t, h/4, w/4, d]; arguments as of `guide`."""
    b, t, h, w, _ = luminance.shape
    pictures = gray(luminance.reshape(b * t, h, w, 1))
    return self._queries(
      self.see(pictures, self.levels, train), luminance.shape
    )

  def _queries(self, seen: Seen, shape: Sequence[int]) -> jax.Array:
    """As `encode_frames`, of frames of [b, t, h, w, 1] that are seen."""
    queries = self.correspondence_net.queries(seen.features, seen.maps)
    b, t, h, w, _ = shape
    s = matching.STRIDE
    return queries.reshape(b, t, h // s, w // s, -1)

  def match(self, queries: jax.Array, reference: Reference) -> Guidance:
    """What `guide` gives, of frames that are encoded."""
    queries = _components(queries, reference)
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

  def colorize_frame(
    self, luminance: jax.Array, guidance: Guidance, previous_lab: jax.Array
  ) -> jax.Array:
    """Predicts one frame's ab, [b, h, w, 2]; arguments as in `Colorizer`."""
    return self.colorizer_net(luminance, *guidance, previous_lab)

  def __call__(self, rgb: jax.Array) -> jax.Array:
    """Runs every box once, on [b, h, w, 3]; for making the parameters."""
    lab = color.center(color.rgb_to_lab(rgb))
    self.features(rgb)  # All decoders: the losses may want them.
    reference = self.encode_reference(rgb)
    guidance = self.guide(lab[:, None, ..., :1], reference)
    if self.has_prior:
      self.predict_color(lab[..., :1])
    return self.colorize_frame(
      lab[..., :1], jax.tree.map(lambda x: x[:, 0], guidance), lab
    )


def gray(luminance: jax.Array) -> jax.Array:
  """L - 50, [b, h, w, 1], as the networks see it: [b, h, w, 3] in [0, 1]."""
  return jnp.repeat((luminance + 50.0) / 100.0, 3, -1)


def _laterals(pyramid: Sequence[jax.Array]) -> tuple[jax.Array | None, ...]:
  """A stem's maps of strides 2, 4, 8, 16, 32 by level of the features.

  Each place gets mean 0 and variance 1 over its channels. There is no map for the
  finest level; the deepest takes the last two, the coarser one brought up.
  """
  *finer, map16, map32 = (
    nn.standardize(x.astype(jnp.float32), -1, epsilon=1e-6) for x in pyramid
  )
  b, h, w, _ = map16.shape
  map32 = jax.image.resize(map32, (b, h, w, map32.shape[-1]), 'bilinear')
  return (None, *finer, jnp.concatenate([map16, map32], -1))


def _check(generator: Generator):
  """Checks settings in which boxes have to agree, or that no box checks."""
  if generator.stem not in ('', 'efficientnet_lite0'):
    raise UserError(
      f'config.model.stem is {generator.stem!r}; known are efficientnet_lite0, '
      "and '' for none"
    )
  patch = vit.checked_sizes(**generator.vit).patch
  if generator.stem and patch != _STEM_STRIDE:
    raise UserError(
      f'config.model.vit.variant={generator.vit["variant"]} cannot see through '
      f'config.model.stem={generator.stem}, whose maps are of patches of '
      f'{_STEM_STRIDE}: take a variant with /{_STEM_STRIDE}'
    )
  taps, levels = tuple(generator.vit['taps']), generator.levels
  if len(taps) != len(ALL_LEVELS):
    raise UserError(
      f'config.model.vit.taps is {taps}; it must name five blocks, one for each '
      'level of the features'
    )
  if not levels or len(set(levels).intersection(ALL_LEVELS)) != len(levels):
    raise UserError(
      f'config.model.correspondence.levels is {levels}; it must name one or '
      'more of 1, 2, 3, 4, 5, each once'
    )
  if generator.block < 1:
    raise UserError(
      f'config.model.correspondence.block is {generator.block}; it must be '
      'above 0'
    )
  if not generator.temperature >= 0:
    raise UserError(
      f'config.model.correspondence.temperature is {generator.temperature}; it '
      'must be at least 0'
    )
  residual = generator.colorizer.get('residual', '')
  if residual not in ('', 'warped', 'blend'):
    raise UserError(
      f'config.model.colorizer.residual is {residual!r}; known are warped, '
      "blend, and '' for none"
    )
  dropout = generator.feature_transform['dropout']
  if not 0 <= dropout < 1:
    raise UserError(
      f'config.model.feature_transform.dropout is {dropout}; it must be at '
      'least 0 and below 1'
    )
  if not generator.prior['width'] >= 0:
    raise UserError(
      f'config.model.prior.width is {generator.prior["width"]}; it must be at '
      'least 0'
    )
  for box in ('feature_transform', 'correspondence', 'colorizer'):
    width = getattr(generator, box)['width']
    if not (width > 0 or (width == 0 and box == 'colorizer' and residual)):
      raise UserError(
        f'config.model.{box}.width is {width}; it must be above 0'
      )


def competing(references: Sequence[Reference]) -> Reference:
  """Makes several references one: their positions compete to be matched.

  A position of the frame is matched to where its confidence is highest,
  whichever reference that is in. `lab` stays the first one's. None of them may be
  `compressed` yet.
  """
  keys, ab = (
    jnp.concatenate([getattr(x, name) for x in references], 1)
    for name in ('keys', 'ab')
  )
  return Reference(references[0].lab, keys, ab)


def compressed(reference: Reference, components: int) -> Reference:
  """Keeps the principal components of a reference's features alone.

  Positions of one picture, or a few, fill a small part of the space of their
  features: 128 of 496 components keep 97 to 99.9 % of the squares, and matching
  takes a third of the time.

  Args:
    reference: as `encode_reference` gives it; several if `competing`.
    components: how many; 0, or as many as there are features or more: all.

  Returns:
    The reference, with `basis` if anything was left out.
  """
  if not 0 < components < reference.keys.shape[-1]:
    return reference
  _, vectors = jnp.linalg.eigh(
    jnp.einsum(
      'bkd,bke->bde',
      reference.keys,
      reference.keys,
      precision=jax.lax.Precision.HIGHEST,
    )
  )
  basis = vectors[..., -components:]  # By rising eigenvalue.
  reference = reference._replace(basis=basis)
  return reference._replace(keys=_components(reference.keys, reference))


def _components(features: jax.Array, reference: Reference) -> jax.Array:
  """Features, [b, ..., e], as they are compared with the reference's keys."""
  if reference.basis is None:
    return features
  return jnp.einsum(
    'b...e,bed->b...d',
    features,
    reference.basis,
    precision=jax.lax.Precision.HIGHEST,
  )


def likeness(
  frames: jax.Array,
  others: jax.Array,
  flow_to_others: jax.Array,
  confidence: jax.Array | float,
  stride: int,
  tolerance: float,
) -> jax.Array:
  """How far other pictures show the same as frames, along the flow to them.

  1 where the two are as alike as the frame and the best of the reference are, and
  exp(-m / tolerance) where less so by m: something else is there, which lightness
  alone does not always tell.

  Args:
    frames: [b, t, n, m, d], queries.
    others: [b, t, n, m, d], queries or keys.
    flow_to_others: [b, t, h, w, 2], pixels.
    confidence: [b, t, 4*n, 4*m, 1], of the matching; or one for all places.
    stride: of the queries in pixels of the flow.
    tolerance: see above.

  Returns:
    [b, t, h, w, 1] in [0, 1].
  """
  b, t, h, w, _ = flow_to_others.shape

  def flat(x):
    return x.reshape(b * t, *x.shape[2:])

  steps = layers.average_pool(flat(flow_to_others), stride) / stride
  there = flow.warp(flat(others), steps)
  alike = (flat(frames) * there).sum(-1, keepdims=True)
  if not isinstance(confidence, float):
    confidence = layers.average_pool(flat(confidence), matching.STRIDE)
  like = jnp.exp(-jnp.maximum(confidence - alike, 0.0) / tolerance)
  like = jax.image.resize(like, (b * t, h, w, 1), 'bilinear')
  return like.reshape(b, t, h, w, 1)


def _fit(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Cuts [b, h, w, c] to a size, or goes on with its edge."""
  pads = [(0, max(0, n - m)) for n, m in zip(size, x.shape[1:3], strict=True)]
  padded = jnp.pad(x, ((0, 0), *pads, (0, 0)), 'edge')
  return padded[:, : size[0], : size[1]]


class Anchor(NamedTuple):
  """A frame of the clip that is given in colour, and the way to it."""

  lab: jax.Array  # [b, h, w, 3], l centred.
  flow: jax.Array  # [b, t, h, w, 2] from each frame, pixels.
  weight: jax.Array  # [b, t, h, w, 1] in [0, 1], where lightness is the same.


def colorize_clip(
  colorize_frame: Callable[[jax.Array, Guidance, jax.Array], jax.Array],
  luminance: jax.Array,
  guidance: Guidance,
  previous_lab: jax.Array,
  clean_luminance: jax.Array | None = None,
  backward_flow: jax.Array | None = None,
  steady: jax.Array | None = None,
  anchor: Anchor | None = None,
  unroll: int = 1,
) -> tuple[jax.Array, jax.Array]:
  """The recurrence: each frame sees the one before in its predicted colour.

  Args:
    colorize_frame: `Generator.colorize_frame`, bound to parameters.
    luminance: [b, t, h, w, 1], L - 50.
    guidance: of these frames, each field [b, t, h, w, c].
    previous_lab: [b, h, w, 3], the frame before the first; zeros, or the
      reference where that is the clip's own first frame.
    clean_luminance: [b, t, h, w, 1], what the next frame sees of this one's
      lightness, where `luminance` carries noise; None stands for `luminance`.
    backward_flow: [b, t, h, w, 2], from each frame to the one before, along which
      that is brought to the frame's grid; None: it is seen as it is.
    steady: [b, t, h, w, 1] in [0, 1], how far the frame before shows the same
      there; for the rest, matched colours stand in for its own. None: 1.
    anchor: whose colours each frame is mixed with; None: with none.
    unroll: frames that the scan unrolls.

  Returns:
    ab [b, t, h, w, 2], and the last frame's lab [b, h, w, 3], which continues
    the clip as the next call's `previous_lab`.
  """

  def step(previous_lab, frame):
    luminance, guidance, clean_luminance, backward_flow, steady, way = frame
    if backward_flow is not None:
      previous_lab = flow.warp(previous_lab, backward_flow)
    if steady is not None:
      # Zeros say that there is no frame before, and stay.
      there = jnp.any(previous_lab != 0, (1, 2, 3), keepdims=True)
      steady = jnp.where(there, steady, 1.0)
      previous_l, previous_ab = jnp.split(previous_lab, [1], -1)
      previous_ab = steady * previous_ab + (1.0 - steady) * guidance.warped_ab
      previous_lab = jnp.concatenate([previous_l, previous_ab], -1)
    ab = colorize_frame(luminance, guidance, previous_lab)
    if anchor is not None:
      anchor_flow, weight = way
      there = flow.warp(anchor.lab, anchor_flow)
      ab = _anchored(ab, luminance, there, weight)
    return jnp.concatenate([clean_luminance, ab], -1), ab

  if clean_luminance is None:
    clean_luminance = luminance
  way = None if anchor is None else (anchor.flow, anchor.weight)
  frames = (
    *(luminance, guidance, clean_luminance),
    *(backward_flow, steady, way),
  )
  frames = jax.tree.map(lambda x: x.swapaxes(0, 1), frames)
  last_lab, ab = jax.lax.scan(step, previous_lab, frames, unroll=unroll)
  return ab.swapaxes(0, 1), last_lab


def _anchored(ab, luminance, anchor_lab, weight):
  """Mean of a frame's colours and of those that the anchor has there.

  These weigh `weight` times exp(-d / 5) where lightness differs by d: where the
  flow went astray, or something is hidden, they do not count.
  """
  difference = jnp.abs(luminance - anchor_lab[..., :1])
  weight = weight * jnp.exp(-difference / 5.0)
  return weight * anchor_lab[..., 1:] + (1.0 - weight) * ab
