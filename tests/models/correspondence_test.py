"""The correspondence network and its matching, against plain numpy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from vitexco_jax.models.correspondence import CorrespondenceNet, match

_LEVELS = (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
  ('levels', 'parameters'),
  [((2, 3, 4, 5), 6_917_131), (_LEVELS, 9_014_797)],
)
def test_parameter_count(levels, parameters):
  channels = (64, 128, 256, 512, 512)
  features = [
    jax.ShapeDtypeStruct((1, *2 * [64 >> level], channels[level - 1]), 'f4')
    for level in levels
  ]
  net = CorrespondenceNet(levels)
  result = jax.eval_shape(net.init, jax.random.key(0), features, features)
  assert plain.count(result['params']) == parameters


def _features(seed, h=32, w=48, b=2):
  """Random features with a few channels on each level."""
  rng = np.random.default_rng(seed)
  return [
    rng.normal(
      size=(b, h * 2 // 2**level, w * 2 // 2**level, 2 + level)
    ).astype(np.float32)
    for level in _LEVELS
  ]


def _random_params(net, features):
  """All leaves are random, also the slopes of PReLU, so that all differ."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), features, features)
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: rng.uniform(-0.6, 0.6, leaf.shape).astype(np.float32),
    shapes['params'],
  )


def _plain_embedding(params, features):
  """DEVC's WarpNet up to theta and phi."""

  def c(x, weights, stride=1):
    x = plain.conv(x, weights['conv'], stride, padding='reflect')
    return plain.instance_norm(x)

  def prelu(x, weights):
    return plain.leaky_relu(x, weights['negative_slope'])

  f = [plain.unit(x.astype(np.float64)) for x in features]

  def branch(level, strides=(1, 1), scales=(1, 1)):
    x = f[level - 1]
    p = params[f'branch{level}']
    for i in range(2):
      x = prelu(c(x, p[f'conv{i}'], strides[i]), p[f'prelu{i}'])
      x = plain.upsample_nearest(x, scales[i])
    return x

  x = np.concatenate(
    [
      branch(1, strides=(2, 2)),
      branch(2, strides=(1, 2)),
      branch(3),
      branch(4, scales=(1, 2)),
      branch(5, scales=(2, 2)),
    ],
    -1,
  )
  for i in range(3):
    p = params[f'block{i}']
    y = prelu(c(x, p['conv0']), p['prelu'])
    x = prelu(x + c(y, p['conv1']), p['prelu'])
  return x


def _plain_projection(x, weights):
  x = plain.conv(x, weights)
  x = plain.unit(x - x.mean((1, 2), keepdims=True))
  return x.reshape(len(x), -1, x.shape[-1])


def test_network_equals_the_numpy_network():
  net = CorrespondenceNet(_LEVELS, width=1 / 32)
  frame, reference = _features(2), _features(3)
  params = _random_params(net, frame)
  queries, keys = jax.jit(net.apply)({'params': params}, frame, reference)
  assert queries.shape == keys.shape == (2, 8 * 12, 8)
  want = _plain_projection(_plain_embedding(params, frame), params['theta'])
  np.testing.assert_allclose(queries, want, atol=1e-4)
  want = _plain_projection(_plain_embedding(params, reference), params['phi'])
  np.testing.assert_allclose(keys, want, atol=1e-4)


def test_a_bfloat16_network_returns_float32():
  net = CorrespondenceNet((3,), width=1 / 32)
  features = _features(2)[2:3]
  params = _random_params(net, features)

  def queries(net):
    apply = jax.jit(net.apply, static_argnames='method')
    return apply({'params': params}, features, method='queries')

  exact, rounded = queries(net), queries(net.clone(dtype=jnp.bfloat16))
  assert rounded.dtype == jnp.float32
  np.testing.assert_allclose(jnp.linalg.norm(rounded, axis=-1), 1, atol=1e-5)
  assert (exact * rounded).sum(-1).mean() > 0.99


def test_maps_of_another_network_are_compared_as_they_are():
  """Correlations are means: of theta's and phi's, and of each map's own."""
  net = CorrespondenceNet((3,), width=1 / 32, maps=2)
  features = _features(2)[2:3], _features(3)[2:3]
  rng = np.random.default_rng(4)
  maps = [
    [rng.normal(size=(2, *size)).astype(np.float32) for size in sizes]
    for sizes in [[(8, 12, 5), (4, 6, 7)]] * 2
  ]
  params = jax.tree.map(
    lambda leaf: rng.uniform(-0.6, 0.6, leaf.shape).astype(np.float32),
    jax.eval_shape(
      lambda *x: net.init(*x, method='queries'),
      jax.random.key(0),
      features[0],
      maps[0],
    )['params'],
  )
  params['phi'] = params['theta']
  apply = jax.jit(net.apply, static_argnames='method')
  queries = apply({'params': params}, features[0], maps[0], method='queries')
  keys = apply({'params': params}, features[1], maps[1], method='keys')

  bare = {name: x for name, x in params.items() if name != 'shares'}
  learned = [
    jax.jit(net.clone(maps=0).apply, static_argnames='method')(
      {'params': bare}, x, method='queries'
    )
    for x in features
  ]
  parts = [np.einsum('bqd,bkd->bqk', *learned)]
  for pair in zip(*maps, strict=True):
    grown = [
      np.stack([cv2.resize(x, (12, 8)) for x in batch]) for batch in pair
    ]
    units = [
      plain.unit(x - x.mean((1, 2), keepdims=True)).reshape(2, 96, -1)
      for x in grown
    ]
    parts.append(np.einsum('bqd,bkd->bqk', *units))
  shares = np.exp(params['shares']) / np.exp(params['shares']).sum()
  want = sum(share * part for share, part in zip(shares, parts, strict=True))
  actual = np.einsum('bqd,bkd->bqk', queries, keys)
  np.testing.assert_allclose(actual, want, atol=1e-4)


