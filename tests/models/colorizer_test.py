"""The colorizer against ColorVidNet written out in plain numpy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from vitexco_jax.models.colorizer import Colorizer


def _inputs(h=32, w=48, b=2, seed=0):
  """Luminance, warped ab, confidence, previous Lab, in their ranges."""
  rng = np.random.default_rng(seed)
  ranges = ((50, 1), (100, 2), (1, 1), (80, 3))
  return [
    rng.uniform(-reach, reach, (b, h, w, c)).astype(np.float32)
    for reach, c in ranges
  ]


def _shapes(net, inputs):
  return jax.eval_shape(net.init, jax.random.key(0), *inputs)['params']


@pytest.fixture(scope='module')
def net_and_params():
  net = Colorizer(width=1 / 16)
  rng = np.random.default_rng(1)

  def random(leaf):
    reach = np.sqrt(3 / max(1, np.prod(leaf.shape[:-1])))
    return rng.uniform(-reach, reach, leaf.shape).astype(np.float32)

  return net, jax.tree.map(random, _shapes(net, _inputs()))


def _plain_colorizer(params, inputs):
  """The layers of DEVC's ColorVidNet, one by one."""
  return 128 * np.tanh(_plain_out(params, inputs))


def _plain_out(params, inputs):
  norm, up = plain.instance_norm, plain.upsample_nearest

  def relu(x):
    return np.maximum(x, 0)

  def conv(x, name, dilation=1):
    return plain.conv(x, params[name], dilation=dilation)

  def halve(x, name):
    return x[:, ::2, ::2] * params[name]['kernel'][0, 0, 0]

  x = np.concatenate(inputs, -1).astype(np.float64)
  x = relu(conv(x, 'conv1_0'))
  x = relu(conv(x, 'conv1_1'))
  n1 = norm(relu(conv(x, 'conv1_2')))
  x = relu(conv(halve(n1, 'halve1'), 'conv2_0'))
  n2 = norm(relu(conv(x, 'conv2_1')))
  x = relu(conv(halve(n2, 'halve2'), 'conv3_0'))
  x = relu(conv(x, 'conv3_1'))
  n3 = norm(relu(conv(x, 'conv3_2')))
  x = halve(n3, 'halve3')
  for stage, dilation in ((4, 1), (5, 2), (6, 2), (7, 1)):
    for i in range(3):
      x = relu(conv(x, f'conv{stage}_{i}', dilation))
    x = norm(x)
  x = relu(conv(up(x, 2), 'up8') + conv(n3, 'skip8'))
  x = norm(relu(conv(relu(conv(x, 'conv8_0')), 'conv8_1')))
  x = relu(conv(up(x, 2), 'up9') + conv(n2, 'skip9'))
  x = norm(relu(conv(x, 'conv9_0')))
  x = relu(conv(up(x, 2), 'up10') + conv(n1, 'skip10'))
  x = plain.leaky_relu(conv(x, 'conv10_0'), 0.2)
  return conv(x, 'out')


def test_parameter_count():
  shapes = _shapes(Colorizer(), _inputs())
  assert plain.count(shapes) == 32_802_370


def test_equals_the_numpy_network(net_and_params):
  net, params = net_and_params
  inputs = _inputs()
  ab = jax.jit(net.apply)({'params': params}, *inputs)
  want = _plain_colorizer(params, inputs)
  assert (
    want.std() > 10
  )  # Visible and not saturated, so the test is meaningful.
  assert np.mean(np.abs(want) > 127) < 0.1
  np.testing.assert_allclose(ab, want, atol=2e-2)


def test_is_bounded(net_and_params):
  net, params = net_and_params
  loud = params | {'out': jax.tree.map(lambda x: 1e4 * x, params['out'])}
  ab = jax.jit(net.apply)({'params': loud}, *_inputs())
  assert 127 < np.abs(ab).max() <= 128


def test_bfloat16_is_close_and_the_output_is_float32(net_and_params):
  net, params = net_and_params
  inputs = _inputs()
  rounded = net.clone(dtype=jnp.bfloat16)
  ab = jax.jit(rounded.apply)({'params': params}, *inputs)
  assert ab.dtype == jnp.float32
  want = _plain_colorizer(params, inputs)
  error = np.sqrt(np.mean((ab - want) ** 2)) / want.std()
  assert error < 0.1


def test_starts_close_to_gray():
  net = Colorizer(width=1 / 4)
  inputs = _inputs(h=16, w=16, b=1)
  key = jax.random.key(0, impl='rbg')  # Quick to compile.
  ab, _ = jax.jit(net.init_with_output)(key, *inputs)
  assert 0 < np.abs(ab).max() < 10  # Far from where tanh is flat.


def test_residual_adds_weighted_warped_colors(net_and_params):
  net, params = net_and_params
  net = net.clone(residual='warped')
  inputs = _inputs()
  # Constant in cells of 4x4, as from the matching.
  warped = inputs[1] = plain.upsample_nearest(inputs[1][:, ::4, ::4], 4)
  shapes = _shapes(net, inputs)
  assert plain.count(shapes) == plain.count(params) + 8 + 1
  kernel = np.random.default_rng(2).normal(
    0, 0.3, shapes['out']['kernel'].shape
  )
  params = params | {'out': {'kernel': kernel, 'bias': np.array([0, 0, 0.5])}}
  ab = jax.jit(net.apply)({'params': params}, *inputs)
  out = _plain_out(params, inputs)
  smooth = [cv2.resize(x[::4, ::4], (48, 32)) for x in warped]  # Bilinear.
  want = 128 * np.tanh(out[..., :2])
  want += 2 / (1 + np.exp(-out[..., 2:])) * np.stack(smooth)
  np.testing.assert_allclose(ab, want, atol=2e-2)


def test_residual_starts_close_to_the_warped_colors():
  net = Colorizer(width=1 / 16, residual='warped')
  inputs = _inputs(h=16, w=16, b=1)
  inputs[1] = np.full_like(inputs[1], 40.0)
  inputs[3] = np.zeros_like(inputs[3])  # There is no previous frame.
  key = jax.random.key(0, impl='rbg')
  ab, _ = jax.jit(net.init_with_output)(key, *inputs)
  assert np.abs(ab - 40.0).max() < 10


def test_without_a_network_the_output_is_the_residual():
  net = Colorizer(width=0.0, residual='warped')
  inputs = _inputs()
  warped = inputs[1] = plain.upsample_nearest(inputs[1][:, ::4, ::4], 4)
  assert net.init(jax.random.key(0), *inputs) == {}
  smooth = [cv2.resize(x[::4, ::4], (48, 32)) for x in warped]  # Bilinear.
  np.testing.assert_allclose(
    net.apply({}, *inputs), np.stack(smooth), atol=1e-3
  )
