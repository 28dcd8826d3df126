"""Colorizes frames with the programs in this folder, without Vitexco.

  pip install jax numpy flatbuffers    # jax.export needs flatbuffers.
  python run.py FRAMES.npy REFERENCE.npy COLORED.npy [FLOW.npy]

FRAMES, of which only lightness is used, and COLORED are [t, h, w, 3]; REFERENCE is
[h, w, 3]; all are uint8 RGB. programs.json lists the arguments of the programs. With
`backward_flow`, colors are propagated by the optical flow from each frame to the
previous one: FLOW has (dx, dy), [t, h, w, 2], in pixels at the networks' size.
Without FLOW each frame is colorized independently. Unlike Vitexco, this does not
remove flicker and grain from the frames that the networks get.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

BLOCK = 8  # Frames per call.


def shrink(
  pictures: jax.Array | np.ndarray, bound: Sequence[int]
) -> tuple[jax.Array, tuple[int, int]]:
  """Resizes [n, h, w, c] to fit `bound` and pads it to multiples of 16.

  Returns:
    The padded pictures, and (height, width) before padding.
  """
  n, h, w, c = pictures.shape
  high, wide = sorted(bound, reverse=h > w)
  scale = min(1.0, high / h, wide / w)
  size = max(1, round(h * scale)), max(1, round(w * scale))
  pictures = jax.image.resize(pictures, (n, *size, c), 'linear')
  pads = [(0, max(2, -(-side // 16)) * 16 - side) for side in size]
  return jnp.pad(pictures, ((0, 0), *pads, (0, 0)), 'edge'), size


def shared(size: tuple[int, int], bound: Sequence[int]) -> tuple[int, int]:
  """Returns the shape to which Vitexco extends a padded reference.

  It is the bound, rotated for a tall picture, or a half, a quarter, ... of it, padded.
  """
  h, w = size
  high, wide = sorted(bound, reverse=h > w)
  result = None
  while True:
    rows, columns = (max(2, -(-side // 16)) * 16 for side in (high, wide))
    smaller = rows, columns
    if result and (smaller == result or h > rows or w > columns):
      return result
    result, high, wide = smaller, -(-high // 2), -(-wide // 2)


def extend(rgb: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Mirrors [1, h, w, 3] at the bottom and right edge: [1, *shape, 3]."""
  pads = [(0, shape[0] - rgb.shape[1]), (0, shape[1] - rgb.shape[2])]
  return jnp.pad(rgb, ((0, 0), *pads, (0, 0)), 'reflect')


def cut(
  x: jax.Array, shape: tuple[int, int], size: tuple[int, int]
) -> jax.Array:
  """Cuts [1, k, c], positions of a picture of a shape, to a smaller size."""
  positions = x.reshape(1, shape[0] // 4, shape[1] // 4, -1)
  inner = positions[:, : size[0] // 4, : size[1] // 4]
  return inner.reshape(1, -1, x.shape[-1])


def main(
  frames_file: str,
  reference_file: str,
  colored_file: str,
  flow_file: str | None = None,
) -> None:
  """Colorizes the frames of a file; see the module's docstring."""
  folder = Path(__file__).resolve().parent
  about = json.loads((folder / 'programs.json').read_text())
  bound = about['config']['use']['size']
  params = jax.device_put(dict(np.load(folder / 'params.npz')))
  rgb_to_lab, encode_reference, colorize, lab_to_rgb = (
    jax.jit(
      export.deserialize(
        bytearray((folder / f'{x}.stablehlo').read_bytes())
      ).call
    )
    for x in ('rgb_to_lab', 'encode_reference', 'colorize', 'lab_to_rgb')
  )
  frames = np.load(frames_file, mmap_mode='r')
  rgb, _ = shrink(np.load(reference_file)[None] / np.float32(255), bound)
  inner = rgb.shape[1], rgb.shape[2]
  shape = shared(inner, bound)
  encoded = encode_reference(
    params=params, rgb=extend(jnp.clip(rgb, 0, 1), shape)
  )
  reference = {x: cut(encoded[x], shape, inner) for x in ('keys', 'ab')}
  out = np.lib.format.open_memmap(colored_file, 'w+', np.uint8, frames.shape)
  takes = about['programs']['colorize']['takes']
  moves = 'backward_flow' in takes
  flow = np.load(flow_file, mmap_mode='r') if flow_file else None
  independent = moves and flow is None
  size = 1 if independent else BLOCK
  # Lab, and what else the network carries from frame to frame.
  channels = int(takes['previous'].rstrip(')]').split(',')[-1])
  previous = None
  for start in range(0, len(frames), size):
    block = slice(start, start + size)
    lab = rgb_to_lab(rgb=frames[block] / np.float32(255))
    luminance, (h, w) = shrink(lab[..., :1] - 50, bound)
    if previous is None or independent:
      previous = jnp.zeros((1, *luminance.shape[1:3], channels))
    motion = {}
    if moves:
      still = np.zeros((1, *luminance.shape[:3], 2), np.float32)
      motion['backward_flow'] = still if flow is None else flow[None, block]
    predicted = colorize(
      params=params,
      luminance=luminance[None],
      keys=reference['keys'],
      ab=reference['ab'],
      previous=previous,
      **motion,
    )
    previous = predicted['last']
    ab = predicted['ab'][0, :, :h, :w]
    ab = jax.image.resize(ab, (*lab.shape[:3], 2), 'cubic')
    rgb = lab_to_rgb(lab=jnp.concatenate([lab[..., :1], ab], -1))
    out[block] = np.round(rgb * 255)


if __name__ == '__main__':
  if len(sys.argv) not in (4, 5):
    sys.exit(__doc__)
  main(*sys.argv[1:])
