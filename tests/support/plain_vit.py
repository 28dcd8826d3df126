"""The Vision Transformer in plain numpy, to test `models/vit.py`.

Written from the formula, once for each convention in which weights are
published, in float64 and with slow loops where a loop is clearer.
"""

import math

import numpy as np
from scipy import special


def forward_scenic(weights, image, gelu, heads):
  """Runs a ViT whose weights follow Flax: inputs first, heads apart.

  Args:
    weights: flat, names joined by '/', as in Scenic.
    image: [b, h, w, 3], normalized.
    gelu: `tanh` or `erf`.
    heads: of the attention.

  Returns:
    The stream [b, 1+n, d] after each block, and the embedding [b, d].
  """
  kernel = weights['embedding/kernel']
  patches = _patches(image, kernel.shape[0])  # [b, gh, gw, p, p, 3]
  x = np.einsum('byxijc,ijcd->byxd', patches, kernel)
  x = x + weights['embedding/bias']
  x = _add_positions(
    x, weights['cls'], weights['Transformer/posembed_input/pos_embedding']
  )
  streams = []
  for i in range(_count(weights, 'Transformer/encoderblock_')):
    block = _under(weights, f'Transformer/encoderblock_{i}/')
    attention = _under(block, 'MultiHeadDotProductAttention_0/')
    y = _layer_norm(x, block['LayerNorm_0/scale'], block['LayerNorm_0/bias'])
    q, k, v = (
      np.einsum('bnd,dhk->bhnk', y, attention[f'{part}/kernel'])
      + attention[f'{part}/bias'][:, None]
      for part in ('query', 'key', 'value')
    )
    assert q.shape[1] == heads
    y = _attend(q, k, v)
    x = x + np.einsum('bhnk,hkd->bnd', y, attention['out/kernel'])
    x = x + attention['out/bias']
    y = _layer_norm(x, block['LayerNorm_1/scale'], block['LayerNorm_1/bias'])
    mlp = _under(block, 'MlpBlock_0/')
    y = _gelu(y @ mlp['Dense_0/kernel'] + mlp['Dense_0/bias'], gelu)
    x = x + y @ mlp['Dense_1/kernel'] + mlp['Dense_1/bias']
    streams.append(x)
  norm = _under(weights, 'Transformer/encoder_norm/')
  return streams, _layer_norm(x[:, 0], norm['scale'], norm['bias'])


def forward_timm(weights, image, gelu, heads):
  """The same for torch's conventions: outputs first, q, k and v fused."""

  def linear(x, name):
    return x @ weights[f'{name}.weight'].T + weights[f'{name}.bias']

  def norm(x, name):
    return _layer_norm(x, weights[f'{name}.weight'], weights[f'{name}.bias'])

  kernel = weights['patch_embed.proj.weight']  # [d, 3, p, p]
  patches = _patches(image, kernel.shape[-1])
  x = np.einsum('byxijc,dcij->byxd', patches, kernel)
  x = x + weights['patch_embed.proj.bias']
  x = _add_positions(x, weights['cls_token'], weights['pos_embed'])
  streams = []
  for i in range(_count(weights, 'blocks.')):
    fused = linear(norm(x, f'blocks.{i}.norm1'), f'blocks.{i}.attn.qkv')
    b, n, _ = fused.shape
    q, k, v = fused.reshape(b, n, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    y = _attend(q, k, v).transpose(0, 2, 1, 3).reshape(b, n, -1)
    x = x + linear(y, f'blocks.{i}.attn.proj')
    y = linear(norm(x, f'blocks.{i}.norm2'), f'blocks.{i}.mlp.fc1')
    x = x + linear(_gelu(y, gelu), f'blocks.{i}.mlp.fc2')
    streams.append(x)
  return streams, norm(x[:, 0], 'norm')


def resize_bilinear(places, grid):
  """Resizes [h, w, d] to [*grid, d], pixel by pixel, centers at half positions."""
  out = np.zeros((*grid, places.shape[-1]))
  for y in range(grid[0]):
    for x in range(grid[1]):
      for row, row_weight in _neighbors(y, grid[0], places.shape[0]):
        for column, weight in _neighbors(x, grid[1], places.shape[1]):
          out[y, x] += row_weight * weight * places[row, column]
  return out


def _neighbors(i, new, old):
  at = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
  low = math.floor(at)
  return (low, low + 1 - at), (min(low + 1, old - 1), at - low)


def _patches(image, p):
  b, h, w, _ = image.shape
  out = np.zeros((b, h // p, w // p, p, p, 3))
  for y in range(h // p):
    for x in range(w // p):
      out[:, y, x] = image[:, y * p : (y + 1) * p, x * p : (x + 1) * p]
  return out


def _add_positions(x, class_token, positions):
  b, *grid, d = x.shape
  side = math.isqrt(positions.shape[1] - 1)
  places = resize_bilinear(positions[0, 1:].reshape(side, side, d), grid)
  first = np.broadcast_to(class_token + positions[:, :1], (b, 1, d))
  return np.concatenate([first, (x + places).reshape(b, -1, d)], 1)


def _attend(q, k, v):
  """[b, heads, n, depth] each."""
  logits = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
  return special.softmax(logits, -1) @ v


def _layer_norm(x, scale, bias):
  mean = x.mean(-1, keepdims=True)
  variance = ((x - mean) ** 2).mean(-1, keepdims=True)
  return (x - mean) / np.sqrt(variance + 1e-6) * scale + bias


def _gelu(x, kind):
  if kind == 'erf':
    return x * 0.5 * (1 + special.erf(x / math.sqrt(2)))
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return x * 0.5 * (1 + np.tanh(inner))


def _under(weights, prefix):
  return {
    name.removeprefix(prefix): value
    for name, value in weights.items()
    if name.startswith(prefix)
  }


def _count(weights, prefix):
  rests = _under(weights, prefix)
  return len({rest.replace('.', '/').split('/')[0] for rest in rests})
