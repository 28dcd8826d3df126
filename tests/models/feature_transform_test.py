"""Tests of the decoders against slow loops over single pixels."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitexco_jax.models.feature_transform import Decoder, FeatureTransform

_CHANNELS = (64, 128, 256, 512, 512)


def _decoder(kind, scale, channels=3, dropout=0.3):
  return Decoder(channels, scale, kind, dropout, jnp.float32)


def _grid(b=2, n=2, m=3, d=4, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(b, n, m, d)).astype(np.float32)


def _random_params(decoder, grid):
  init = functools.partial(decoder.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), grid)
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
    shapes['params'],
  )


def _identity_convolution(params, channels):
  """Disables the convolution after the layout of pixels."""
  kernel = np.zeros((3, 3, channels, channels), np.float32)
  kernel[1, 1] = np.eye(channels)
  bias = np.zeros(channels, np.float32)
  return params | {'Conv_0': {'kernel': kernel, 'bias': bias}}


def _norm_and_gelu(x, params):
  """One pixel's channels, [c]."""
  norm = params['LayerNorm_0']
  x = (x - x.mean()) / math.sqrt(x.var() + 1e-6)
  x = x * norm['scale'] + norm['bias']
  return np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])


@pytest.mark.parametrize('kind', ['bilinear', 'subpixel'])
@pytest.mark.parametrize(
  ('patch', 'grid'), [(16, (2, 3)), (16, (14, 24)), (8, (4, 6))]
)
def test_strides_and_channels(kind, patch, grid):
  taps = [jax.ShapeDtypeStruct((2, *grid, 192), jnp.float32)] * 5
  net = FeatureTransform(kind, patch=patch)
  features, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), taps)
  h, w = grid[0] * patch, grid[1] * patch
  assert [x.shape for x in features] == [
    (2, h >> i, w >> i, c) for i, c in enumerate(_CHANNELS)
  ]


def test_each_level_decodes_only_its_tap():
  net = FeatureTransform(width=1 / 32)
  taps = [_grid(seed=i) for i in range(5)]
  key = jax.random.key(0, impl='rbg')  # Quick to compile.

  @jax.jit
  def run():
    whole, variables = net.init_with_output(key, taps)
    few = [None, taps[1], None, None, taps[4]]
    return whole, net.apply(variables, few, (2, 5))

  whole, part = run()
  np.testing.assert_allclose(part[0], whole[1], atol=1e-6)
  np.testing.assert_allclose(part[1], whole[4], atol=1e-6)


def test_bilinear_interpolates_between_the_centers_of_tokens():
  grid, s = _grid(b=1), 4
  n, m = grid.shape[1:3]
  decoder = _decoder('bilinear', s)
  params = _random_params(decoder, grid)
  features = decoder.apply({'params': params}, grid, False)

  tokens = grid[0] @ params['Dense_0']['kernel'] + params['Dense_0']['bias']
  for y in range(n * s):
    for x in range(m * s):
      # The center of a pixel, in tokens, clipped to the outer centers.
      v = min(max((y + 0.5) / s - 0.5, 0), n - 1)
      u = min(max((x + 0.5) / s - 0.5, 0), m - 1)
      i, j = min(int(v), n - 2), min(int(u), m - 2)
      v, u = v - i, u - j
      mixed = (
        (1 - v) * (1 - u) * tokens[i, j]
        + (1 - v) * u * tokens[i, j + 1]
        + v * (1 - u) * tokens[i + 1, j]
        + v * u * tokens[i + 1, j + 1]
      )
      want = _norm_and_gelu(mixed, params)
      np.testing.assert_allclose(features[0, y, x], want, atol=1e-4)


def test_subpixel_puts_the_vectors_of_a_token_into_its_patch():
  grid, s, c = _grid(b=1), 4, 3
  decoder = _decoder('subpixel', s, c)
  params = _identity_convolution(_random_params(decoder, grid), c)
  features = decoder.apply({'params': params}, grid, False)

  tokens = grid[0] @ params['Dense_0']['kernel'] + params['Dense_0']['bias']
  for y in range(grid.shape[1] * s):
    for x in range(grid.shape[2] * s):
      place = (y % s) * s + x % s  # Within the patch, row by row.
      vector = tokens[y // s, x // s][place * c : (place + 1) * c]
      want = _norm_and_gelu(vector, params)
      np.testing.assert_allclose(features[0, y, x], want, atol=1e-4)


@pytest.mark.parametrize(('kind', 'reach'), [('bilinear', 2), ('subpixel', 1)])
def test_a_token_changes_only_its_patch_and_a_margin(kind, reach):
  s = 4
  grid = _grid(b=1, n=3, m=5)
  decoder = _decoder(kind, s)
  params = _random_params(decoder, grid)
  changed_grid = grid.copy()
  changed_grid[0, 1, 3] += 1

  before = decoder.apply({'params': params}, grid, False)
  after = decoder.apply({'params': params}, changed_grid, False)
  changed = (np.abs(after - before) > 1e-6).any((0, 3))
  want = np.zeros_like(changed)
  want[s - reach : 2 * s + reach, 3 * s - reach : 4 * s + reach] = True
  np.testing.assert_array_equal(changed, want)


def test_bilinear_does_not_depend_on_raster_order():
  """A transposed token grid gives the transposed picture."""
  grid = _grid()
  decoder = _decoder('bilinear', 4)
  params = _random_params(decoder, grid)
  upright = decoder.apply({'params': params}, grid, False)
  turned = decoder.apply({'params': params}, grid.swapaxes(1, 2), False)
  np.testing.assert_allclose(turned, upright.swapaxes(1, 2), atol=1e-5)


def test_dropout_in_training_only():
  grid = _grid(n=8, m=8)
  decoder = _decoder('bilinear', 4, channels=16, dropout=0.3)
  params = _random_params(decoder, grid)
  plain = decoder.apply({'params': params}, grid, False)  # Needs no key.
  rngs = {'dropout': jax.random.key(2)}
  dropped = decoder.apply({'params': params}, grid, True, rngs=rngs)
  gone = (dropped == 0) & (plain != 0)
  assert abs(gone.mean() - 0.3) < 0.02
  kept = np.where(gone, 0, plain / 0.7)
  np.testing.assert_allclose(dropped, kept, rtol=1e-5)


@pytest.mark.parametrize('kind', ['bilinear', 'subpixel'])
def test_lateral_maps_are_added_before_the_norm(kind):
  """A lateral map that cancels the decoded tokens leaves the norm's bias."""
  decoder = _decoder(kind, 2, channels=3)
  grid = _grid(n=2, m=3, d=4)
  plain_params = _random_params(decoder, grid)
  lateral = np.zeros((2, 4, 6, 3), np.float32)
  params = plain_params | {
    'lateral': {'kernel': np.eye(3, dtype='f4'), 'bias': np.zeros(3, 'f4')}
  }
  apply = jax.jit(functools.partial(decoder.apply, train=False))
  plain = apply({'params': plain_params}, grid)
  np.testing.assert_allclose(
    apply({'params': params}, grid, lateral=lateral), plain, atol=1e-6
  )
  loud = np.zeros_like(lateral)
  loud[..., 1] = 1e6  # Dominates the decoded tokens in one of three channels.
  actual = apply({'params': params}, grid, lateral=loud)
  want = _norm_and_gelu(np.array([0.0, 1e6, 0.0]), plain_params)
  np.testing.assert_allclose(
    actual, np.broadcast_to(want, actual.shape), atol=1e-3
  )
