"""EfficientNet-lite0 with its real weights: one block, and classes of pictures.

Weights of the whole network that were misread anywhere would not name what is in
a picture.
"""

import jax
import numpy as np
import plain_layers
import pytest
import skimage

from vitexco_jax.models import efficientnet
from vitexco_jax.pretrained import efficientnet_weights, weight_files

_apply = jax.jit(efficientnet.EfficientNetLite0().apply)


@pytest.fixture(scope='module')
def params():
  return efficientnet_weights.load_efficientnet_lite0()


@pytest.fixture(scope='module')
def entries():
  """The parameters of the file without BatchNorm."""
  return weight_files.read(efficientnet_weights.weights_path())


def test_has_the_published_size(params):
  network = efficientnet.EfficientNetLite0()
  image = np.zeros((1, 64, 64, 3), np.float32)
  expected = jax.eval_shape(network.init, jax.random.key(0), image)['params']
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
  assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), expected)
  leaves = jax.tree.leaves(params)
  scales = sum(
    leaf.size for leaf in leaves if leaf.ndim == 1
  )  # Folded into the convolutions.
  classifier = (1280 + 1) * 1000
  assert plain_layers.count(params) + scales + classifier == 4_652_008


def test_pyramid_is_of_the_last_blocks_of_each_stride(params):
  network = efficientnet.EfficientNetLite0()
  rgb = np.random.default_rng(0).uniform(size=(1, 64, 96, 3)).astype('f4')

  @jax.jit
  def run(params):
    kept = {name: x for name, x in params.items() if name != 'conv_head'}
    del kept['blocks_15']
    pyramid = network.apply({'params': kept}, rgb, method='pyramid')
    _, seen = network.apply({'params': params}, rgb, capture_intermediates=True)
    return pyramid, seen['intermediates']

  pyramid, seen = run(params)
  blocks = [seen[f'blocks_{i}']['__call__'][0] for i in range(16)]
  sizes = [x.shape[1:3] for x in blocks]
  for i, actual in enumerate(pyramid):
    size = (64 >> i + 1, 96 >> i + 1)
    assert actual.shape[1:3] == size
    (*_, last) = [
      x for x, y in zip(blocks[:15], sizes[:15], strict=True) if y == size
    ]
    np.testing.assert_allclose(actual, last, atol=1e-4)


def _slow_conv(x, kernel, stride):
  """TensorFlow's SAME padding, output by output; kernel [out, in, h, w]."""
  size = kernel.shape[-1]
  height, width = (-(-side // stride) for side in x.shape[:2])
  pads = []
  for side, out in zip(x.shape[:2], (height, width), strict=True):
    pad = max((out - 1) * stride + size - side, 0)
    pads.append((pad // 2, pad - pad // 2))
  x = np.pad(x, (*pads, (0, 0)))
  y = np.zeros((height, width, len(kernel)))
  for i in range(height):
    for j in range(width):
      window = x[i * stride :, j * stride :][:size, :size]
      if kernel.shape[1] == 1 and size > 1:  # Each channel by itself.
        y[i, j] = np.einsum('hwc,chw->c', window, kernel[:, 0])
      else:
        y[i, j] = np.einsum('hwc,ochw->o', window, kernel)
  return y


def _slow_norm(x, entries, name):
  mean, variance = (entries[f'{name}.running_{k}'] for k in ('mean', 'var'))
  x = (x - mean) / np.sqrt(variance + 1e-3)
  return x * entries[f'{name}.weight'] + entries[f'{name}.bias']


@pytest.mark.parametrize(
  ('number', 'kernel', 'stride', 'expansion', 'c_in', 'c_out'),
  [(0, 3, 1, 1, 32, 16), (3, 5, 2, 6, 24, 40), (4, 5, 1, 6, 40, 40)],
)
def test_a_block_agrees_with_its_formula(
  params, entries, number, kernel, stride, expansion, c_in, c_out
):
  x = np.random.default_rng(0).normal(size=(9, 8, c_in))  # Odd and even.
  block = efficientnet.Block(kernel, stride, expansion, c_out)
  actual = block.apply({'params': params[f'blocks_{number}']}, x[None])[0]

  name = f'_blocks.{number}'
  y = x
  if expansion > 1:
    y = _slow_conv(y, entries[f'{name}._expand_conv.weight'], 1)
    y = _slow_norm(y, entries, f'{name}._bn0').clip(0, 6)
  y = _slow_conv(y, entries[f'{name}._depthwise_conv.weight'], stride)
  y = _slow_norm(y, entries, f'{name}._bn1').clip(0, 6)
  y = _slow_conv(y, entries[f'{name}._project_conv.weight'], 1)
  y = _slow_norm(y, entries, f'{name}._bn2')
  if number == 4:
    y = y + x
  np.testing.assert_allclose(actual, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ('picture', 'classes'),
  [
    ('chelsea', {281, 282, 285}),  # Tabby, tiger cat, Egyptian cat.
    ('coffee', {967}),  # Espresso.
    ('camera', {872}),  # A tripod; the picture is gray.
    ('rocket', {657}),  # Missile.
  ],
)
def test_recognizes_pictures(params, entries, picture, classes):
  rgb = getattr(skimage.data, picture)()
  rgb = skimage.color.gray2rgb(rgb) if rgb.ndim == 2 else rgb
  height, width, _ = rgb.shape
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  rgb = rgb[top : top + side, left : left + side]
  rgb = skimage.transform.resize(rgb, (224, 224), anti_aliasing=True)
  features = np.asarray(_apply({'params': params}, rgb[None])[0])
  assert features.shape == (efficientnet.WIDTH,)
  logits = entries['_fc.weight'] @ features + entries['_fc.bias']
  assert int(np.argmax(logits)) in classes
