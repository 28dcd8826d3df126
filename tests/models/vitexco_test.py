"""The whole network: its parts, and the recurrence over time."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest
import tiny_generator
from flax import linen as nn
from skimage import color as skcolor
from tiny_generator import H, T, W, make_tiny, random_luminance, random_rgb

from configs.vitexco import get_config
from vitexco_jax.models import vit
from vitexco_jax.models.feature_transform import Decoder
from vitexco_jax.models.vitexco import Generator, colorize_clip
from vitexco_jax.structs import Guidance


@pytest.fixture(scope='module')
def variables():
  return tiny_generator.random_variables()


@pytest.fixture(scope='module')
def call(variables):
  """Runs a method of the generator, compiled."""
  apply = jax.jit(make_tiny().apply, static_argnames='method')
  return functools.partial(apply, variables)


@pytest.fixture(scope='module')
def reference(call):
  return call(random_rgb(2), method='encode_reference')


@pytest.fixture(scope='module')
def guidance(call, reference):
  return call(random_luminance(), reference, method='guide')


@pytest.fixture(scope='module')
def recur(variables):
  """`colorize_clip`, bound to the parameters and compiled."""
  bound = functools.partial(
    make_tiny().apply, variables, method='colorize_frame'
  )
  return jax.jit(
    functools.partial(colorize_clip, bound), static_argnames='unroll'
  )


@pytest.fixture(scope='module')
def colored(recur, guidance):
  return recur(random_luminance(), guidance, jnp.zeros((2, H, W, 3)))


def _at(tree, *index):
  return jax.tree.map(lambda x: x[:, *index], tree)


def test_encode_reference_agrees_with_scikit_image(reference):
  lab = skcolor.rgb2lab(random_rgb(2).astype(np.float64))
  np.testing.assert_allclose(reference.lab, lab - [50, 0, 0], atol=1e-2)
  means = lab[..., 1:].reshape(2, H // 4, 4, W // 4, 4, 2).mean((2, 4))
  np.testing.assert_allclose(reference.ab, means.reshape(2, -1, 2), atol=1e-2)
  assert reference.keys.shape == (2, (H // 4) * (W // 4), 16)


def test_guidance_is_constant_in_blocks_of_four_pixels(guidance):
  assert guidance.warped_ab.shape == (2, T, H, W, 2)
  assert guidance.confidence.shape == (2, T, H, W, 1)
  for x in guidance[:2]:
    pooled = np.asarray(x)[:, :, ::4, ::4]
    np.testing.assert_array_equal(x, pooled.repeat(4, 2).repeat(4, 3))


def test_guiding_a_block_equals_guiding_each_frame(call, reference, guidance):
  for t in range(T):
    single = call(random_luminance()[:, t : t + 1], reference, method='guide')
    for x, y in zip(single[:2], guidance[:2], strict=True):
      # A low temperature amplifies rounding errors.
      np.testing.assert_allclose(x[:, 0], y[:, t], atol=0.05)


def test_each_clip_uses_its_own_reference(call, reference, guidance):
  """Swapping two clips and their references swaps their guidance."""

  def swap(tree):
    return jax.tree.map(lambda x: x[::-1], tree)

  swapped = call(swap(random_luminance()), swap(reference), method='guide')
  for x, y in zip(swap(swapped)[:2], guidance[:2], strict=True):
    np.testing.assert_allclose(x, y, atol=1e-3)
  mixed = call(random_luminance(), swap(reference), method='guide')
  assert np.abs(mixed.warped_ab - guidance.warped_ab).mean() > 1


def test_scan_equals_the_plain_loop(call, guidance, colored):
  ab, last_lab = colored
  previous_lab = jnp.zeros((2, H, W, 3))
  for t in range(T):
    luminance = random_luminance()[:, t]
    want = call(
      luminance, _at(guidance, t), previous_lab, method='colorize_frame'
    )
    np.testing.assert_allclose(ab[:, t], want, atol=1e-3)
    previous_lab = jnp.concatenate([luminance, want], -1)
  np.testing.assert_allclose(last_lab, previous_lab, atol=1e-3)
  assert ab.std() > 5  # The colors are visible.


def test_each_frame_depends_on_the_previous_one(call, guidance, colored):
  """Without this, the tests of the recurrence would prove nothing."""
  zeros = jnp.zeros((2, H, W, 3))
  single = call(
    random_luminance()[:, 1], _at(guidance, 1), zeros, method='colorize_frame'
  )
  assert np.abs(single - colored[0][:, 1]).max() > 0.1


def test_two_halves_equal_the_whole(recur, guidance, colored):
  lab = jnp.zeros((2, H, W, 3))
  halves = []
  for part in (slice(0, 2), slice(2, 4)):
    ab, lab = recur(random_luminance()[:, part], _at(guidance, part), lab)
    halves.append(ab)
  np.testing.assert_allclose(np.concatenate(halves, 1), colored[0], atol=1e-3)
  np.testing.assert_allclose(lab, colored[1], atol=1e-3)


def test_unroll_changes_nothing(recur, guidance, colored):
  zeros = jnp.zeros((2, H, W, 3))
  ab, last_lab = recur(
    random_luminance(), guidance, zeros, unroll=3
  )  # 3 and 1.
  np.testing.assert_allclose(ab, colored[0], atol=1e-3)
  np.testing.assert_allclose(last_lab, colored[1], atol=1e-3)


def test_noise_does_not_reach_the_next_frame():
  clean = random_luminance(b=1)
  noisy = clean + 7
  guidance = Guidance(jnp.zeros((1, T, 1)), jnp.zeros((1, T, 1)))
  first = np.full((1, H, W, 3), 3, np.float32)

  def record(luminance, guidance, previous_lab):
    """Returns as ab the lightness of this frame and of the previous one."""
    return jnp.concatenate([luminance, previous_lab[..., :1]], -1)

  ab, last_lab = colorize_clip(record, noisy, guidance, first, clean)
  np.testing.assert_array_equal(ab[..., :1], noisy)
  np.testing.assert_array_equal(ab[:, 0, ..., 1:], first[..., :1])
  np.testing.assert_array_equal(ab[:, 1:, ..., 1:], clean[:, :-1])
  np.testing.assert_array_equal(last_lab[..., :1], clean[:, -1])
  np.testing.assert_array_equal(last_lab[..., 1:], ab[:, -1])


def _calls(kind, method, *args, generator=None):
  """Returns names and inputs of the modules of a kind that a method calls."""
  generator = generator or make_tiny()
  seen = []

  def note(next_function, args, kwargs, context):
    if isinstance(context.module, kind) and context.method_name == '__call__':
      seen.append((context.module.name, args[0]))
    return next_function(*args, **kwargs)

  with nn.intercept_methods(note):
    out = generator.apply(*args, method=method)
  return seen, out


def test_the_vit_gets_gray_frames_and_a_color_reference(variables, reference):
  """Both are scaled to [-1, 1], the range of pretrained weights."""

  @jax.jit
  def inputs(variables):
    kind = vit.VisionTransformer
    ((_, frames),), _ = _calls(
      kind, 'guide', variables, random_luminance(), reference
    )
    ((_, picture),), _ = _calls(
      kind, 'encode_reference', variables, random_rgb(2)
    )
    return frames, picture

  frames, picture = inputs(variables)
  gray = ((random_luminance() + 50) / 100).repeat(3, -1).reshape(-1, H, W, 3)
  np.testing.assert_allclose(frames, 2 * gray - 1, atol=1e-5)
  np.testing.assert_allclose(picture, 2 * random_rgb(2) - 1, atol=1e-5)


def test_only_decoders_that_matching_uses_are_computed(variables, reference):
  names = []

  def guide(variables):
    calls, out = _calls(
      Decoder, 'guide', variables, random_luminance(), reference
    )
    names.extend(name for name, _ in calls)
    return out

  jax.eval_shape(guide, variables)
  assert names == ['level2', 'level3', 'level4', 'level5']


def test_a_bfloat16_network_returns_float32(variables, reference, guidance):
  apply = functools.partial(make_tiny(dtype='bfloat16').apply, variables)

  def run():
    reference = apply(random_rgb(2), method='encode_reference')
    guidance = apply(random_luminance(), reference, method='guide')
    zeros = jnp.zeros((2, H, W, 3))
    ab = apply(
      random_luminance()[:, 0], _at(guidance, 0), zeros, method='colorize_frame'
    )
    return reference, guidance, ab

  assert {x.dtype for x in jax.tree.leaves(jax.eval_shape(run))} == {
    jnp.dtype('float32')
  }


def test_features_in_bfloat16_are_close(variables):
  def features(dtype):
    apply = functools.partial(
      make_tiny(dtype=dtype).apply, levels=(3,), method='features'
    )
    return jax.jit(apply)(variables, random_rgb(2))[0]

  exact, rounded = features('float32'), features('bfloat16')
  assert rounded.dtype == jnp.bfloat16
  error = np.asarray(rounded, np.float32) - exact
  assert np.sqrt(np.mean(error**2)) < 0.05 * exact.std()


def test_dropout_needs_a_key_only_in_training(variables, reference):
  apply = functools.partial(make_tiny().apply, variables)

  def run(method, *args):
    return jax.eval_shape(lambda: apply(*args, method=method))

  calls = (
    ('features', random_rgb(2), (3,)),
    ('encode_reference', random_rgb(2)),
    ('guide', random_luminance(), reference),
  )
  for method, *args in calls:
    run(method, *args, False)
    with pytest.raises(flax.errors.InvalidRngError, match='dropout'):
      run(method, *args, True)


def test_the_papers_sizes():
  model = get_config().model.to_dict()
  del model['discriminator']
  image = jax.ShapeDtypeStruct((1, 224, 384, 3), jnp.float32)
  shapes = jax.eval_shape(Generator(**model).init, jax.random.key(0), image)
  params = shapes['params']
  assert plain.count(params['correspondence']) == 9_014_797
  assert plain.count(params['colorizer']) == 32_802_370
