"""Benchmarks of the networks: matching, inference, video, training.

Weights and inputs are random: speed does not depend on them.
"""

import contextlib
import functools
import io
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitexco_jax.generator import (
  abstract_params,
  make_discriminator,
  make_generator,
)
from vitexco_jax.inference.colorize import colorize
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video
from vitexco_jax.models.correspondence import match
from vitexco_jax.models.vitexco import colorize_clip
from vitexco_jax.structs import Clips, Guidance, Reference
from vitexco_jax.tools import timing
from vitexco_jax.tools.timing import Row
from vitexco_jax.training import loop, objective, train

_DEVC_LEVELS = (2, 3, 4, 5)


def matching(
  config: ml_collections.ConfigDict,
  positions: int = 5184,
  large: int = 20_736,
  channels: int = 256,
) -> list[Row]:
  """Compares the blocked matching with the direct formula.

  Args:
    config: for its block and temperature.
    positions: of frame and reference, for the times.
    large: positions for the memory; this is compiled but not run.
    channels: of a position.

  Returns:
    Times of both formulas and their ratio; working memory without arguments and
    results.
  """
  settings = config.model.correspondence

  def blocked(
    queries: jax.Array, keys: jax.Array, ab: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    return match(queries, keys, ab, settings.temperature, settings.block)

  def direct(
    queries: jax.Array, keys: jax.Array, ab: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    highest = jax.lax.Precision.HIGHEST
    correlation = jnp.einsum('bqd,bkd->bqk', queries, keys, precision=highest)
    weights = jax.nn.softmax(correlation / settings.temperature, -1)
    warped_ab = jnp.matmul(weights, ab, precision=highest)
    return warped_ab, correlation.max(-1, keepdims=True)

  formulas = {'direct': direct, 'blocked': blocked}
  gradients = {name: _gradients(x) for name, x in formulas.items()}
  rows = []
  for what, functions in (('forward', formulas), ('and gradient', gradients)):
    rows += _matching_times(
      f'matching {positions} positions, {what}', functions, positions, channels
    )
  shapes = [
    jax.ShapeDtypeStruct((1, large, d), jnp.float32)
    for d in (channels, channels, 2)
  ]
  for what, functions in (('forward', formulas), ('and gradient', gradients)):
    for name, function in functions.items():
      compiled = jax.jit(function).lower(*shapes).compile()
      analysis = compiled.memory_analysis()
      assert analysis is not None  # On CPU and GPU.
      name = f'matching {large} positions, {what}, {name}, memory'
      rows.append(Row(name, analysis.temp_size_in_bytes / 1e6, 'MB'))
  return rows


def _gradients(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns the gradient of the sum of the results in all three arguments."""

  def total(*arrays: jax.Array) -> jax.Array:
    return sum((x.sum() for x in function(*arrays)), jnp.zeros(()))

  return jax.grad(total, (0, 1, 2))


def _matching_times(
  name: str,
  functions: Mapping[str, Callable[..., Any]],
  positions: int,
  channels: int,
) -> list[Row]:
  """Times `direct` and `blocked` matching of random vectors in turn."""
  rng = np.random.default_rng(0)

  def vectors() -> jax.Array:
    x = rng.normal(size=(1, positions, channels))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return jnp.asarray(x, jnp.float32)

  arrays = vectors(), vectors(), jnp.ones((1, positions, 2))
  direct, blocked = timing.times(
    [
      functools.partial(jax.jit(functions[x]), *arrays)
      for x in ('direct', 'blocked')
    ]
  )
  ratio = statistics.median(blocked) / statistics.median(direct)
  return [
    Row(f'{name}, direct', *timing.median(direct, 'ms')),
    Row(f'{name}, blocked', *timing.median(blocked, 'ms')),
    Row(f'{name}, blocked / direct', ratio, '', len(blocked)),
  ]


def network(
  config: ml_collections.ConfigDict,
  size: tuple[int, int],
  dtype: str = 'float32',
  block: int = 1,
) -> list[Row]:
  """Measures the networks on frames in memory with an encoded reference.

  Args:
    config: of the networks; uses DEVC's four levels, for comparison with it.
    size: of the frames.
    dtype: of the networks.
    block: frames per call.

  Returns:
    Speed, peak memory, and, on a known GPU, the share of its peak.
  """
  config = config.copy_and_resolve_references()
  config.model.dtype = dtype
  config.model.correspondence.levels = _DEVC_LEVELS
  generator = make_generator(config)
  variables = {'params': _random_params(config)}

  def colorize_block(
    variables: Any,
    luminance: jax.Array,
    reference: Reference,
    previous: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    guidance = generator.apply(variables, luminance, reference, method='guide')

    def colorize_frame(*frame: Any) -> jax.Array:
      ab = generator.apply(variables, *frame, method='colorize_frame')
      return cast(jax.Array, ab)

    return colorize_clip(
      colorize_frame, luminance, cast(Guidance, guidance), previous
    )

  rng = np.random.default_rng(0)
  rgb = jnp.asarray(rng.uniform(size=(1, *size, 3)), jnp.float32)
  luminance = rng.uniform(-50, 50, (1, block, *size, 1))
  encode = jax.jit(
    functools.partial(generator.apply, method='encode_reference')
  )
  arguments = (
    variables,
    jnp.asarray(luminance, jnp.float32),
    encode(variables, rgb),
    jnp.zeros((1, *size, 3 + generator.carried)),
  )
  (times,) = timing.times(
    [functools.partial(jax.jit(colorize_block), *arguments)], at_most=20
  )
  seconds = [x / block for x in times]
  name = f'network {size[0]}x{size[1]} {dtype}'
  flops = timing.count_flops(colorize_block, *arguments) / block
  return [
    Row(f'{name}, frame', *timing.median(seconds, 's')),
    Row(f'{name}, speed', *timing.median([1 / x for x in seconds], 'frames/s')),
    Row(f'{name}, peak memory', timing.peak_memory() / 1e6, 'MB'),
    *timing.share_of_peak(name, flops, seconds, dtype),
  ]


def video_speed(
  config: ml_collections.ConfigDict,
  frames: int = 48,
  size: tuple[int, int] = (360, 640),
) -> list[Row]:
  """Measures colorization of a file, including decoding and encoding.

  Args:
    config: of the colorizer, whose programs are compiled beforehand.
    frames: of the video.
    size: of the frames.

  Returns:
    Speed.
  """
  times = []
  with colored_video(config, frames, size) as run:
    run()
    for _ in range(3):
      start = time.perf_counter()
      run()
      times.append(time.perf_counter() - start)
  h, w = config.use.size
  name = f'colorize {size[0]}x{size[1]} video, working size {h}x{w}'
  speed = [frames / x for x in times]
  return [Row(f'{name}, speed', *timing.median(speed, 'frames/s'))]


def video_memory(
  config: ml_collections.ConfigDict,
  frames: int,
  size: tuple[int, int] = (64, 96),
) -> list[Row]:
  """Measures peak memory with a file of many small frames."""
  config = config.copy_and_resolve_references()
  config.use.size = (32, 48)
  with colored_video(config, frames, size) as run:
    run()
  name = f'colorize video of {frames} frames, peak memory'
  return [Row(name, timing.resident_peak() / 1e6, 'MB')]


@contextlib.contextmanager
def colored_video(
  config: ml_collections.ConfigDict, frames: int, size: tuple[int, int]
) -> Iterator[Callable[[], None]]:
  """Writes a synthetic video; yields a function that colorizes it.

  Args:
    config: of random weights.
    frames: of the video.
    size: of the frames.
  """
  rng = np.random.default_rng(0)
  picture = rng.uniform(0, 255, (size[0] // 8, size[1] // 8, 3))
  picture = jax.image.resize(picture, (*size, 3), 'cubic')
  picture = np.asarray(jnp.clip(picture, 0, 255), np.uint8)
  with tempfile.TemporaryDirectory() as folder:
    source, reference = Path(folder, 'in.mp4'), Path(folder, 'reference.png')
    video.write_image(reference, picture)
    with video.VideoWriter(source, video.Format(*size)) as writer:
      for i in range(frames):
        writer.write(video.Frame(np.roll(picture, (2 * i, 3 * i), (0, 1))))
    colorizer = VideoColorizer(_random_params(config), config)

    def run() -> None:
      with contextlib.redirect_stderr(io.StringIO()):  # Progress bars.
        colorize(
          colorizer,
          source,
          [str(reference)],
          Path(folder, 'out.mp4'),
          overwrite=True,
        )

    yield run


def training(
  config: ml_collections.ConfigDict, dtype: str = 'float32'
) -> list[Row]:
  """Measures updates of both networks on all devices, without the data feed.

  Args:
    config: of the training.
    dtype: of the networks.

  Returns:
    Time, peak memory, and, on a known GPU, the share of its peak.
  """
  config = config.copy_and_resolve_references()
  config.model.dtype = dtype
  devices = jax.local_device_count()
  batch, accumulation = config.train.batch_size, config.train.accumulation
  generator = make_generator(config)
  discriminator = make_discriminator(config)
  optimizer = train.make_optimizer(config.train)
  init = functools.partial(
    train.init_state,
    generator,
    discriminator,
    optimizer,
    config.train.learning_rate,
    config.data.size,
    config.seed,
  )
  state = jax.jit(init)()
  state = flax.jax_utils.replicate(state, axis_name=loop.AXIS)
  share = loop.micro_batch_size(config.train, 'train', devices) // devices
  clips = _random_clips(config, share)
  clips = flax.jax_utils.replicate(clips, axis_name=loop.AXIS)
  terms = objective.make_terms(
    generator,
    discriminator,
    config.loss,
    config.augment,
    config.train.unroll,
    loop.AXIS,
  )
  step = train.make_step(
    terms, config.loss.weights, config.train, optimizer, loop.AXIS
  )
  flops = (
    timing.count_flops(jax.pmap(step, loop.AXIS), state, clips) * accumulation
  )
  step = jax.pmap(step, loop.AXIS, donate_argnums=0)

  def update() -> Mapping[str, jax.Array]:
    nonlocal state
    for _ in range(accumulation):
      state, metrics = step(state, clips)
    return metrics

  (times,) = timing.times([update])
  h, w = config.data.size
  name = f'training {h}x{w} {dtype}, batch {batch}'
  return [
    Row(f'{name}, update', *timing.median(times, 'ms')),
    Row(
      f'{name}, speed', *timing.median([batch / x for x in times], 'samples/s')
    ),
    Row(f'{name}, peak memory', timing.peak_memory() / 1e6, 'MB'),
    *timing.share_of_peak(name, flops, times, dtype),
  ]


def _random_clips(config: ml_collections.ConfigDict, batch: int) -> Clips:
  t, size = config.train.clip_length, config.data.size
  rng = np.random.default_rng(0)
  rgb = rng.integers(0, 256, (batch, t + 1, *size, 3), np.uint8)
  return Clips(
    rgb=rgb[:, 1:],
    reference=rgb[:, 0],
    flow=np.ones((batch, t - 1, *size, 2), np.float32),
    visible=np.ones((batch, t - 1, *size, 1), np.uint8),
    same_video=np.ones(batch, bool),
    first_frame=np.zeros(batch, bool),
    backward_flow=np.ones((batch, t - 1, *size, 2), np.float32),
    anchor_flow=np.ones((batch, t, *size, 2), np.float32),
  )


def _random_params(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Random parameters with about the scale of the initializers."""
  rng = np.random.default_rng(0)

  def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    reach = 1 / math.sqrt(max(1, math.prod(leaf.shape[:-1])))
    return jnp.asarray(rng.uniform(-reach, reach, leaf.shape), jnp.float32)

  return jax.tree.map(draw, abstract_params(config))
