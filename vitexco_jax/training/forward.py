"""The forward pass of training: colorize a batch of clips."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vitexco_jax import color
from vitexco_jax.models.motion import Anchor
from vitexco_jax.models.vitexco import Generator, colorize_clip
from vitexco_jax.structs import Array, Clips, Guidance, Reference


class Generated(NamedTuple):
  """The output of one forward pass, with the truth."""

  lab: jax.Array  # [b, t, h, w, 3], the truth, l centered.
  ab: jax.Array  # [b, t, h, w, 2], the prediction.
  # [b, t, h, w, 1], log of the squared error that a mixture expects, or [..., 0].
  log_error: jax.Array
  guidance: Guidance  # Fields [b, t, h, w, c].


def generate(
  generator: Generator,
  params: Mapping[str, Any],
  clips: Clips,
  degrade: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  unroll: int = 1,
  key: jax.Array | None = None,
) -> Generated:
  """Colorizes clips.

  Args:
    generator: the networks.
    params: by group.
    clips: [b, t, h, w, ...].
    degrade: maps (l [b, t, h, w, 1], key) to the l that the networks get, same
      shape; None: l is unchanged.
    unroll: number of frames that the scan unrolls.
    key: random key for `degrade` and dropout; None disables both.

  Returns:
    Truth, prediction and guidance.
  """
  apply: Callable[..., Any] = functools.partial(
    generator.apply, {'params': generator_params(params)}
  )
  train = key is not None
  reference_rngs, frame_rngs = {}, {}
  lab = color.center(color.rgb_to_lab(unit_range(clips.rgb)))
  luminance = clean = lab[..., :1]
  if key is not None:
    degrade_key, reference_key, frame_key = jax.random.split(key, 3)
    reference_rngs = {'dropout': reference_key}
    frame_rngs = {'dropout': frame_key}
    if degrade is not None:
      luminance = degrade(luminance, degrade_key)
  reference: Reference = apply(
    unit_range(clips.reference),
    train,
    method='encode_reference',
    rngs=reference_rngs,
  )
  first = clips.first_frame[:, None, None, None]
  guidance, backward_flow = _guide(
    functools.partial(apply, train=train, rngs=frame_rngs),
    generator.follows_motion,
    clips,
    luminance,
    reference,
  )
  predicted, _ = colorize_clip(
    functools.partial(apply, method='colorize_frame'),
    luminance,
    guidance,
    jnp.pad(
      jnp.where(first, reference.lab, 0.0),
      ((0, 0), (0, 0), (0, 0), (0, generator.carried)),
    ),
    clean,
    backward_flow,
    unroll=unroll,
  )
  ab, log_error = jnp.split(predicted, [2], -1)
  return Generated(lab, ab, log_error, guidance)


def _guide(
  apply: Callable[..., Any],
  follows_motion: bool,
  clips: Clips,
  luminance: jax.Array,
  reference: Reference,
) -> tuple[Guidance, jax.Array | None]:
  """Computes the guidance of all frames, and their flow to the previous frames.

  Args:
    apply: applies a method of the generator.
    follows_motion: whether the generator uses optical flow; if not, the flow is
      None.
    clips: [b, t, h, w, ...].
    luminance: [b, t, h, w, 1], as the networks get it.
    reference: of each clip.
  """
  if not follows_motion:
    return apply(luminance, reference, method='guide'), None
  # The previous frame of the first one, if there is one, is the first itself.
  backward_flow = jnp.pad(
    clips.backward_flow, ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0))
  )
  guidance: Guidance = apply(
    jnp.concatenate([luminance[:, :1], luminance], 1),
    reference,
    backward_flow,
    Anchor(jnp.asarray(reference.lab), jnp.asarray(clips.anchor_flow)),
    method='guide_along',
  )
  # For other references the flow to the anchor is meaningless.
  first = clips.first_frame[:, None, None, None, None]
  assert guidance.anchored is not None  # `guide_along` computes it.
  anchored = jnp.where(first, guidance.anchored, 0.0)
  return guidance._replace(anchored=anchored), backward_flow


def generator_params(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the groups of parameters without the discriminator's."""
  return {name: x for name, x in params.items() if name != 'discriminator'}


def unit_range(rgb: Array) -> jax.Array:
  """Converts uint8 to float32 in [0, 1]."""
  return jnp.asarray(rgb, jnp.float32) / 255.0
