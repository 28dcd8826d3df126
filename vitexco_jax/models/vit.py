"""The Vision Transformer, the backbone of frames and references (Sec. III-B).

An image is split into patches. Each patch becomes a token, and a class token is
prepended. The `taps` are the residual stream after some of the blocks, as
pictures [b, h/p, w/p, d], for the Feature Transform. The `embedding` [b, d] is
the class token of the last block, for retrieval.

Parameters have the names of Scenic's ViT, so that weights can be exchanged. The
position embeddings are learned on a square grid and resized bilinearly to the
grid of the image. Parameters, LayerNorm, softmax and the residual stream are
float32, whatever the dtype of the matrix products.

In a hybrid ViT (Dosovitskiy et al. 2021, Sec. 3.1) the patches come from the map
of a convolutional network instead of the image.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vitexco_jax.errors import UserError


class Variant(NamedTuple):
  """Sizes of a ViT, such as `Ti/16`."""

  width: int  # Channels of a token.
  heads: int  # Of the attention.
  blocks: int
  mlp: int  # Channels of the hidden layer.
  patch: int  # Side in pixels.


VARIANTS = {
  'Ti/16': Variant(192, 3, 12, 768, 16),
  'Ti/8': Variant(192, 3, 12, 768, 8),
  'S/16': Variant(384, 6, 12, 1536, 16),
  'S/8': Variant(384, 6, 12, 1536, 8),
  'B/16': Variant(768, 12, 12, 3072, 16),
  'B/8': Variant(768, 12, 12, 3072, 8),
  'test/16': Variant(32, 2, 2, 64, 16),
}

_PRETRAINING_SIZE = 224  # Height and width in pixels.


class VitOutput(NamedTuple):
  """Outputs of the ViT."""

  taps: tuple[jax.Array, ...]  # Token grids, [b, h/p, w/p, d] each.
  embedding: jax.Array  # [b, d], not normalized.


def normalize(rgb: jax.Array) -> jax.Array:
  """Scales RGB from [0, 1] to [-1, 1], the range of pretrained weights."""
  return (rgb - 0.5) / 0.5


def gray(luminance: jax.Array) -> jax.Array:
  """Converts L - 50, [b, h, w, 1], to gray RGB in [0, 1], [b, h, w, 3]."""
  return jnp.repeat((luminance + 50.0) / 100.0, 3, -1)


class VisionTransformer(nn.Module):
  """A ViT that also returns intermediate results.

  Attributes:
    variant: a name in `VARIANTS`.
    taps: blocks whose output is returned, counted from 1; a block may occur more
      than once.
    gelu: `tanh`, the approximation used by AugReg weights, or `erf`, the exact
      form used by timm weights.
    dtype: of the matrix products.
    pos_grid: side of the square grid of new position embeddings, in tokens; 0
      means that of an image of 224x224 pixels. Loaded embeddings keep their grid.
    input_stride: pixels of the image per position of the input; above 1 in a
      hybrid ViT.
  """

  variant: str = 'Ti/16'
  taps: tuple[int, ...] = (8, 9, 10, 11, 12)
  gelu: str = 'tanh'
  dtype: jnp.dtype = jnp.float32
  pos_grid: int = 0
  input_stride: int = 1

  @nn.compact
  def __call__(self, image: jax.Array) -> VitOutput:
    """Computes taps and embedding of images.

    Args:
      image: [b, h, w, c], from `normalize`, or the map of a stem; h and w must be
        multiples of the patch.

    Returns:
      Taps in the order of `self.taps`, and the embedding. Under `jax.jit`, blocks
      after the last tap are not computed if the embedding is not used.

    Raises:
      UserError: a setting or the size of the image is invalid.
    """
    sizes = checked_sizes(self.variant, self.taps)
    patch = sizes.patch // self.input_stride
    b, h, w, channels = image.shape
    if h % patch or w % patch:
      raise UserError(
        f'image is {h}x{w}, but the ViT {self.variant} needs multiples of '
        f'{patch}'
      )
    grid = (h // patch, w // patch)

    # A convolution whose kernel and stride are one patch is a matrix product.
    patches = image.reshape(b, grid[0], patch, grid[1], patch, channels)
    tokens = nn.DenseGeneral(
      sizes.width, axis=(-3, -2, -1), dtype=self.dtype, name='embedding'
    )(patches.swapaxes(2, 3))
    tokens = tokens.reshape(b, -1, sizes.width).astype(jnp.float32)

    class_token = self.param('cls', nn.initializers.zeros, (1, 1, sizes.width))
    class_token = jnp.broadcast_to(class_token, (b, 1, sizes.width))
    tokens = jnp.concatenate([class_token, tokens], 1)

    streams, embedding = Encoder(
      sizes,
      approximate_gelu=self.gelu == 'tanh',
      dtype=self.dtype,
      pos_grid=self.pos_grid or _PRETRAINING_SIZE // sizes.patch,
      name='Transformer',
    )(tokens, grid)
    pictures = [stream[:, 1:].reshape(b, *grid, -1) for stream in streams]
    return VitOutput(tuple(pictures[tap - 1] for tap in self.taps), embedding)


class Encoder(nn.Module):
  """Position embedding, all blocks, and LayerNorm of the class token."""

  sizes: Variant
  approximate_gelu: bool
  dtype: jnp.dtype
  pos_grid: int

  @nn.compact
  def __call__(
    self, tokens: jax.Array, grid: tuple[int, int]
  ) -> tuple[list[jax.Array], jax.Array]:
    """Encodes tokens [b, 1 + h * w, d] of a grid (h, w).

    Returns:
      The tokens after each block, and the class token [b, d] after LayerNorm.
    """
    tokens = PositionEmbedding(self.pos_grid, name='posembed_input')(
      tokens, grid
    )
    streams = []
    for i in range(self.sizes.blocks):
      tokens = EncoderBlock(
        self.sizes.heads,
        self.sizes.mlp,
        self.approximate_gelu,
        self.dtype,
        name=f'encoderblock_{i}',
      )(tokens)
      streams.append(tokens)
    norm = nn.LayerNorm(epsilon=1e-6, name='encoder_norm')
    return streams, norm(tokens[:, 0])


class PositionEmbedding(nn.Module):
  """Adds a learned position embedding to each token."""

  side: int

  @nn.compact
  def __call__(self, tokens: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Adds the embedding to tokens [b, 1 + h * w, d] of a grid (h, w)."""
    d = tokens.shape[-1]
    embedding: jax.Array
    if self.has_variable('params', 'pos_embedding'):
      # Loaded embeddings may have another size than `param` expects.
      embedding = self.get_variable('params', 'pos_embedding')
    else:
      embedding = self.param(
        'pos_embedding',
        nn.initializers.normal(0.02),
        (1, 1 + self.side**2, d),
      )
    class_slot, places = embedding[:, :1], embedding[:, 1:]
    side = math.isqrt(places.shape[1])
    places = resize_grid(places.reshape(side, side, d), grid)
    places = places.reshape(1, -1, d)
    return tokens + jnp.concatenate([class_slot, places], 1)


