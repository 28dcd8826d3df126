"""How fast and how large: a table of medians, and the same as JSON.

Each part runs in a process of its own, one after the other, so that its peak
memory is its own and a GPU is free for it. Weights and pictures are made up:
speed does not depend on them. Nothing else should run on the machine.

  matching         the blocked formula against the direct one
  network          the paper's size with DEVC's four levels, without video
  video            colorize from file to file, for all but the paper's config
  video_memory     the same, of a short and a long video
  training         one update; the paper's size on a GPU only
  metrics          all metrics of an evaluated frame of 854x480 but LPIPS vgg
  retrieval        searching as many made-up embeddings as ImageNet's ViT-Ti gives
  feed             samples from the records at config.data.records, if there are
                   any, off the disk and out of the system's cache

With a gallery it is the gallery that is measured, and nothing else: how often the
nearest picture of a picture of ImageNet is of the same synset.
"""

import collections
import concurrent.futures
import contextlib
import datetime
import functools
import importlib.metadata
import io
import itertools
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import statistics
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitexco_jax import checkpoint, color, files
from vitexco_jax.data import input_pipeline
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import evaluate
from vitexco_jax.inference.colorize import VideoColorizer, colorize
from vitexco_jax.media import video
from vitexco_jax.models.correspondence import match
from vitexco_jax.models.vitexco import colorize_clip
from vitexco_jax.retrieval import embedding, gallery
from vitexco_jax.structs import Clips, Reference
from vitexco_jax.training import train

_DEVC_LEVELS = (2, 3, 4, 5)
_GPU_BLOCK = 8  # Frames at a time on a GPU, as colorize takes them.
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'av')

# Multiplications and additions a second, dense, by the makers' data sheets.
# XLA's float32 convolutions run as TF32 on these.
_PEAK_FLOPS = {
  'H200': {'float32': 494.7e12, 'bfloat16': 989.4e12},
  'H100 PCIe': {'float32': 378e12, 'bfloat16': 756e12},
  'H100': {'float32': 494.7e12, 'bfloat16': 989.4e12},
  'A100': {'float32': 156e12, 'bfloat16': 312e12},
}


class Row(NamedTuple):
  """One line of the table."""

  name: str
  value: float
  unit: str
  runs: int = 1  # The value is their median.


def benchmark(
  config: ml_collections.ConfigDict,
  output: Path,
  searched: Path | None = None,
) -> None:
  """Runs the parts that suit the config; prints and writes what they find.

  Args:
    config: its `variant` decides the parts.
    output: a folder; `benchmark_VARIANT.json` in it is replaced, or
      `benchmark_gallery.json`.
    searched: a gallery of that config, to measure instead.

  Raises:
    UserError: the folder cannot be written, or the config cannot be trained on
      this machine.
  """
  name = config.variant if searched is None else 'gallery'
  path = output / f'benchmark_{name}.json'
  files.make_folder('--output', output)
  machine = _alone(_describe_machine)
  print(', '.join(str(value) for value in machine.values()))
  if searched is not None:
    parts = [functools.partial(retrieval_quality, config, searched)]
  else:
    parts = list(_parts(config, machine['platform'] == 'gpu'))
    if Path(config.data.records).exists():
      parts.append(functools.partial(feed, config))
    else:
      print(f'no records at {config.data.records}: the feed is not measured')
  if any(part.func is training for part in parts):
    train.micro_batch_size(config, machine['devices'])  # Refused now, not late.
  rows = []
  for part in parts:
    # Grain's processes are handed the flags, which only this one has.
    for row in part() if part.func is feed else _alone(part):
      rows.append(row)
      runs = f'median of {row.runs}' if row.runs > 1 else ''
      print(f'{row.name:60} {row.value:9.4g} {row.unit:9} {runs}', flush=True)
  report = {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'machine': machine,
    'versions': {'python': platform.python_version()}
    | {name: importlib.metadata.version(name) for name in _PACKAGES},
    'config': config.to_dict(),
    'rows': [row._asdict() for row in rows],
  }
  with files.explained('--output', output):
    files.write(path, json.dumps(report, indent=2) + '\n')
  print(f'Wrote {path}')


