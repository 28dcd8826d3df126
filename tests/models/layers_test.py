"""The shared layers, and their gradients where a picture is flat."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from vitexco_jax.models import layers


def _image(scale=1.0, offset=0.0):
  image = np.random.default_rng(0).normal(size=(2, 4, 6, 3))
  return (offset + scale * image).astype(np.float32)


def test_instance_norm_is_per_image_and_channel():
  x = _image(scale=3.0, offset=100.0)
  want = plain.instance_norm(x.astype(np.float64))
  np.testing.assert_allclose(layers.instance_norm(x), want, atol=1e-4)


def test_instance_norm_keeps_bfloat16_but_not_its_statistics():
  x = jnp.asarray(_image(scale=1.0, offset=30.0), jnp.bfloat16)
  out = layers.instance_norm(x)
  assert out.dtype == jnp.bfloat16
  want = plain.instance_norm(np.asarray(x, np.float64))
  # 2^-8 is the rounding error of the result.
  np.testing.assert_allclose(out.astype(jnp.float32), want, rtol=2**-8)


def test_l2_normalize_gives_unit_vectors():
  out = layers.l2_normalize(_image())
  np.testing.assert_allclose(jnp.linalg.norm(out, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize('layer', [layers.instance_norm, layers.l2_normalize])
@pytest.mark.parametrize('value', [0.0, 1.0])
def test_gradients_are_finite_where_flat(layer, value):
  x = jnp.full((1, 4, 4, 3), value)
  weights = jnp.asarray(_image()[:1, :, :4])
  grads = jax.grad(lambda x: (weights * layer(x)).sum())(x)
  assert np.isfinite(layer(x)).all() and np.isfinite(grads).all()


def test_zero_vectors_stay_zero():
  assert not layers.l2_normalize(jnp.zeros((2, 3))).any()


def test_average_pool_inverts_upsample_nearest():
  x = _image()
  up = layers.upsample_nearest(x, 3)
  np.testing.assert_array_equal(up, plain.upsample_nearest(x, 3))
  np.testing.assert_allclose(layers.average_pool(up, 3), x, atol=1e-6)


def test_average_pool_averages_squares():
  x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
  want = [[2.5, 4.5], [10.5, 12.5]]
  np.testing.assert_allclose(layers.average_pool(x, 2)[0, ..., 0], want)


def test_weights_start_with_the_variance_of_pytorch():
  kernel = layers.kernel_init(jax.random.key(0), (3, 3, 64, 32))
  bound = 1 / np.sqrt(3 * 3 * 64)  # PyTorch: uniform, 1 / sqrt(fan_in).
  assert 0.99 * bound < jnp.abs(kernel).max() <= bound
  np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.02)


def test_upsample_conv_is_a_convolution_of_the_upsampled():
  x = _image()
  net = layers.UpsampleConv(5)
  params = net.init(jax.random.key(0), x)['params']
  bias = np.linspace(-1, 1, 5, dtype=np.float32)
  params = params | {'bias': bias}
  want = plain.conv(plain.upsample_nearest(x, 2), params)
  np.testing.assert_allclose(net.apply({'params': params}, x), want, atol=1e-5)
