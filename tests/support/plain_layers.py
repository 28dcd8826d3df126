"""Convolution and other layers in plain numpy, to test the networks.

Images are [b, h, w, c], float64; kernels [3, 3, in, out] or [1, 1, in, out].
`weights` are one layer's, by name.
"""

import numpy as np


def conv(x, weights, stride=1, dilation=1, padding='constant'):
  """Sums, over a kernel's taps, the image shifted under the tap."""
  kernel = np.asarray(weights['kernel'], np.float64)
  size = kernel.shape[0]
  reach = dilation * (size // 2)
  h, w = x.shape[1:3]
  x = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), padding)
  out = np.zeros((len(x), h, w, kernel.shape[-1])) + weights['bias']
  for i in range(size):
    for j in range(size):
      y0, x0 = i * dilation, j * dilation
      out += x[:, y0 : y0 + h, x0 : x0 + w] @ kernel[i, j]
  return out[:, ::stride, ::stride]


def instance_norm(x):
  mean = x.mean((1, 2), keepdims=True)
  return (x - mean) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)


def unit(x):
  return x / np.sqrt(np.square(x).sum(-1, keepdims=True) + 1e-12)


def leaky_relu(x, slope):
  return np.where(x > 0, x, slope * x)


def upsample_nearest(x, scale):
  h, w = x.shape[1:3]
  rows, columns = np.arange(h * scale) // scale, np.arange(w * scale) // scale
  return x[:, rows][:, :, columns]


def count(params):
  """Returns the number of entries of a tree of arrays or of shapes."""
  if hasattr(params, 'shape'):
    return int(np.prod(params.shape))
  return sum(count(child) for child in params.values())
