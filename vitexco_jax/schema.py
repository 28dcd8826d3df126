"""The schema of the configuration: each key with its type, bounds, and choices.

`config` compares configs with it. Names are dotted, as in `train.batch_size`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from vitexco_jax.errors import UserError

_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number'}
_SHOWN = 60  # Characters of a value in a message.


class Rule(NamedTuple):
  """What a value must be."""

  kind: type
  words: str  # Completes the sentence "config.NAME=VALUE must be ...".
  fits: Callable[[Any], bool]  # Is called only if the value has the type.

  def check(self, name: str, value: Any) -> None:
    """Raises UserError if a value is wrong."""
    if not is_of(self.kind, value):
      kind = _KINDS.get(self.kind, self.words)
      raise UserError(f'config.{name}={shown(value)} must be {kind}')
    if not self.fits(value):
      raise UserError(f'config.{name}={shown(value)} must be {self.words}')


def is_of(kind: type, value: Any) -> bool:
  """Tests the type of a value; whole numbers are numbers, too."""
  if kind is float:
    return type(value) in (int, float)
  if kind is tuple:
    return isinstance(value, tuple | list)
  return type(value) is kind


def shown(value: Any) -> str:
  """Returns a value for a message: one short line, whatever it is."""
  text = str(value)
  if text.isprintable() and len(text) <= _SHOWN:
    return text
  return ascii(text)[:_SHOWN] + '...'


# --- Rules ---


def _whole(least: int, most: int | None = None) -> Rule:
  return _number(int, least, most)


def _real(
  least: float | None = None,
  most: float | None = None,
  *,
  above: float | None = None,
  below: float | None = None,
) -> Rule:
  return _number(float, least, most, above, below)


def _number(
  kind: type,
  least: float | None = None,
  most: float | None = None,
  above: float | None = None,
  below: float | None = None,
) -> Rule:
  bounds = {'at least': least, 'above': above}
  bounds |= {'at most': most, 'below': below}
  words = [f'{name} {x}' for name, x in bounds.items() if x is not None]

  def fits(value: float) -> bool:
    return (
      math.isfinite(value)
      and (least is None or value >= least)
      and (most is None or value <= most)
      and (above is None or value > above)
      and (below is None or value < below)
    )

  return Rule(kind, ' and '.join(words) or 'finite', fits)


def _choice(*names: str) -> Rule:
  words = 'one of ' + ', '.join(filter(None, names))
  if '' in names:
    words += ", or '' for none"
  return Rule(str, words, lambda value: value in names)


def _size(least: int, multiple: int = 1) -> Rule:
  words = f'(height, width), at least {least}'
  if multiple > 1:
    words += f' and a multiple of {multiple}'
  words += ' on both sides'

  def fits(value: tuple[int, ...]) -> bool:
    return len(value) == 2 and all(
      is_of(int, x) and x >= least and x % multiple == 0 for x in value
    )

  return Rule(tuple, words, fits)


def _taps(value: tuple[int, ...]) -> bool:
  return len(value) == 5 and all(is_of(int, x) and x >= 1 for x in value)


def _levels(value: tuple[int, ...]) -> bool:
  chosen = set(value) if all(is_of(int, x) for x in value) else set()
  return 0 < len(value) == len(chosen & {1, 2, 3, 4, 5})


_TEXT = Rule(str, 'a text', lambda value: True)
_SWITCH = Rule(bool, 'true or false', lambda value: True)
_RATE = _real(0)
_SHARE = _real(0, 1)

SCHEMA = {
  'variant': _TEXT,
  'seed': _whole(0),
  'data.records': _TEXT,
  'data.size': _size(32, 16),
  'data.frame_step': _whole(1),
  'data.run_length': _whole(3),
  'data.min_frames': _whole(2),
  'data.quality.min_chroma': _real(0),
  'data.quality.min_motion': _real(0),
  'data.quality.max_blockiness': _real(0),
  'data.quality.max_blur': _real(0),
  'data.flow': _choice('deepflow', 'dis'),
  'data.retrieved_share': _SHARE,
  'data.first_frame_share': _SHARE,
  'data.warped_share': _SHARE,
  'data.nearby_share': _SHARE,
  'data.threads': _whole(0),
  'data.workers': _whole(0),
  'retrieval.network': _choice('vit', 'efficientnet_lite0'),
  'retrieval.weights': _TEXT,
  'retrieval.gray': _SWITCH,
  'retrieval.index': _choice('exact', 'ivf'),
  'retrieval.count': _whole(1),
  'retrieval.near_duplicate': _real(-1),
  'augment.flip': _SHARE,
  'augment.crop': _real(0.1, 1),
  'augment.blur': _real(0, 10),
  'augment.flicker': _SHARE,
  'augment.grain': _real(0, 50),
  'augment.luminance_noise': _real(0, 50),
  'model.dtype': _choice('float32', 'bfloat16'),
  'model.stem': _choice('', 'efficientnet_lite0'),
  'model.vit.variant': _choice(
    'Ti/16', 'Ti/8', 'S/16', 'S/8', 'B/16', 'B/8', 'test/16'
  ),
  'model.vit.taps': Rule(tuple, 'five blocks, counted from 1', _taps),
  'model.vit.gelu': _choice('tanh', 'erf'),
  'model.vit.pos_grid': _whole(0),
  'model.feature_transform.kind': _choice('bilinear', 'subpixel'),
  'model.feature_transform.width': _real(above=0),
  'model.feature_transform.dropout': _real(0, below=1),
  'model.correspondence.levels': Rule(
    tuple, 'one or more of 1, 2, 3, 4, 5, each once', _levels
  ),
  'model.correspondence.width': _real(above=0),
  'model.correspondence.temperature': _real(0),
  'model.correspondence.block': _whole(1),
  'model.colorizer.width': _real(0),
  'model.colorizer.kind': _choice('u_net', 'mixture'),
  'model.colorizer.residual': _choice('', 'warped'),
  'model.mixture.channels': _whole(0),
  'model.mixture.context': _whole(0),
  'model.mixture.smooth': _whole(0),
  'model.mixture.previous_weight': _SHARE,
  'model.mixture.previous_tolerance': _real(above=0),
  'model.mixture.anchor_tolerance': _real(above=0),
  'model.prior.width': _real(0),
  'model.prior.unsure_spread': _real(above=0),
  'model.prior.same_cosine': _real(-1, 1),
  'model.motion.previous_tolerance': _real(above=0),
  'model.motion.anchor_tolerance': _real(above=0),
  'model.motion.flow_alpha': _real(above=0),
  'model.discriminator.width': _real(above=0),
  **{
    f'loss.weights.{name}': _real(0)
    for name in (
      'l1',
      'adversarial',
      'perceptual',
      'contextual',
      'temporal',
      'smoothness',
      'warped',
      'error',
    )
  },
  'loss.features': _choice('feature_transform', 'vgg16'),
  'loss.l1_same_video_only': _SWITCH,
  'pretrain.size': _size(16, 16),
  'pretrain.crop': _real(above=0, most=1),
  'pretrain.gray': _SHARE,
  'pretrain.updates': _whole(1),
  'pretrain.batch_size': _whole(1),
  'pretrain.accumulation': _whole(1),
  'pretrain.learning_rate.vit': _RATE,
  'pretrain.learning_rate.feature_transform': _RATE,
  'pretrain.learning_rate.prior': _RATE,
  'pretrain.learning_rate.heads': _RATE,
  'pretrain.first_block': _whole(1),
  'pretrain.warmup': _real(0, below=1),
  'pretrain.weight_decay': _real(0),
  'pretrain.gradient_norm': _real(above=0),
  'pretrain.taught': _real(above=0, most=1),
  'pretrain.average': _real(0, below=1),
  'pretrain.validation': _TEXT,
  'pretrain.weights.maps': _real(0),
  'pretrain.weights.class_token': _real(0),
  'pretrain.weights.color': _real(0),
  'pretrain.weights.spread': _real(0),
  'pretrain.log_every': _whole(1),
  'pretrain.checkpoint_every': _whole(1),
  'train.updates': _whole(1),
  'train.batch_size': _whole(1),
  'train.accumulation': _whole(1),
  'train.clip_length': _whole(2),
  **{
    f'train.learning_rate.{name}': _RATE
    for name in (
      'stem',
      'vit',
      'feature_transform',
      'correspondence',
      'colorizer',
      'discriminator',
      'prior',
    )
  },
  'train.schedule_power': _real(0),
  'train.b1': _real(0, below=1),
  'train.b2': _real(0, below=1),
  'train.weight_decay': _real(0),
  'train.unroll': _whole(0),
  'train.vit_weights': _TEXT,
  'train.init': _TEXT,
  'train.log_every': _whole(1),
  'train.strip_every': _whole(1),
  'train.checkpoint_every': _whole(1),
  'mix.windows': _whole(1),
  'mix.run': _whole(1, 16),
  'mix.updates': _whole(1),
  'mix.batch_size': _whole(1),
  'mix.learning_rate': _RATE,
  'mix.candidate_weight': _real(0),
  'mix.validation': _TEXT,
  'mix.log_every': _whole(1),
  'mix.checkpoint_every': _whole(1),
  'use.size': _size(32),
  'use.temperature': _real(0),
  'use.anchor': _SHARE,
  'use.refine': _whole(1, 4),
  'use.flow': _choice('auto', 'dis', 'jax'),
  'use.enlarge': _whole(1, 4),
  'use.components': _whole(0, 4096),
  'use.matched_cells': _whole(0),
  'use.flicker_memory': _real(0, 1),
  'use.flicker_least': _real(0),
  'use.grain_filter': _real(0),
  'use.grain_least': _real(0),
  'use.fit_stills': _SWITCH,
  'use.still_agreement': _SHARE,
  'use.still_candidates': _whole(1),
  'use.still_sharpness': _SHARE,
  'use.still_duplicate': _real(0, 2),
  'use.tried': _whole(1),
  'use.covered_confidence': _real(-1, 1),
  'use.mix_tolerance': _real(above=0),
  'use.unsure_confidence': _real(-1, 1),
  'use.unsure_frames': _whole(1),
}
