"""Speed of DEVC's released architecture against ours, on the same frames and cores.

DEVC is Deep Exemplar-based Video Colorization (Zhang et al., CVPR 2019). The user
brings a clone of its repository, and its requirements in the same environment;
nothing of it is part of this project.

Both get the same frames, the first of them in color as the reference, and predict ab
at their usual size: DEVC at 216x384, `weights/small` within 224x384 with motion at
twice that. Reading, writing, and filters at full size are not included. DEVC has
random weights, which take as long as trained ones. The methods take turns, block by
block, and their medians are compared.
"""

import functools
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

from vitexco_jax.errors import UserError
from vitexco_jax.inference.frame_blocks import BLOCK
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.tools import timing
from vitexco_jax.tools.timing import Row

_FRAME = (480, 854)  # Size of the frames.
_BLOCKS = 5  # That count, of 8 frames each.
_SHIFT = 3  # Pixels that a frame moves.
_SIZE = (216, 384)  # Of DEVC's networks: test.py halves 432x768.
_LAYERS = ['r12', 'r22', 'r32', 'r42', 'r52']

# Colorizes a block of RGB frames, [t, h, w, 3] uint8.
Method = Callable[[np.ndarray], Any]


def compare(clone: Path) -> list[Row]:
  """Measures both methods.

  Args:
    clone: of DEVC's repository.

  Returns:
    Milliseconds per frame of both, and how many times as long DEVC takes.

  Raises:
    UserError: the clone or one of its requirements is missing.
  """
  block = _frames(BLOCK)
  methods = [devc(clone, block[0]), ours(block[0])]
  calls: list[Callable[[], Any]] = [
    functools.partial(method, block) for method in methods
  ]
  measured = timing.times(calls, at_least=_BLOCKS, at_most=_BLOCKS)
  theirs, own = ([x / BLOCK for x in seconds] for seconds in measured)
  ratio = [a / b for a, b in zip(theirs, own, strict=True)]
  return [
    Row('DEVC, ab of a frame', *timing.median(theirs, 'ms')),
    Row('weights/small, ab of a frame', *timing.median(own, 'ms')),
    Row('DEVC as a multiple of weights/small', *timing.median(ratio, 'times')),
  ]


def _frames(count: int) -> np.ndarray:
  """Returns frames of a random picture that moves, [t, h, w, 3] uint8."""
  rng = np.random.default_rng(0)
  height, width = _FRAME
  small = rng.integers(0, 256, (30, 56, 3), np.uint8)
  size = width + count * _SHIFT, height
  wide = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
  return np.stack(
    [wide[:, _SHIFT * i : _SHIFT * i + width] for i in range(count)]
  )


def ours(reference: np.ndarray) -> Method:
  """Returns `weights/small` with a reference, [h, w, 3] uint8."""
  colorizer = VideoColorizer.from_checkpoint()
  colorizer.set_reference(reference, first_frame=True)

  def colorize(block: np.ndarray) -> None:
    for prediction in colorizer.predict(block):
      np.asarray(prediction.ab)

  return colorize


def devc(clone: Path, reference: np.ndarray) -> Method:
  """Returns DEVC's networks with random weights and a reference.

  Args:
    clone: of its repository.
    reference: [h, w, 3] uint8.

  Raises:
    UserError: the clone or one of its requirements is missing.
  """
  if not (clone / 'models' / 'FrameColor.py').is_file():
    raise UserError(
      f'`devc={clone}` is not a clone of Deep-Exemplar-based-Video-Colorization: '
      'name the folder that has its models/FrameColor.py'
    )
  sys.path.insert(0, str(clone))
  try:
    torch = importlib.import_module('torch')
    # One of the modules loads weights when it is imported. They do not matter.
    with (
      mock.patch.object(torch, 'load'),
      mock.patch.object(torch.nn.Module, 'load_state_dict'),
    ):
      nonlocal_net = importlib.import_module('models.NonlocalNet')
    frame_color = importlib.import_module('models.FrameColor')
    color_net = importlib.import_module('models.ColorVidNet')
    util = importlib.import_module('utils.util')
  except ImportError as error:
    raise UserError(
      f'DEVC needs {error.name}: install its requirements.txt into this '
      'environment'
    ) from error
  torch.set_num_threads(os.cpu_count() or 1)
  vgg = nonlocal_net.VGG19_pytorch().eval()
  warp, net = nonlocal_net.WarpNet(1).eval(), color_net.ColorVidNet(7).eval()

  def encode(rgb: np.ndarray) -> Any:
    """Returns Lab, l = L - 50, [1, 3, h, w]."""
    small = cv2.resize(rgb, _SIZE[::-1], interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 0] -= 50
    return torch.from_numpy(lab.transpose(2, 0, 1)[None].copy())

  still = encode(reference)
  with torch.no_grad():
    uncentered = torch.cat((util.uncenter_l(still[:, :1]), still[:, 1:]), 1)
    rgb = util.tensor_lab2rgb(uncentered)
    features = vgg(rgb, _LAYERS, preprocess=True)
  last = [still]

  def colorize(block: np.ndarray) -> None:
    for rgb in block:
      lab = encode(rgb)
      with torch.no_grad():
        ab, _, _ = frame_color.frame_colorization(
          lab,
          still,
          last[0],
          features,
          vgg,
          warp,
          net,
          joint_training=False,
          temperature=1e-10,
        )
      last[0] = torch.cat((lab[:, :1], ab), 1)

  return colorize
