"""The wiring: what is computed when, and that time can be cut anywhere."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest
from flax import linen as nn
from skimage import color as skcolor

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.models import vit
from vitexco_jax.models.feature_transform import Decoder
from vitexco_jax.models.vitexco import (
  Anchor,
  Generator,
  colorize_clip,
  competing,
  compressed,
  likeness,
)
from vitexco_jax.structs import Guidance, Reference

pytestmark = pytest.mark.usefixtures('quick_compiler')

_H, _W, _T = 32, 48, 4


def _generator(**changes):
  settings = {
    'vit': {'variant': 'test/16', 'taps': (1, 1, 2, 2, 2)},
    'feature_transform': {'kind': 'bilinear', 'width': 1 / 16, 'dropout': 0.3},
    'correspondence': {
      'levels': (2, 3, 4, 5),
      'width': 1 / 16,
      'temperature': 0.01,
      'block': 40,
    },
    'colorizer': {'width': 1 / 16},
  }
  return Generator(**(settings | changes))


def _rgb(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(0, 1, (*shape, _H, _W, 3)).astype(np.float32)


def _luminance(b=2, t=_T, seed=1):
  rng = np.random.default_rng(seed)
  return rng.uniform(-50, 50, (b, t, _H, _W, 1)).astype(np.float32)


@pytest.fixture(scope='module')
def variables():
  """Made up: the true last layer starts too small for colours that matter."""
  rng = np.random.default_rng(2)

  def random(leaf):
    reach = np.sqrt(1 / max(1, np.prod(leaf.shape[:-1])))
    return rng.uniform(-reach, reach, leaf.shape).astype(np.float32)

  shapes = jax.eval_shape(_generator().init, jax.random.key(0), _rgb(1))
  return jax.tree.map(random, shapes)


@pytest.fixture(scope='module')
def call(variables):
  """Runs a method of the generator, compiled."""
  apply = jax.jit(_generator().apply, static_argnames='method')
  return functools.partial(apply, variables)


@pytest.fixture(scope='module')
def reference(call):
  return call(_rgb(2), method='encode_reference')


@pytest.fixture(scope='module')
def guidance(call, reference):
  return call(_luminance(), reference, method='guide')


@pytest.fixture(scope='module')
def recur(variables):
  """`colorize_clip`, bound to the parameters and compiled."""
  bound = functools.partial(
    _generator().apply, variables, method='colorize_frame'
  )
  return jax.jit(
    functools.partial(colorize_clip, bound), static_argnames='unroll'
  )


@pytest.fixture(scope='module')
def coloured(recur, guidance):
  return recur(_luminance(), guidance, jnp.zeros((2, _H, _W, 3)))


def _at(tree, *index):
  return jax.tree.map(lambda x: x[:, *index], tree)


def test_encode_reference_agrees_with_scikit_image(reference):
  lab = skcolor.rgb2lab(_rgb(2).astype(np.float64))
  np.testing.assert_allclose(reference.lab, lab - [50, 0, 0], atol=1e-2)
  means = lab[..., 1:].reshape(2, _H // 4, 4, _W // 4, 4, 2).mean((2, 4))
  np.testing.assert_allclose(reference.ab, means.reshape(2, -1, 2), atol=1e-2)
  assert reference.keys.shape == (2, (_H // 4) * (_W // 4), 16)


def test_guidance_holds_still_over_four_pixels(guidance):
  assert guidance.warped_ab.shape == (2, _T, _H, _W, 2)
  assert guidance.confidence.shape == (2, _T, _H, _W, 1)
  for x in guidance:
    pooled = np.asarray(x)[:, :, ::4, ::4]
    np.testing.assert_array_equal(x, pooled.repeat(4, 2).repeat(4, 3))


def test_guide_of_a_block_is_that_of_frame_by_frame(call, reference, guidance):
  for t in range(_T):
    alone = call(_luminance()[:, t : t + 1], reference, method='guide')
    for x, y in zip(alone, guidance, strict=True):
      # A cold softmax makes much of rounding.
      np.testing.assert_allclose(x[:, 0], y[:, t], atol=0.05)


def test_clips_keep_to_their_own_reference(call, reference, guidance):
  """Swapping two clips and their references swaps what they are told."""

  def swap(tree):
    return jax.tree.map(lambda x: x[::-1], tree)

  swapped = call(swap(_luminance()), swap(reference), method='guide')
  for x, y in zip(swap(swapped), guidance, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-3)
  mixed = call(_luminance(), swap(reference), method='guide')
  assert np.abs(mixed.warped_ab - guidance.warped_ab).mean() > 1


def test_of_several_references_the_more_confident_gives_the_colour(
  variables, reference
):
  settings = dict(_generator().correspondence, temperature=0)
  generator = _generator(correspondence=settings)
  guide = jax.jit(functools.partial(generator.apply, method='guide'))
  other = generator.apply(variables, _rgb(2, seed=9), method='encode_reference')
  first, second, both = (
    guide(variables, _luminance(), x)
    for x in (reference, other, competing([reference, other]))
  )
  wins = first.confidence >= second.confidence
  assert 0.1 < wins.mean() < 0.9
  for x, y, z in zip(first, second, both, strict=True):
    np.testing.assert_allclose(np.where(wins, x, y), z, atol=1e-5)


def test_scan_equals_the_plain_loop(call, guidance, coloured):
  ab, last_lab = coloured
  previous_lab = jnp.zeros((2, _H, _W, 3))
  for t in range(_T):
    luminance = _luminance()[:, t]
    want = call(
      luminance, _at(guidance, t), previous_lab, method='colorize_frame'
    )
    np.testing.assert_allclose(ab[:, t], want, atol=1e-3)
    previous_lab = jnp.concatenate([luminance, want], -1)
  np.testing.assert_allclose(last_lab, previous_lab, atol=1e-3)
  assert ab.std() > 5  # Colours that matter.


def test_each_frame_sees_the_one_before(call, guidance, coloured):
  """Else the tests of the recurrence would show nothing."""
  zeros = jnp.zeros((2, _H, _W, 3))
  alone = call(
    _luminance()[:, 1], _at(guidance, 1), zeros, method='colorize_frame'
  )
  assert np.abs(alone - coloured[0][:, 1]).max() > 0.1


def test_two_halves_with_the_state_carried_equal_the_whole(
  recur, guidance, coloured
):
  lab = jnp.zeros((2, _H, _W, 3))
  halves = []
  for part in (slice(0, 2), slice(2, 4)):
    ab, lab = recur(_luminance()[:, part], _at(guidance, part), lab)
    halves.append(ab)
  np.testing.assert_allclose(np.concatenate(halves, 1), coloured[0], atol=1e-3)
  np.testing.assert_allclose(lab, coloured[1], atol=1e-3)


def test_unroll_changes_nothing(recur, guidance, coloured):
  zeros = jnp.zeros((2, _H, _W, 3))
  ab, last_lab = recur(_luminance(), guidance, zeros, unroll=3)  # 3 and 1.
  np.testing.assert_allclose(ab, coloured[0], atol=1e-3)
  np.testing.assert_allclose(last_lab, coloured[1], atol=1e-3)


def test_noise_is_seen_but_not_carried():
  clean = _luminance(b=1)
  noisy = clean + 7
  guidance = Guidance(jnp.zeros((1, _T, 1)), jnp.zeros((1, _T, 1)))
  first = np.full((1, _H, _W, 3), 3, np.float32)

  def record(luminance, guidance, previous_lab):
    """As ab: the lightness now, and that of the frame before."""
    return jnp.concatenate([luminance, previous_lab[..., :1]], -1)

  ab, last_lab = colorize_clip(record, noisy, guidance, first, clean)
  np.testing.assert_array_equal(ab[..., :1], noisy)
  np.testing.assert_array_equal(ab[:, 0, ..., 1:], first[..., :1])
  np.testing.assert_array_equal(ab[:, 1:, ..., 1:], clean[:, :-1])
  np.testing.assert_array_equal(last_lab[..., :1], clean[:, -1])
  np.testing.assert_array_equal(last_lab[..., 1:], ab[:, -1])


def test_the_frame_before_is_brought_along_the_flow():
  """By whole pixels: each frame sees its predecessor moved right by two."""
  luminance = _luminance(b=1)
  guidance = Guidance(jnp.zeros((1, _T, 1)), jnp.zeros((1, _T, 1)))
  first = (
    _luminance(b=1, t=3, seed=5).squeeze(-1).swapaxes(1, -1).swapaxes(1, 2)
  )
  flow = np.zeros((1, _T, _H, _W, 2), np.float32)
  flow[:, :, ..., 0] = -2.0

  def record(luminance, guidance, previous_lab):
    return jnp.concatenate([luminance, previous_lab[..., :1]], -1)

  first = np.ascontiguousarray(first.reshape(1, _H, _W, 3))
  ab, _ = colorize_clip(record, luminance, guidance, first, backward_flow=flow)
  before = np.concatenate([first[:, None, ..., :1], luminance[:, :-1]], 1)
  np.testing.assert_allclose(
    ab[..., 2:, 1], before[..., :-2, 0], rtol=0, atol=1e-4
  )


def test_alike_is_what_shows_the_same_as_well_as_the_best_match_does():
  rng = np.random.default_rng(0)
  scene = rng.normal(size=(4, 10, 16)).astype(np.float32)
  scene /= np.linalg.norm(scene, axis=-1, keepdims=True)
  before, frame = scene[:, :8], scene[:, 2:].copy()  # Moved by two positions.
  frame[0] *= -1  # Nothing of this was there.
  motion = np.full((1, 1, 32, 64, 2), (16, 0), np.float32)  # 8 to a position.
  sure, unsure, tolerant = (
    likeness(
      jnp.asarray(frame[None, None]),
      jnp.asarray(before[None, None]),
      motion,
      jnp.full((1, 1, 16, 32, 1), confidence),
      stride=8,
      tolerance=tolerance,
    )
    for confidence, tolerance in ((1.0, 0.1), (-1.0, 0.1), (1.0, 2.0))
  )
  assert sure.shape == (1, 1, 32, 64, 1)
  np.testing.assert_allclose(sure[0, 0, 12:, :40], 1, atol=1e-3)
  assert (sure[0, 0, :4, :40] < 1e-6).all()
  np.testing.assert_allclose(unsure[..., :40, :], 1, atol=1e-3)
  # The opposite is less alike by 2.
  np.testing.assert_allclose(tolerant[0, 0, :4, :40], np.exp(-1), atol=1e-3)


def test_the_anchor_is_the_first_of_the_references(variables):
  """Of a size that rounding made smaller, and along the flow to it."""
  generator = _generator()
  apply = functools.partial(generator.apply, variables)
  first = apply(_rgb(1)[:, :, :32], method='encode_reference')
  reference = competing(
    [first, apply(_rgb(1, seed=3), method='encode_reference')]
  )
  luminance = _luminance(b=1, t=3)
  to_first = np.full((1, 2, 2 * _H, 2 * _W, 2), (8.0, 0.0), np.float32)
  back = np.zeros_like(to_first)
  guidance, steady, anchored = apply(
    *(luminance, reference, back, to_first, 2), method='guide_along'
  )
  queries = np.asarray(apply(luminance, method='encode_frames'))[0]
  confidence = np.asarray(guidance.confidence)[0, :, ::4, ::4, 0]
  keys = np.asarray(first.keys).reshape(1, 8, 8, -1)
  moved = keys[:, :, np.minimum(np.arange(12) + 1, 7)]  # By one position.
  for found, others, tolerance in (
    (steady, queries[:-1], 0.1),
    (anchored, np.repeat(moved, 2, 0), 0.2),
  ):
    alike = np.einsum('tnmd,tnmd->tnm', queries[1:], others)
    want = np.exp(-np.maximum(confidence - alike, 0) / tolerance)
    want = jax.image.resize(want, (2, 2 * _H, 2 * _W), 'bilinear')
    np.testing.assert_allclose(found[0, ..., 0], want, atol=1e-3)
  _, steady, alone = apply(
    *(luminance, reference, None, to_first, 2), method='guide_along'
  )
  assert steady is None
  np.testing.assert_allclose(alone, anchored, atol=1e-5)


def test_matching_by_components_is_the_same_where_they_span_the_features():
  rng = np.random.default_rng(0)
  span = np.linalg.qr(rng.normal(size=(2, 64, 10)))[0]
  keys = rng.normal(size=(2, 90, 10)) @ span.swapaxes(1, 2)
  keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
  whole = Reference(
    jnp.zeros((2, 24, 60, 3)),
    jnp.asarray(keys, jnp.float32),
    jnp.asarray(rng.normal(size=(2, 90, 2)), jnp.float32),
  )
  # What queries have beside, no key can match.
  queries = rng.normal(size=(2, _T, 3, 5, 64)).astype(np.float32)
  queries /= np.linalg.norm(queries, axis=-1, keepdims=True)
  few = compressed(whole, 10)
  assert few.keys.shape == (2, 90, 10)
  found, want = (
    _generator().apply({}, queries, x, method='match') for x in (few, whole)
  )
  np.testing.assert_allclose(found.warped_ab, want.warped_ab, atol=1e-3)
  np.testing.assert_allclose(found.confidence, want.confidence, atol=1e-5)
  for components in (0, 64):
    assert compressed(whole, components) is whole
  # Three are less than all, and the best three.
  singular = np.linalg.svd(keys[0], compute_uv=False)
  np.testing.assert_allclose(
    np.sum(np.square(compressed(whole, 3).keys[0])),
    np.sum(np.square(singular[:3])),
    rtol=1e-4,
  )


def test_matched_colours_stand_in_where_the_frame_before_is_not_steady():
  luminance = _luminance(b=1)
  guidance = Guidance(
    jnp.full((1, _T, _H, _W, 2), 40.0), jnp.zeros((1, _T, _H, _W, 1))
  )
  steady = np.ones((1, _T, _H, _W, 1), np.float32)
  steady[..., 0, :], steady[..., 1, :] = 0.0, 0.25

  def what_was(luminance, guidance, previous_lab):
    np.testing.assert_equal(previous_lab.shape, (1, _H, _W, 3))
    return previous_lab[..., 1:] + previous_lab[..., :1]

  first = np.full((1, _H, _W, 3), (0.0, 8.0, -8.0), np.float32)
  ab, _ = colorize_clip(
    what_was, luminance * 0, guidance, jnp.asarray(first), steady=steady
  )
  for column, a, b in ((0, 40, 40), (1, 32, 28), (2, 8, -8)):
    np.testing.assert_allclose(ab[0, 0, :, column], [[a, b]] * _H, atol=1e-4)
  # Zeros stand for no frame before, and stay.
  ab, _ = colorize_clip(
    what_was, luminance * 0, guidance, jnp.zeros_like(first), steady=steady
  )
  assert not ab[0, 0].any()


def test_an_anchor_gives_its_colours_where_it_looks_alike():
  luminance = _luminance(b=1)
  guidance = Guidance(jnp.zeros((1, _T, 1)), jnp.zeros((1, _T, 1)))
  # The first frame of the clip, moved right by two pixels; a part is hidden.
  lab = np.zeros((1, _H, _W, 3), np.float32)
  lab[..., :1] = np.roll(luminance[:, 0], 2, 2)
  lab[..., 1:] = 30.0
  lab[:, : _H // 2, :, :1] += 1000.0
  flow = np.zeros((1, _T, _H, _W, 2), np.float32)
  flow[..., 0] = 2.0

  def tens(luminance, guidance, previous_lab):
    return jnp.full((*luminance.shape[:-1], 2), 10.0)

  weight = np.full((1, _T, _H, _W, 1), 0.4, np.float32)
  weight[:, -1] = 0.0
  anchor = Anchor(jnp.asarray(lab), jnp.asarray(flow), weight)
  ab, last_lab = colorize_clip(
    tens, luminance, guidance, jnp.zeros_like(lab), anchor=anchor
  )
  inner = ab[:, :, :, :-2]  # Two columns came from outside.
  np.testing.assert_allclose(inner[:, 0, _H // 2 :], 18.0, atol=1e-3)
  np.testing.assert_allclose(inner[:, :, : _H // 2], 10.0, atol=1e-3)
  difference = np.abs(luminance[:, 1] - luminance[:, 0])
  want = 10 + 20 * 0.4 * np.exp(-difference / 5)
  want = np.broadcast_to(want, (*want.shape[:-1], 2))
  np.testing.assert_allclose(
    ab[:, 1, _H // 2 :, :-2], want[:, _H // 2 :, :-2], atol=1e-3
  )
  np.testing.assert_array_equal(ab[:, -1], np.full_like(ab[:, -1], 10.0))
  np.testing.assert_array_equal(last_lab[..., 1:], ab[:, -1])


def test_a_stem_feeds_the_vit_the_decoders_and_the_matching():
  generator = _generator(stem='efficientnet_lite0')
  made = jax.eval_shape(generator.init, jax.random.key(0), _rgb(1))['params']
  assert 'conv_head' not in made['stem']
  assert made['vit']['embedding']['kernel'].shape == (1, 1, 112 + 192, 32)
  laterals = {
    name: x['lateral']['kernel'].shape[0]
    for name, x in made['feature_transform'].items()
    if 'lateral' in x
  }
  assert laterals == {'level2': 16, 'level3': 24, 'level4': 40, 'level5': 304}
  keys = jax.eval_shape(
    functools.partial(generator.apply, method='encode_reference'),
    {'params': made},
    _rgb(1),
  ).keys
  assert keys.shape == (1, _H * _W // 16, 16 + 24 + 40 + 112 + 192)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'stem': 'resnet'}, "config.model.stem is 'resnet'; known are effic"),
    (
      {
        'stem': 'efficientnet_lite0',
        'vit': {'variant': 'Ti/8', 'taps': (8, 9, 10, 11, 12)},
      },
      'vit.variant=Ti/8 cannot see through config.model.stem=effic.* with /16',
    ),
    (
      {'colorizer': {'width': 1 / 16, 'residual': 'flow'}},
      "colorizer.residual is 'flow'; known are warped, blend",
    ),
  ],
)
def test_stem_and_residual_that_are_not_known_are_named(changes, message):
  with pytest.raises(UserError, match=message):
    jax.eval_shape(_generator(**changes).init, jax.random.key(0), _rgb(1))


def _calls(kind, method, *args, generator=None):
  """Inputs and names of the modules of a kind that a method runs; no compute."""
  generator = generator or _generator()
  seen = []

  def note(next_function, args, kwargs, context):
    if isinstance(context.module, kind) and context.method_name == '__call__':
      seen.append((context.module.name, args[0]))
    return next_function(*args, **kwargs)

  with nn.intercept_methods(note):
    out = generator.apply(*args, method=method)
  return seen, out


def test_the_vit_sees_grey_frames_and_a_true_reference(variables, reference):
  """Both scaled from [0, 1] to [-1, 1], the pretrained weights' range."""

  @jax.jit
  def inputs(variables):
    kind = vit.VisionTransformer
    ((_, frames),), _ = _calls(
      kind, 'guide', variables, _luminance(), reference
    )
    ((_, picture),), _ = _calls(kind, 'encode_reference', variables, _rgb(2))
    return frames, picture

  frames, picture = inputs(variables)
  grey = ((_luminance() + 50) / 100).repeat(3, -1).reshape(-1, _H, _W, 3)
  np.testing.assert_allclose(frames, 2 * grey - 1, atol=1e-5)
  np.testing.assert_allclose(picture, 2 * _rgb(2) - 1, atol=1e-5)