def _parts(
  config: ml_collections.ConfigDict, gpu: bool
) -> Iterator[Callable[[], list[Row]]]:
  """The parts to run, each a call without arguments."""
  part = functools.partial
  yield part(matching, config)
  if config.variant != 'paper':
    yield part(video_speed, config)
    yield part(video_memory, config, frames=300)
    yield part(video_memory, config, frames=3000)
    yield part(training, config)
  elif not gpu:
    for size in ((224, 384), (432, 768)):
      yield part(network, config, size)
  else:
    for dtype in ('float32', 'bfloat16'):
      for size in ((224, 384), (480, 864), (544, 960)):
        yield part(network, config, size, dtype, _GPU_BLOCK)
      yield part(training, config, dtype)
  if 'tiny' not in config.variant:
    yield part(metrics_speed)
    yield part(retrieval_speed)


def _alone(function: Callable[[], Any]) -> Any:
  """Calls a function in a fresh process."""
  with concurrent.futures.ProcessPoolExecutor(
    1, multiprocessing.get_context('spawn')
  ) as pool:
    return pool.submit(function).result()


def matching(
  config: ml_collections.ConfigDict,
  positions: int = 5184,
  large: int = 20_736,
  channels: int = 256,
) -> list[Row]:
  """The blocked matching against the direct formula.

  Args:
    config: for its block and temperature.
    positions: of frame and reference, for the times.
    large: the same for the memory; this is compiled but not run.
    channels: of a position.

  Returns:
    Times of both formulas and their ratio; working memory beside arguments and
    results.
  """
  settings = config.model.correspondence

  def blocked(queries, keys, ab):
    return match(queries, keys, ab, settings.temperature, settings.block)

  def direct(queries, keys, ab):
    highest = jax.lax.Precision.HIGHEST
    correlation = jnp.einsum('bqd,bkd->bqk', queries, keys, precision=highest)
    weights = jax.nn.softmax(correlation / settings.temperature, -1)
    warped_ab = jnp.matmul(weights, ab, precision=highest)
    return warped_ab, correlation.max(-1, keepdims=True)

  def gradients(function):
    def total(*arrays):
      return sum(x.sum() for x in function(*arrays))

    return jax.grad(total, (0, 1, 2))

  rng = np.random.default_rng(0)

  def vectors():
    x = rng.normal(size=(1, positions, channels))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return jnp.asarray(x, jnp.float32)

  arrays = vectors(), vectors(), jnp.ones((1, positions, 2))
  rows = []
  for what, change in (('forward', lambda f: f), ('and gradient', gradients)):
    name = f'matching {positions} positions, {what}'
    theirs, ours = _times(
      [
        functools.partial(jax.jit(change(direct)), *arrays),
        functools.partial(jax.jit(change(blocked)), *arrays),
      ]
    )
    ratio = statistics.median(ours) / statistics.median(theirs)
    rows += [
      Row(f'{name}, direct', *_median(theirs, 'ms')),
      Row(f'{name}, blocked', *_median(ours, 'ms')),
      Row(f'{name}, blocked / direct', ratio, '', len(ours)),
    ]
  shapes = [
    jax.ShapeDtypeStruct((1, large, d), jnp.float32)
    for d in (channels, channels, 2)
  ]
  for what, change in (('forward', lambda f: f), ('and gradient', gradients)):
    for name, function in (('direct', direct), ('blocked', blocked)):
      compiled = jax.jit(change(function)).lower(*shapes).compile()
      extra = compiled.memory_analysis().temp_size_in_bytes
      name = f'matching {large} positions, {what}, {name}, memory'
      rows.append(Row(name, extra / 1e6, 'MB'))
  return rows