def test_maps_have_most_of_the_weight_at_first():
  net = CorrespondenceNet((3,), width=1 / 32, maps=2)
  maps = [np.ones((2, 8, 12, 3), np.float32)] * 2
  result = net.init(
    jax.random.key(0), _features(2)[2:3], maps, method='queries'
  )
  shares = jax.nn.softmax(result['params']['shares'])
  np.testing.assert_allclose(shares, [1 / 17, 8 / 17, 8 / 17], atol=1e-6)


def _vectors(b=2, q=23, k=17, d=8):
  rng = np.random.default_rng(4)

  def units(n):
    x = rng.normal(size=(b, n, d))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return x.astype(np.float32)

  ab = rng.uniform(-100, 100, (b, k, 2)).astype(np.float32)
  return units(q), units(k), ab


def _direct(queries, keys, ab, temperature, xp):
  correlation = xp.einsum('bqd,bkd->bqk', queries, keys)
  confidence = correlation.max(-1, keepdims=True)
  weights = xp.exp((correlation - confidence) / temperature)
  weights = weights / weights.sum(-1, keepdims=True)
  return xp.einsum('bqk,bkc->bqc', weights, ab), confidence


@pytest.mark.parametrize('temperature', [0.01, 0.3])
@pytest.mark.parametrize('block', [5, 23, 432])  # 5 does not divide 23.
def test_match_equals_the_direct_formula(temperature, block):
  arrays = _vectors()
  warped_ab, confidence = match(*arrays, temperature, block)
  want_ab, want_confidence = _direct(
    *(x.astype(np.float64) for x in arrays), temperature, np
  )
  np.testing.assert_allclose(warped_ab, want_ab, atol=1e-3)
  np.testing.assert_allclose(confidence, want_confidence, atol=2e-6)


def test_gradients_of_match_equal_the_direct_formula():
  arrays = _vectors()
  rng = np.random.default_rng(5)
  weights = rng.normal(size=(2, 23, 2)), 30 * rng.normal(size=(2, 23, 1))

  def gradients(function):
    def scalar(*arrays):
      outputs = function(*arrays)
      return sum((w * x).sum() for w, x in zip(weights, outputs, strict=True))

    return jax.jit(jax.grad(scalar, (0, 1, 2)))(*arrays)

  actual = gradients(lambda *arrays: match(*arrays, 0.05, 5))
  direct = gradients(lambda *arrays: _direct(*arrays, 0.05, jnp))
  for x, y in zip(actual, direct, strict=True):
    assert np.linalg.norm(x - y) < 1e-3 * np.linalg.norm(y)


def test_temperature_zero_uses_only_the_best_match():
  queries, keys, ab = _vectors()
  warped_ab, confidence = match(queries, keys, ab, 0.0, 5)
  for b in range(2):
    correlation = queries[b] @ keys[b].T
    best = correlation.argmax(-1)
    np.testing.assert_array_equal(warped_ab[b], ab[b][best])
    np.testing.assert_allclose(
      confidence[b, :, 0], correlation.max(-1), atol=2e-6
    )


def test_low_temperature_finds_moved_colors():
  _, keys, ab = _vectors()
  order = np.random.default_rng(6).permutation(17)
  warped_ab, confidence = match(keys[:, order], keys, ab, 1e-3, 4)
  np.testing.assert_allclose(warped_ab, ab[:, order], atol=1e-3)
  np.testing.assert_allclose(confidence, 1.0, atol=2e-6)


def _extra_bytes(function):
  """Working memory of a program on 432x768 pixels, which is not run."""
  shapes = [
    jax.ShapeDtypeStruct((1, (432 // 4) * (768 // 4), d), jnp.float32)
    for d in (256, 256, 2)
  ]
  compiled = jax.jit(function).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_match_never_stores_the_matrix():
  def total(function):
    def scalar(*arrays):
      return sum(x.sum() for x in function(*arrays))

    return scalar

  actual = total(lambda *arrays: match(*arrays, 0.01, 432))
  direct = total(lambda *arrays: _direct(*arrays, 0.01, jnp))
  assert _extra_bytes(direct) > 1.7e9  # So the measure includes the matrix.
  assert _extra_bytes(actual) < 250e6
  assert _extra_bytes(jax.grad(actual, (0, 1, 2))) < 500e6


def test_gradients_are_finite_on_a_flat_picture():
  net = CorrespondenceNet((3,), width=1 / 32)
  flat = [np.zeros((1, 4, 6, 5), np.float32)]
  params = _random_params(net, flat)
  ab = np.zeros((1, 4 * 6, 2), np.float32)

  @jax.jit
  @jax.grad
  def gradients(params):
    queries, keys = net.apply({'params': params}, flat, flat)
    return sum(x.sum() for x in match(queries, keys, ab, 0.01, 10))

  for leaf in jax.tree.leaves(gradients(params)):
    assert np.isfinite(leaf).all()