def resize_grid(places: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Resizes position embeddings [h, w, d] bilinearly to [*grid, d].

  Both grids cover the same picture, and values are those at the centers of cells.
  """
  return jax.image.resize(
    places, (*grid, places.shape[-1]), 'bilinear', antialias=False
  )


class EncoderBlock(nn.Module):
  """Pre-norm attention and MLP, each with a skip connection."""

  heads: int
  mlp: int
  approximate_gelu: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Transforms tokens [b, n, d]."""
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
    x += nn.MultiHeadDotProductAttention(
      self.heads,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      force_fp32_for_softmax=True,
    )(y)
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
    return x + MlpBlock(self.mlp, self.approximate_gelu, self.dtype)(y)


class MlpBlock(nn.Module):
  """Dense, GELU, Dense."""

  mlp: int
  approximate_gelu: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Transforms tokens [b, n, d]."""
    dense = functools.partial(
      nn.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      bias_init=nn.initializers.normal(1e-6),
    )
    y = nn.gelu(dense(self.mlp)(x), self.approximate_gelu)
    return dense(x.shape[-1])(y)


def checked_sizes(variant: str, taps: Sequence[int]) -> Variant:
  """Checks the settings of a ViT and returns its sizes.

  Args:
    variant: see `VisionTransformer`.
    taps: see `VisionTransformer`.

  Raises:
    UserError: there is no such variant, or it does not have these blocks; the
      message starts with the name of the setting, such as `vit.variant`.
  """
  if variant not in VARIANTS:
    raise UserError(
      f'vit.variant={variant} must be one of ' + ', '.join(VARIANTS)
    )
  sizes = VARIANTS[variant]
  if not all(1 <= tap <= sizes.blocks for tap in taps):
    raise UserError(
      f'vit.taps={tuple(taps)} must be blocks of {variant}, counted from 1 to '
      f'{sizes.blocks}'
    )
  return sizes