def network(
  config: ml_collections.ConfigDict,
  size: tuple[int, int],
  dtype: str = 'float32',
  block: int = 1,
) -> list[Row]:
  """The networks on frames that are there already, the reference encoded.

  Args:
    config: of the networks; DEVC's four levels are put in, to compare with it.
    size: of the frames.
    dtype: of the networks.
    block: frames at a time.

  Returns:
    Speed, peak memory and, on a known GPU, the share of its peak.
  """
  config = config.copy_and_resolve_references()
  config.model.dtype = dtype
  config.model.correspondence.levels = _DEVC_LEVELS
  apply = checkpoint.make_generator(config).apply
  variables = {'params': _made_up(config)}

  def colorize_block(
    variables: Any,
    luminance: jax.Array,
    reference: Reference,
    previous_lab: jax.Array,
  ):
    guidance = apply(variables, luminance, reference, method='guide')
    return colorize_clip(
      functools.partial(apply, variables, method='colorize_frame'),
      luminance,
      guidance,
      previous_lab,
    )

  rng = np.random.default_rng(0)
  rgb = jnp.asarray(rng.uniform(size=(1, *size, 3)), jnp.float32)
  luminance = rng.uniform(-50, 50, (1, block, *size, 1))
  encode = jax.jit(functools.partial(apply, method='encode_reference'))
  arguments = (
    variables,
    jnp.asarray(luminance, jnp.float32),
    encode(variables, rgb),
    jnp.zeros((1, *size, 3)),
  )
  (times,) = _times(
    [functools.partial(jax.jit(colorize_block), *arguments)], at_most=20
  )
  seconds = [x / block for x in times]
  name = f'network {size[0]}x{size[1]} {dtype}'
  flops = count_flops(colorize_block, *arguments) / block
  return [
    Row(f'{name}, frame', *_median(seconds, 's')),
    Row(f'{name}, speed', *_median([1 / x for x in seconds], 'frames/s')),
    Row(f'{name}, peak memory', _peak_memory() / 1e6, 'MB'),
    *_share_of_peak(name, flops, seconds, dtype),
  ]


def video_speed(
  config: ml_collections.ConfigDict,
  frames: int = 48,
  size: tuple[int, int] = (360, 640),
) -> list[Row]:
  """Colours a file end to end, decoding and encoding included.

  Args:
    config: of the colorizer, whose programs are compiled beforehand.
    frames: of the video.
    size: of the frames.

  Returns:
    Speed.
  """
  times = []
  with _coloured_video(config, frames, size) as run:
    run()
    for _ in range(3):
      start = time.perf_counter()
      run()
      times.append(time.perf_counter() - start)
  h, w = config.use.size
  name = f'colorize {size[0]}x{size[1]} video, working size {h}x{w}'
  speed = [frames / x for x in times]
  return [Row(f'{name}, speed', *_median(speed, 'frames/s'))]


def video_memory(
  config: ml_collections.ConfigDict,
  frames: int,
  size: tuple[int, int] = (64, 96),
) -> list[Row]:
  """Colours a file of many small frames, for the peak memory."""
  config = config.copy_and_resolve_references()
  config.use.size = (32, 48)
  with _coloured_video(config, frames, size) as run:
    run()
  name = f'colorize video of {frames} frames, peak memory'
  return [Row(name, _resident_peak() / 1e6, 'MB')]


