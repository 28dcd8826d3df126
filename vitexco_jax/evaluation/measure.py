"""Runs methods over a clip and computes the metrics of each frame."""

import collections
import concurrent.futures
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm

from vitexco_jax import flow
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import clips, metrics, report
from vitexco_jax.evaluation.protocols import Chooser
from vitexco_jax.evaluation.subjects import Method
from vitexco_jax.pretrained import lpips

_LPIPS_VGG_EVERY = 10  # Frames: it is far slower than all other metrics.
_STRIP_COLUMNS = 5
_THREADS = max(2, os.cpu_count() or 2)
_IN_FLIGHT = 2 * _THREADS  # Frames being compared; bounds the memory.


# Values of a frame, and `metrics.histograms`: of the truth, then of each method.
Measured = tuple[list[dict[str, float | None]], list[np.ndarray]]


class Frame(NamedTuple):
  """A true frame and the results of the methods."""

  number: int
  true_rgb: np.ndarray
  colored: list[np.ndarray]  # One for each method.


def measure_clip(
  clip: clips.Clip,
  choose: Chooser,
  methods: Mapping[str, Method],
  pictures: report.Pictures,
) -> dict[str, Any]:
  """Runs all methods in parallel over a clip and measures each frame.

  Args:
    clip: the true clip.
    choose: chooses its references.
    methods: by name.
    pictures: gets all frames for the report.

  Returns:
    JSON values; for each method, and the truth, a list of values for each metric.

  Raises:
    UserError: the clip is too short, or a method's frame is missing or has another
      size.
  """
  count = clip.count
  if count < 2:
    raise UserError(f'{clip.name} has fewer than 2 frames')
  given, names = choose(clip)
  streams = {name: method(clip, given) for name, method in methods.items()}
  columns = set(np.linspace(0, count - 1, _STRIP_COLUMNS).round().astype(int))
  results: list[Measured] = []
  pending: collections.deque[concurrent.futures.Future[Measured]]
  pending = collections.deque()
  with (
    concurrent.futures.ThreadPoolExecutor(_THREADS) as pool,
    pictures,
    tqdm.tqdm(total=count, desc=clip.name, unit='frame') as bar,
  ):
    previous: Frame | None = None
    for number, true_rgb in enumerate(clip.read()):
      colored = _next_frames(streams, clip, number, true_rgb)
      frame = Frame(number, true_rgb, colored)
      pending.append(pool.submit(measure_frame, previous, frame))
      pictures.add(true_rgb, colored, number in columns)
      previous = frame
      if len(pending) > _IN_FLIGHT:
        results.append(pending.popleft().result())
      bar.update()
    results += [future.result() for future in pending]
  assert previous is not None  # The clip has frames.
  return {
    'size': list(previous.true_rgb.shape[:2]),
    'frames': count,
    'references': names,
    'given': [x.frame for x in given if x.frame is not None],
    'uncounted': [given[0].frame] if pictures.protocol == 'far-frame' else [],
    'methods': _by_method([report.TRUTH, *methods], results),
  }


def _next_frames(
  streams: Mapping[str, Iterator[np.ndarray]],
  clip: clips.Clip,
  number: int,
  true_rgb: np.ndarray,
) -> list[np.ndarray]:
  """Returns the next frame of each method; raises UserError if it does not fit."""
  colored = []
  for name, stream in streams.items():
    rgb = next(stream, None)
    if rgb is None or rgb.shape != true_rgb.shape:
      raise UserError(
        f'{name}: frame {number} of {clip.name} is '
        + ('missing' if rgb is None else '{1}x{0}'.format(*rgb.shape[:2]))
        + ', the true frame is {1}x{0}'.format(*true_rgb.shape[:2])
      )
    colored.append(rgb)
  return colored


def _by_method(
  names: Sequence[str],
  results: Sequence[Measured],
) -> dict[str, dict[str, Any]]:
  """Collects the results of `measure_frame` for all frames, by method."""
  by_method: dict[str, dict[str, Any]] = {}
  for place, name in enumerate(names):
    values = [rows[place] for rows, _ in results]
    keys = {key: None for x in values for key in x}  # Not all frames have all.
    by_method[name] = {key: [x.get(key) for x in values] for key in keys}
    by_method[name]['cdc'] = metrics.cdc(
      np.stack([histograms[place] for _, histograms in results])
    )
  return by_method


def measure_frame(previous: Frame | None, frame: Frame) -> Measured:
  """Computes the metrics of a frame for the truth and for each method.

  Args:
    previous: the previous frame; None for the first.
    frame: every tenth frame also gets LPIPS vgg.

  Returns:
    Values and `metrics.histograms`, those of the truth first.
  """
  motion = None
  if previous is not None:
    pair = previous.true_rgb, frame.true_rgb
    forward = flow.estimate_flow(*pair, 'dis')
    backward = flow.estimate_flow(*pair[::-1], 'dis')
    motion = forward, flow.visible_mask(forward, backward)
  pictures = [frame.true_rgb, *frame.colored]
  previous_pictures = (
    [previous.true_rgb, *previous.colored] if previous else pictures
  )
  rows = []
  for rgb, previous_rgb in zip(pictures, previous_pictures, strict=True):
    values: dict[str, float | None] = {
      'colorfulness': metrics.colorfulness(rgb),
      'chroma': metrics.mean_chroma(rgb),
    }
    if motion is not None:
      values['warp_error'] = metrics.warp_error(previous_rgb, rgb, *motion)
    if rgb is not frame.true_rgb:
      values |= _compare(rgb, frame.true_rgb, frame.number)
    rows.append(values)
  return rows, [metrics.histograms(rgb) for rgb in pictures]


def _compare(
  rgb: np.ndarray, true_rgb: np.ndarray, number: int
) -> dict[str, float | None]:
  """Computes the metrics that compare a frame with the true frame."""
  mean, percentile = metrics.ciede2000(rgb, true_rgb)
  values: dict[str, float | None] = {
    'psnr': metrics.psnr(rgb, true_rgb),
    'psnr_wrapped': metrics.psnr_wrapped(rgb, true_rgb),
    'ssim': metrics.ssim(rgb, true_rgb),
    'ciede2000': mean,
    'ciede2000_p90': percentile,
  }
  for net in ('alex', 'vgg'):
    if net == 'alex' or number % _LPIPS_VGG_EVERY == 0:
      distance = lpips.lpips(_lpips(net), rgb[None], true_rgb[None])
      values[f'lpips_{net}'] = float(distance[0])
  return values


_lpips = functools.cache(lpips.load_lpips)
