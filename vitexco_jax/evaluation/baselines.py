"""Baselines that colorize a clip without training.

Four functions with the same signature, `NAME(read, references, size)`:

  gray            L only.
  chained_flow    colors of given frames, propagated by optical flow.
  color_transfer  colors by luminance and texture.
  match_vgg16     colors of the most similar position, by VGG16 features.

Each call of `read()` yields the clip's true frames from the start, [h, w, 3] uint8
of one size; only their CIE L is used. `references` are one or more. `size` is
(height, width) within which colors are predicted, like `config.use.size`.

Each function yields for every frame [h, w, 3] uint8 of the same size: the frame's L
with the predicted ab, joined as in `VideoColorizer`. Frames are streamed; functions
that keep more of a clip in memory say so.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vitexco_jax import color, flow, sizes
from vitexco_jax.models import correspondence, layers
from vitexco_jax.pretrained import vgg16
from vitexco_jax.structs import Given

Read = Callable[[], Iterator[np.ndarray]]

_PATCH = 5  # Side of the patches that define texture, in pixels.
_BINS = (64, 32)  # Numbers of bins of luminance and of texture ...
_BIN = 3 / 32  # ... and their width, in standard deviations of the picture's L.
_LEVELS = (2, 3, 4, 5)  # Of VGG16, as in DEVC.
_BLOCK = 512  # Rows of the matching per block.


def gray(
  read: Read, references: Sequence[Given], size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """Yields L only; ignores the references and the working size."""
  del references, size
  for rgb in read():
    yield np.asarray(color.gray(rgb))


def chained_flow(
  read: Read, references: Sequence[Given], size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """Propagates the colors of given frames by DIS flow, forward and backward.

  Each frame gets the colors of the given frame nearest in time (the earlier of
  two), step by step through its neighbor on that side:

    ab_t(x) = ab_t'(x + flow_{t to t'}(x)),  t' = t - 1 or t + 1.

  Accumulating the flows, so that the given frame is sampled only once, gives
  sharper colors. On ten clips of DAVIS with the first frame given, however, it
  reaches 29.99 dB (27.86 in the last ten frames) instead of 30.19 dB (27.70).

  Keeps the gray frames of the clip at the working size, and the ab of frames
  before a given frame.

  Raises:
    ValueError: a reference is not a frame of the clip.
  """
  grays = [_flow_gray(rgb, size) for rgb in read()]
  by_index: dict[int, Given] = {}
  for given in references:
    if given.frame is None or not 0 <= given.frame < len(grays):
      raise ValueError(
        f'flow reaches only frames 0 to {len(grays) - 1} of the clip, not a '
        f'reference of index {given.frame}'
      )
    by_index[given.frame] = given
  indices = sorted(by_index)
  # The first frame of each reference but the first.
  cuts = [(x + y) // 2 + 1 for x, y in itertools.pairwise(indices)]

  def predicted() -> Iterator[np.ndarray]:
    spans = itertools.pairwise([0, *cuts, len(grays)])
    for index, (start, stop) in zip(indices, spans, strict=True):
      ab = np.asarray(_working_lab(by_index[index].rgb, size)[..., 1:])
      back = _carry(ab, grays[start : index + 1][::-1])
      yield from reversed(list(back))
      yield ab
      yield from _carry(ab, grays[index:stop])

  for rgb, ab in zip(read(), predicted(), strict=True):
    yield np.asarray(sizes.join(rgb, ab))


def _carry(ab: np.ndarray, grays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """Yields the ab of each gray frame except the first, whose ab is given."""
  for before, after in itertools.pairwise(grays):
    step = flow.estimate_flow(after.repeat(3, -1), before.repeat(3, -1), 'dis')
    ab = np.asarray(_warp(ab[None], step[None])[0])
    yield ab


def color_transfer(
  read: Read, references: Sequence[Given], size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """Colors each pixel by its luminance and texture.

  Global matching of Welsh et al., Transferring Color to Grayscale Images (2002):
  a pixel is described by its luminance and by the standard deviation of luminance
  in the surrounding 5x5 pixels. The paper first equalizes mean and deviation of the
  two luminances; here both values are normalized by them. The paper uses the best
  of some randomly drawn reference pixels; here a pixel gets the mean ab of the
  reference pixels in its bin, or in the nearest nonempty bin. Several references
  are pooled.
  """
  labs = [_working_lab(given.rgb, size) for given in references]
  table = _mean_ab(
    np.concatenate([_bins(lab[..., :1]).ravel() for lab in labs]),
    np.concatenate([lab[..., 1:].reshape(-1, 2) for lab in labs]),
  )
  for rgb in read():
    bins = _bins(_working_lab(rgb, size)[..., :1])
    yield np.asarray(sizes.join(rgb, table[bins]))


@jax.jit
def _bins(luminance: jax.Array) -> jax.Array:
  """Returns each pixel's flat bin index: [h, w, 1] to [h, w] int32."""
  deviation = jnp.maximum(luminance.std(), 1e-3)
  level = (luminance[..., 0] - luminance.mean()) / deviation
  around = jnp.pad(level, _PATCH // 2, 'edge')
  patches = jnp.stack(
    [
      around[y : y + level.shape[0], x : x + level.shape[1]]
      for y in range(_PATCH)
      for x in range(_PATCH)
    ]
  )

  def place(x: jax.Array, count: int) -> jax.Array:
    return jnp.clip(jnp.floor(x / _BIN).astype(jnp.int32), 0, count - 1)

  levels, textures = _BINS
  row = place(level + levels / 2 * _BIN, levels)
  return row * textures + place(patches.std(0), textures)


def _mean_ab(bins: np.ndarray, ab: np.ndarray) -> np.ndarray:
  """Mean ab of each bin, or of the nearest nonempty bin.

  Shapes: [n], [n, 2] to [b, 2].
  """
  count = math.prod(_BINS)
  pixels = np.bincount(bins, minlength=count)
  sums = np.stack([np.bincount(bins, x, count) for x in ab.T], -1)
  (full,) = pixels.nonzero()
  places = np.stack(np.unravel_index(np.arange(count), _BINS), -1)
  away = np.square(places[:, None] - places[full]).sum(-1)
  nearest = full[away.argmin(-1)]
  return (sums[nearest] / pixels[nearest, None]).astype(np.float32)


def match_vgg16(
  read: Read, references: Sequence[Given], size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """Gives each position the color of the position with the most similar features.

  DEVC's matching without its training: relu2_2 to relu5_2 of VGG16 of the gray
  pictures are resized to stride 4, centered and normalized at each position, and
  compared by their mean cosine. The best match's ab, the mean of 4x4 pixels, is
  upsampled bilinearly. Positions of all references compete.

  Raises:
    UserError: VGG16's weights are not installed.
  """
  params = jax.device_put(vgg16.load_vgg16())
  encoded = [_encode(params, given.rgb, size) for given in references]
  keys = jnp.concatenate([x for x, _ in encoded], 1)
  colors = jnp.concatenate([x for _, x in encoded], 1)
  for rgb in read():
    yield np.asarray(_match(params, keys, colors, rgb, size))


@functools.partial(jax.jit, static_argnums=2)
def _encode(
  params: vgg16.Params, rgb: jax.Array, size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  """A reference's features and ab by position: [1, k, d] and [1, k, 2]."""
  lab = sizes.pad(_working_lab(rgb, size))[None]
  ab = layers.average_pool(lab[..., 1:], correspondence.STRIDE)
  return _features(params, lab[..., :1]), ab.reshape(1, -1, 2)


@functools.partial(jax.jit, static_argnums=4)
def _match(
  params: vgg16.Params,
  keys: jax.Array,
  colors: jax.Array,
  rgb: jax.Array,
  size: tuple[int, int],
) -> jax.Array:
  """Colorizes a frame, [h, w, 3] uint8."""
  luminance = _working_lab(rgb, size)[..., :1]
  padded = sizes.pad(luminance)
  queries = _features(params, padded[None])
  ab, _ = correspondence.match(queries, keys, colors, 0.0, _BLOCK)
  height, width = padded.shape[:2]
  stride = correspondence.STRIDE
  ab = ab.reshape(height // stride, width // stride, 2)
  ab = sizes.resize(ab, (height, width))
  return sizes.join(rgb, ab[: luminance.shape[0], : luminance.shape[1]])


def _features(params: vgg16.Params, luminance: jax.Array) -> jax.Array:
  """[b, h, w, 1] to unit vectors at stride 4, [b, positions, d]."""
  b, h, w, _ = luminance.shape
  gray_rgb = color.lab_to_rgb(jnp.pad(luminance, ((0, 0),) * 3 + ((0, 2),)))
  size = h // correspondence.STRIDE, w // correspondence.STRIDE
  maps = vgg16.vgg16_features(params, gray_rgb, _LEVELS)
  shares = jnp.full(len(maps), 1 / len(maps))
  return correspondence.stacked_positions(maps, size, shares)


@functools.partial(jax.jit, static_argnums=1)
def _working_lab(rgb: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Lab of [H, W, 3] uint8, downscaled to fit within `size`: [h, w, 3]."""
  lab = color.uint8_to_lab(rgb)
  height, width = rgb.shape[:2]
  return sizes.resize(lab, sizes.within((height, width), size))


def _flow_gray(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """L within `size` as input of optical flow: [h, w, 1] uint8."""
  luminance = np.asarray(_working_lab(rgb, size)[..., :1])
  return np.round(luminance * 2.55).astype(np.uint8)


_warp = jax.jit(flow.warp)