@contextlib.contextmanager
def _coloured_video(
  config: ml_collections.ConfigDict, frames: int, size: tuple[int, int]
) -> Iterator[Callable[[], None]]:
  """Makes up a video; yields what colours it."""
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
    colorizer = VideoColorizer(_made_up(config), config)

    def run():
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
  """Updates of both networks on all devices, without the data feed.

  Args:
    config: of the training.
    dtype: of the networks.

  Returns:
    Time, peak memory and, on a known GPU, the share of its peak.
  """
  config = config.copy_and_resolve_references()
  config.model.dtype = dtype
  devices = jax.local_device_count()
  batch, accumulation = config.train.batch_size, config.train.accumulation
  optimizer = train.make_optimizer(config)
  state = jax.jit(functools.partial(train.init_state, config, optimizer))()
  state = flax.jax_utils.replicate(state, axis_name=train.AXIS)
  share = train.micro_batch_size(config, devices) // devices
  clips = _made_up_clips(config, share)
  clips = flax.jax_utils.replicate(clips, axis_name=train.AXIS)
  step = train.make_step(config, optimizer, train.AXIS)
  flops = count_flops(jax.pmap(step, train.AXIS), state, clips) * accumulation
  step = jax.pmap(step, train.AXIS, donate_argnums=0)

  def update():
    nonlocal state
    for _ in range(accumulation):
      state, metrics = step(state, clips)
    return metrics

  (times,) = _times([update])
  h, w = config.data.size
  name = f'training {h}x{w} {dtype}, batch {batch}'
  return [
    Row(f'{name}, update', *_median(times, 'ms')),
    Row(f'{name}, speed', *_median([batch / x for x in times], 'samples/s')),
    Row(f'{name}, peak memory', _peak_memory() / 1e6, 'MB'),
    *_share_of_peak(name, flops, times, dtype),
  ]