def test_decoders_not_matched_with_are_not_computed(variables, reference):
  names = []

  def guide(variables):
    calls, out = _calls(Decoder, 'guide', variables, _luminance(), reference)
    names.extend(name for name, _ in calls)
    return out

  jax.eval_shape(guide, variables)
  assert names == ['level2', 'level3', 'level4', 'level5']


def test_float32_leaves_a_bfloat16_generator(variables, reference, guidance):
  apply = functools.partial(_generator(dtype='bfloat16').apply, variables)

  def run():
    reference = apply(_rgb(2), method='encode_reference')
    guidance = apply(_luminance(), reference, method='guide')
    zeros = jnp.zeros((2, _H, _W, 3))
    ab = apply(
      _luminance()[:, 0], _at(guidance, 0), zeros, method='colorize_frame'
    )
    return reference, guidance, ab

  assert {x.dtype for x in jax.tree.leaves(jax.eval_shape(run))} == {
    jnp.dtype('float32')
  }


def test_features_in_bfloat16_are_close(variables):
  def features(dtype):
    apply = functools.partial(
      _generator(dtype=dtype).apply, levels=(3,), method='features'
    )
    return jax.jit(apply)(variables, _rgb(2))[0]

  exact, rounded = features('float32'), features('bfloat16')
  assert rounded.dtype == jnp.bfloat16
  error = np.asarray(rounded, np.float32) - exact
  assert np.sqrt(np.mean(error**2)) < 0.05 * exact.std()


