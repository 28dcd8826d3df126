"""VGG16, compared with SciPy's convolution; names of its weights."""

import jax
import numpy as np
from scipy import signal

from vitexco_jax.pretrained import lpips_weights, vgg16

# Name and, at full size, channels of VGG16's convolutions up to relu5_2.
_LAYERS = [
  ('conv1_1', 3, 64),
  ('conv1_2', 64, 64),
  ('conv2_1', 64, 128),
  ('conv2_2', 128, 128),
  ('conv3_1', 128, 256),
  ('conv3_2', 256, 256),
  ('conv3_3', 256, 256),
  ('conv4_1', 256, 512),
  ('conv4_2', 512, 512),
  ('conv4_3', 512, 512),
  ('conv5_1', 512, 512),
  ('conv5_2', 512, 512),
]


def _narrow_params(channels=4):
  rng = np.random.default_rng(0)
  return {
    name: {
      'kernel': np.float32(
        rng.normal(0, 0.3, (3, 3, 3 if c_in == 3 else channels, channels))
      ),
      'bias': np.float32(rng.normal(0, 0.1, channels)),
    }
    for name, c_in, _ in _LAYERS
  }


def _slow_features(params, rgb):
  """relu1_2 to relu5_2 of one picture, channel by channel."""
  x = (rgb - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  maps = []
  for name, *_ in _LAYERS:
    if name.endswith('_1') and name != 'conv1_1':
      h, w = x.shape[0] // 2, x.shape[1] // 2
      x = x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1).max((1, 3))
    kernel, bias = params[name]['kernel'], params[name]['bias']
    x = np.stack(
      [
        bias[o]
        + sum(
          signal.correlate2d(x[..., i], kernel[..., i, o], 'same')
          for i in range(x.shape[-1])
        )
        for o in range(len(bias))
      ],
      -1,
    ).clip(0)
    if name.endswith('_2'):
      maps.append(x)
  return maps


def test_features_agree_with_scipy_in_the_scale_of_0_to_255():
  params = _narrow_params()
  rgb = np.random.default_rng(1).uniform(size=(1, 36, 32, 3))  # 36 is odd at 8.
  actual = vgg16.vgg16_features(params, rgb)
  slow = _slow_features(params, rgb[0])
  assert [x.shape[1:3] for x in actual] == [
    (36, 32),
    (18, 16),
    (9, 8),
    (4, 4),
    (2, 2),
  ]
  for a, b in zip(actual, slow, strict=True):
    assert b.max() > 0
    np.testing.assert_allclose(a[0], b * 255 * 0.226, 1e-3, 1e-3)


def test_scale_equals_inputs_and_biases_57_times_as_large():
  params = _narrow_params()
  rgb = np.random.default_rng(1).uniform(size=(32, 32, 3))
  mean = np.array([0.485, 0.456, 0.406])
  scaled_rgb = (rgb - mean) * 255 * 0.226 + mean
  scaled_params = {
    name: {'kernel': p['kernel'], 'bias': p['bias'] * 255 * 0.226}
    for name, p in params.items()
  }
  (actual,) = vgg16.vgg16_features(params, rgb[None], (5,))
  large = _slow_features(scaled_params, scaled_rgb)[4]
  np.testing.assert_allclose(actual[0], large, 1e-3, 1e-3)


def test_only_requested_levels_are_computed():
  params = _narrow_params()
  rgb = np.random.default_rng(1).uniform(size=(1, 16, 16, 3))
  whole = vgg16.vgg16_features(params, rgb)
  shallow = {k: v for k, v in params.items() if k < 'conv3_3'}
  some = vgg16.vgg16_features(shallow, rgb, (2, 3))
  for a, b in zip(some, whole[1:3], strict=True):
    np.testing.assert_array_equal(a, b)


def test_gradient_reaches_the_picture():
  rgb = np.full((1, 16, 16, 3), 0.5, np.float32)
  loss = lambda x: vgg16.vgg16_features(_narrow_params(), x, (5,))[0].sum()  # noqa: E731
  grad = jax.grad(loss)(rgb)
  assert np.isfinite(grad).all() and np.any(grad)


def test_weights_are_named_in_their_order(monkeypatch):
  convs = [
    {'kernel': np.full((3, 3, 1, 1), i), 'bias': np.full(1, -i)}
    for i in range(13)
  ]
  monkeypatch.setattr(
    lpips_weights, 'load', lambda net: lpips_weights.Weights(convs, [])
  )
  params = vgg16.load_vgg16()
  assert list(params) == [name for name, *_ in _LAYERS]
  assert (params['conv4_3']['kernel'] == 9).all()
  assert (params['conv5_2']['bias'] == -11).all()