def metrics_speed(height: int = 480, width: int = 854) -> list[Row]:
  """Measures made-up frames as an evaluation does, one after the other.

  Returns:
    Time of a frame of one method, with the flow of the true clip.
  """
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (height // 8, width // 8 + 2, 3), np.uint8)
  wide = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
  before, frame = (  # A picture that moves, and its colours shifted.
    evaluate.Frame(i, true_rgb, [np.roll(true_rgb, 1, -1)])
    for i, true_rgb in enumerate((wide[:, 3 : width + 3], wide[:, :width]))
  )
  (times,) = _times([lambda: evaluate.measure(before, frame)[0][-1]['ssim']])
  return [Row(f'metrics of {width}x{height}, a frame', *_median(times, 'ms'))]


def retrieval_speed(
  count: int = 1_280_000, width: int = 192, clusters: int = 10_000
) -> list[Row]:
  """Searches a gallery of made-up embeddings, exactly and approximately.

  Args:
    count: pictures, by default as ImageNet has.
    width: of an embedding, by default ViT-Ti's.
    clusters: that the embeddings fall into; the cosine between one and the
      centre of its cluster is about 0.7.

  Returns:
    Times of opening and searching, and the recall of the approximate index.
  """
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((clusters, width), np.float32)

  def draw(number):
    x = centres[rng.integers(clusters, size=number)]
    x = x + rng.standard_normal((number, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  queries = draw(1000)
  one = itertools.cycle(np.split(queries, len(queries)))
  name = f'retrieval of {count} x {width}'
  with tempfile.TemporaryDirectory() as folder:
    source = types.SimpleNamespace(address='made up')
    writer = gallery.Writer(Path(folder), {'width': width}, source)
    for first in range(0, count, 1 << 16):
      numbers = range(first, min(first + (1 << 16), count))
      writer.add([f'{i:07d}.jpg' for i in numbers], draw(len(numbers)))

    def measure(index):
      (opening,) = _times([lambda: embedding.Gallery.open(folder, index)])
      opened = embedding.Gallery.open(folder, index)
      (single,) = _times([lambda: opened.search(next(one), 5)], at_most=100)
      (many,) = _times([lambda: opened.search(queries, 5)])
      rows = [
        Row(f'{name}, {index}, opening', *_median(opening, 'ms')),
        Row(f'{name}, {index}, one query', *_median(single, 'ms')),
        Row(f'{name}, {index}, 1000 queries', *_median(many, 's')),
      ]
      return rows, opened.search(queries, 5)[1]

    exact, true = measure('exact')
    start = time.perf_counter()
    made = gallery.build_index(
      Path(folder), embedding.Gallery.open(folder).embeddings
    )
    building = Row(f'{name}, ivf, building', time.perf_counter() - start, 's')
    ivf, found = measure('ivf')
  return [
    *exact,
    building,
    Row(f'{name}, ivf, lists', made.lists, ''),
    Row(f'{name}, ivf, lists looked through', made.probes, ''),
    *ivf,
    Row(f'{name}, ivf, recall@5', gallery.recall_of(found, true), ''),
  ]


def retrieval_quality(
  config: ml_collections.ConfigDict, folder: Path, at_most: int = 2000
) -> list[Row]:
  """How often the nearest picture of ImageNet is of the same synset.

  Queries are pictures of the gallery, whose nearest other is looked for. They
  are of synsets that had five pictures at least before grey ones were refused.

  Args:
    config: that the gallery was built with.
    folder: the gallery's; the names of its pictures hold their synsets.
    at_most: queries, drawn evenly.

  Returns:
    The share for queries in grey and, where the gallery is not grey, in colour.

  Raises:
    UserError: no names have synsets with five pictures.
  """
  embed, opened = embedding.open_with_embedder(config, folder)
  synsets = [_synset(opened.name(i)) for i in range(len(opened))]
  sizes = collections.Counter(synsets)
  sizes.update(_synset(x['name']) for x in gallery.read_left_out(folder))
  wanted = [i for i, x in enumerate(synsets) if x and sizes[x] >= 5]
  if not wanted:
    raise UserError(
      f'--gallery={folder} has no five pictures of one ImageNet synset: names '
      'like n01440764_10026.JPEG tell these'
    )
  places = np.linspace(0, len(wanted) - 1, min(at_most, len(wanted)))
  wanted = [wanted[int(place)] for place in places]
  crops = np.stack([embedding.crop(opened.read(i)) for i in wanted])
  queries = {'grey': np.asarray(color.grey(crops))}
  if not config.retrieval.grey:
    queries['colour'] = crops
  kind = 'grey' if config.retrieval.grey else 'colour'
  name = f'{config.retrieval.network}, {len(opened)} pictures in {kind}'
  rows = [Row(f'{name}, queries', len(wanted), '')]
  for how, seen in queries.items():
    # The picture itself is the nearest, unless it has a twin.
    _, found = opened.search(embed.embed_crops(seen), 2)
    nearest = np.where(found[:, 0] == wanted, found[:, 1], found[:, 0])
    same = [
      synsets[i] == synsets[j] for i, j in zip(wanted, nearest, strict=True)
    ]
    what = f'{name}, {how} queries, nearest of the synset'
    rows.append(Row(what, 100 * float(np.mean(same)), '%'))
  return rows


def _synset(name: str) -> str:
  """The WordNet number in a name of ImageNet's; empty if there is none."""
  found = re.search(r'(?<![A-Za-z0-9])n\d{8}(?![A-Za-z0-9])', name)
  return found[0] if found else ''


def feed(config: ml_collections.ConfigDict, batches: int = 40) -> list[Row]:
  """Draws batches as training does, and does nothing else.

  Args:
    config: of the training, whose records are read.
    batches: to be timed, after a first one.

  Returns:
    Speed in this process's threads, and in one and two others; each time first
    with records that the system has dropped from its cache.
  """
  config = config.copy_and_resolve_references()
  rows = []
  for workers in (0, 1, 2):
    config.data.workers = workers
    place = (
      f'{workers} processes' if workers else f'{config.data.threads} threads'
    )
    for state in ('cold', 'warm'):
      if state == 'cold':
        _drop_from_cache(Path(config.data.records))
      clips = input_pipeline.make_iterator(config, config.train.batch_size)
      next(clips)
      start = time.perf_counter()
      for _ in range(batches):
        next(clips)
      speed = batches * config.train.batch_size / (time.perf_counter() - start)
      rows.append(Row(f'feed, {place}, {state}', speed, 'samples/s'))
  return rows


def _drop_from_cache(folder: Path):
  """Makes the system read files anew from the disk."""
  for path in folder.rglob('*.array_record*'):
    with path.open('rb') as file:
      os.fsync(file.fileno())
      os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _made_up_clips(config: ml_collections.ConfigDict, batch: int) -> Clips:
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
  )


def _made_up(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Parameters of about the size that the layers start with."""
  rng = np.random.default_rng(0)

  def draw(leaf):
    reach = 1 / math.sqrt(max(1, math.prod(leaf.shape[:-1])))
    return jnp.asarray(rng.uniform(-reach, reach, leaf.shape), jnp.float32)

  return jax.tree.map(draw, checkpoint.abstract_params(config))


def _times(
  functions: list[Callable[[], Any]],
  seconds: float = 10.0,
  at_least: int = 3,
  at_most: int = 9,
) -> list[list[float]]:
  """Times functions in turn, after a first call of each, until time is up."""
  for function in functions:
    jax.block_until_ready(function())
  times = [[] for _ in functions]
  end = time.perf_counter() + seconds
  while len(times[0]) < at_least or (
    len(times[0]) < at_most and time.perf_counter() < end
  ):
    for function, of_function in zip(functions, times, strict=True):
      start = time.perf_counter()
      jax.block_until_ready(function())
      of_function.append(time.perf_counter() - start)
  return times


def _median(values: list[float], unit: str) -> tuple[float, str, int]:
  """Median, unit and number of runs; seconds become `ms` if so asked."""
  scale = 1e3 if unit == 'ms' else 1.0
  return scale * statistics.median(values), unit, len(values)


def count_flops(function: Callable[..., Any], *arguments: Any) -> float:
  """Multiplications and additions in matrix products and convolutions.

  A loop counts as often as it runs, which XLA's own cost analysis leaves out;
  what a gradient computes anew counts again. For one device.
  """
  return _flops_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops_of(jaxpr: Any) -> float:
  total = 0.0
  for equation in jaxpr.eqns:
    parameters = equation.params
    shapes = [x.aval.shape for x in equation.invars if hasattr(x, 'aval')]
    out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = parameters['dimension_numbers']
      total += 2 * out * math.prod(shapes[0][i] for i in contracted)
    elif equation.primitive.name == 'conv_general_dilated':
      kernel = parameters['dimension_numbers'].rhs_spec
      taps = [shapes[1][i] for i in kernel[1:]]  # Input channels, then space.
      # A gradient's kernel or picture may be spread out by zeros.
      spread = math.prod(parameters['lhs_dilation'])
      total += 2 * out * math.prod(taps) / spread
    inner = sum(map(_flops_of, _inner(parameters.values())))
    total += inner * parameters.get('length', 1)
  return total


def _inner(values: Iterable[Any]) -> Iterator[Any]:
  """The programs that an equation runs."""
  for value in values:
    if isinstance(value, list | tuple):
      yield from _inner(value)
    elif hasattr(value, 'jaxpr'):
      yield value.jaxpr
    elif hasattr(value, 'eqns'):
      yield value


def _share_of_peak(
  name: str, flops: float, seconds: list[float], dtype: str
) -> list[Row]:
  kind = jax.devices()[0].device_kind
  peaks = (peak for chip, peak in _PEAK_FLOPS.items() if chip in kind)
  peak = next(peaks, None)
  if peak is None:
    return []
  shares = [100 * flops / x / peak[dtype] for x in seconds]
  return [Row(f'{name}, share of peak', *_median(shares, '%'))]


def _peak_memory() -> int:
  """Bytes: the GPU's where there is one, else those of this process."""
  stats = jax.devices()[0].memory_stats()
  return stats['peak_bytes_in_use'] if stats else _resident_peak()


def _resident_peak() -> int:
  """Bytes of this process's memory at its largest."""
  status = Path('/proc/self/status')
  if status.exists():  # `resource` would count the parent's as well.
    for line in status.read_text().splitlines():
      if line.startswith('VmHWM'):
        return int(line.split()[1]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _describe_machine() -> dict[str, Any]:
  device = jax.devices()[0]
  return {
    'platform': device.platform,
    'device': device.device_kind,
    'devices': jax.local_device_count(),
    'processor': _processor(),
    'cores': os.cpu_count(),
    'system': platform.platform(),
  }


def _processor() -> str:
  information = Path('/proc/cpuinfo')
  if information.exists():
    for line in information.read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor()