def test_dropout_wants_a_key_in_training_only(variables, reference):
  apply = functools.partial(_generator().apply, variables)

  def run(method, *args):
    return jax.eval_shape(lambda: apply(*args, method=method))

  calls = (
    ('features', _rgb(2), (3,)),
    ('encode_reference', _rgb(2)),
    ('guide', _luminance(), reference),
  )
  for method, *args in calls:
    run(method, *args, False)
    with pytest.raises(flax.errors.InvalidRngError, match='dropout'):
      run(method, *args, True)


def test_the_papers_sizes():
  model = get_config().model.to_dict()
  del model['discriminator']
  image = jax.ShapeDtypeStruct((1, 224, 384, 3), jnp.float32)
  made = jax.eval_shape(Generator(**model).init, jax.random.key(0), image)
  params = made['params']
  assert plain.count(params['correspondence']) == 9_014_797
  assert plain.count(params['colorizer']) == 32_802_370


def test_without_a_reference_colors_are_the_priors():
  made = _generator(prior={'width': 1 / 16})
  luminance = _luminance(1)
  shapes = jax.eval_shape(made.init, jax.random.key(0), _rgb(1))
  rng = np.random.default_rng(3)
  variables = jax.tree.map(
    lambda x: np.float32(rng.normal(0, 0.2, x.shape)), shapes
  )
  apply = jax.jit(
    functools.partial(made.apply, variables), static_argnames='method'
  )
  flow = np.zeros((1, _T - 1, _H, _W, 2), np.float32)
  guidance, steady, anchored = apply(luminance, flow, method='guide_by_prior')
  alone = apply(luminance[0, 1:], method='predict_color')
  blocks = np.asarray(guidance.warped_ab).reshape(_T - 1, 8, 4, 12, 4, 2)
  np.testing.assert_allclose(blocks[:, :, 1, :, 2], alone.ab, atol=1e-4)
  confidence = np.asarray(guidance.confidence)[0, :, ::4, ::4]
  np.testing.assert_allclose(
    confidence, np.exp(-np.asarray(alone.spread) / 20), atol=1e-5
  )
  assert anchored is None and steady.shape == (1, _T - 1, _H, _W, 1)
  assert (steady >= 0).all() and (steady <= 1).all()
  still = np.repeat(luminance[:, :1], _T, 1)
  _, steady, _ = apply(still, flow, method='guide_by_prior')
  np.testing.assert_allclose(steady, 1, atol=1e-5)


def test_a_generator_of_earlier_exports_has_no_prior(variables):
  assert not _generator().has_prior
  assert 'prior' not in variables['params']
