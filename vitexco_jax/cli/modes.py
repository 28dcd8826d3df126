"""The modes of the command line: what each one does, with which flags.

Functions import what they run, so that wrong arguments are reported at once.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_collections
from absl.flags import FlagHolder

from vitexco_jax import config as configs
from vitexco_jax.cli import flags

if TYPE_CHECKING:
  from vitexco_jax.inference.outputs import Options
  from vitexco_jax.inference.video_colorizer import VideoColorizer

_logger = logging.getLogger(__name__)


class Call(NamedTuple):
  """The arguments of a call other than the plain flags."""

  config: ml_collections.ConfigDict  # With the overrides.
  overrides: Mapping[str, Any]  # By dotted name.


class Mode(NamedTuple):
  """A mode; flags are named as on the command line."""

  run: Callable[[Call], None]
  help: str  # What it does.
  usage: tuple[str, ...]  # Examples of flags.
  needed: tuple[str, ...] = ()
  optional: tuple[str, ...] = ()


def _train(call: Call) -> None:
  _connect()
  from vitexco_jax.training.train import train

  train(call.config, Path(flags.WORKDIR.value))


def _pretrain(call: Call) -> None:
  _connect()
  from vitexco_jax.training.pretrain import pretrain

  pretrain(call.config, _given(flags.IMAGES), Path(flags.WORKDIR.value))


def _connect() -> None:
  """Connects this host to the others, if there are several."""
  if flags.COORDINATOR.value:
    from vitexco_jax.training import multihost

    multihost.connect(
      flags.COORDINATOR.value, flags.HOSTS.value, flags.HOST.value
    )


def _prepare(call: Call) -> None:
  from vitexco_jax.data.prepare import prepare

  prepare(
    call.config,
    _path(flags.VIDEOS.value),
    _path(flags.IMAGES.value),
    _path(flags.GALLERY.value),
    flags.BEAM.value,
  )


def _gallery(call: Call) -> None:
  from vitexco_jax.retrieval.build import build_gallery

  build_gallery(call.config, _given(flags.IMAGES), Path(_given(flags.GALLERY)))


def _retrieve(call: Call) -> None:
  from vitexco_jax.retrieval.retrieve import retrieve

  retrieve(
    call.config,
    Path(_given(flags.QUERY)),
    Path(_given(flags.GALLERY)),
    Path(_given(flags.OUTPUT)),
  )


def _inspect(call: Call) -> None:
  from vitexco_jax.data.inspect import inspect

  inspect(call.config, Path(_given(flags.OUTPUT)))


def _export(call: Call) -> None:
  from vitexco_jax.tools.export import export_run

  export_run(Path(flags.WORKDIR.value), Path(_given(flags.OUTPUT)))


def _plan(call: Call) -> None:
  from vitexco_jax.inference import plan, preflight

  video_path, pictures = Path(_given(flags.VIDEO)), flags.REFERENCE.value or ()
  references = _path(flags.REFERENCES.value)
  rate = preflight.read_frame_rate(flags.FRAME_RATE.value)
  plan.check_output(Path(_given(flags.OUTPUT)))
  for warning in preflight.check_inputs(video_path, pictures, references, rate):
    _logger.warning('%s', warning)
  plan.plan_film(
    _comparing_config(call),
    video_path,
    pictures,
    Path(_given(flags.OUTPUT)),
    references,
    _path(flags.GALLERY.value),
    rate,
    _colorizer(call) if references or plan.AUTO in pictures else None,
  )


def _stills(call: Call) -> None:
  from vitexco_jax.inference import best_frames, preflight

  video_path, output = Path(_given(flags.VIDEO)), Path(_given(flags.OUTPUT))
  plan_path = _path(flags.PLAN.value)
  best_frames.check_output(output)
  preflight.check_sources(video_path, (), plan_path)
  best_frames.write_stills(
    *(_comparing_config(call), video_path, output, flags.COUNT.value),
    plan_path,
  )


def _colorize(call: Call) -> None:
  from vitexco_jax.inference import photos, preflight, ranges
  from vitexco_jax.inference.outputs import Options
  from vitexco_jax.media.video import Coding

  task = (
    Path(_given(flags.VIDEO)),
    flags.REFERENCE.value or (),
    Path(_given(flags.OUTPUT)),
    flags.OVERWRITE.value,
    Options(
      Coding(flags.CODEC.value, flags.BITS.value, flags.QUALITY.value),
      flags.SATURATION.value,
      flags.SMOOTHING.value,
      _path(flags.COMPARE.value),
      _path(flags.CONFIDENCE.value),
      flags.AUDIO.value,
      flags.DEINTERLACE.value,
    ),
  )
  sources: dict[str, Any] = {
    'plan_path': _path(flags.PLAN.value),
    'references': _path(flags.REFERENCES.value),
    'gallery': _path(flags.GALLERY.value),
    'frame_rate': preflight.read_frame_rate(flags.FRAME_RATE.value),
    'frames': ranges.parse(flags.FRAMES.value),
  }
  if flags.PREVIEW.value:
    _preview(call, *task, **sources)
    return
  if not any(sources.values()) and photos.has_references(task[0]):
    found = photos.check(*task)
    photos.colorize(_colorizer(call), found, task[-1])
    return
  preflight.check(*task, **sources)  # Before JAX is imported.
  from vitexco_jax.inference.colorize import colorize

  config = _comparing_config(call)
  colorize(
    _colorizer(call),
    *task,
    **sources,
    config=config,
    keep_work=flags.KEEP_WORK.value,
  )


def _preview(
  call: Call,
  video_path: Path,
  pictures: Sequence[str],
  output: Path,
  overwrite: bool,
  options: 'Options',
  **sources: Any,
) -> None:
  """Colorizes one frame of each shot; the arguments are those of `colorize`."""
  from vitexco_jax.inference import preflight, preview

  given = [sources[name] for name in ('plan_path', 'references', 'gallery')]
  preview.check_output(output, overwrite, [video_path, *filter(None, given)])
  for warning in preflight.check_sources(video_path, pictures, **sources):
    _logger.warning('%s', warning)
  from vitexco_jax.inference.colorize import get_plan

  colorizer = _colorizer(call)
  plan, part = get_plan(
    *(_comparing_config(call), video_path, pictures),
    **sources,
    colorizer=colorizer,
  )
  preview.preview(colorizer, video_path, plan, output, overwrite, options, part)


def _serve(call: Call) -> None:
  from vitexco_jax.serving.serve import serve

  serve(
    _colorizer(call),
    _comparing_config(call),
    flags.ADDRESS.value,
    flags.UPLOAD_LIMIT.value,
    flags.DISK_LIMIT.value,
  )


def _evaluate(call: Call) -> None:
  from vitexco_jax.evaluation import evaluate, subjects

  config = call.config
  if flags.PREDICTIONS.value:
    subject, *others = subjects.read_predictions(flags.PREDICTIONS.value)
  else:
    network = _colorizer(call)
    use = configs.flatten({'use': network.config.use})
    config = configs.override(config, use)
    subject = subjects.network(network, flags.CHECKPOINT.value)
    others = []
  evaluate.evaluate(
    config,
    subject,
    _given(flags.DATA),
    Path(_given(flags.OUTPUT)),
    flags.PROTOCOLS.value,
    flags.BASELINES.value,
    _path(flags.GALLERY.value),
    others,
  )


def _benchmark(call: Call) -> None:
  from vitexco_jax.tools.benchmark import benchmark

  benchmark(call.config, Path(_given(flags.OUTPUT)), _path(flags.GALLERY.value))


def _demo(call: Call) -> None:
  from vitexco_jax.tools.demo import demo

  demo(_colorizer(call), _given(flags.VIDEO), _given(flags.OUTPUT))


def _colorizer(call: Call) -> 'VideoColorizer':
  """Loads the weights, with the overrides."""
  from vitexco_jax import checkpoint
  from vitexco_jax.inference.video_colorizer import VideoColorizer
  from vitexco_jax.inference.working_size import working_size

  overrides = dict(call.overrides)
  if 'use.size' not in overrides:
    usual = checkpoint.load_config(flags.CHECKPOINT.value).use.size
    overrides['use.size'] = working_size(flags.WORKING_SIZE.value, usual)
  return VideoColorizer.from_checkpoint(flags.CHECKPOINT.value, overrides)


def _comparing_config(call: Call) -> ml_collections.ConfigDict:
  """Returns the config for comparing pictures with shots.

  Without --config it is the variant of the weights. A ViT has the weights of
  --checkpoint, unless the config names others.
  """
  from vitexco_jax import checkpoint

  config = call.config
  if not flags.CONFIG.present:
    variant = checkpoint.load_config(flags.CHECKPOINT.value).variant
    config = configs.load(f'{flags.CONFIG.default}:{variant}')
    config = configs.override(config, call.overrides)
  if config.retrieval.weights or config.train.vit_weights:
    return config
  return configs.override(config, {'retrieval.weights': flags.CHECKPOINT.value})


def _given(flag: FlagHolder[str | None]) -> str:
  """Returns the value of a flag that the mode needs."""
  assert flag.value is not None  # `arguments.check_flags` has checked it.
  return flag.value


def _path(value: str | None) -> Path | None:
  """Converts the value of a flag to a path; None stays None."""
  return None if value is None else Path(value)


_HOSTS = ('coordinator', 'hosts', 'host')
_SOURCES = ('reference', 'references', 'gallery')
_OUTPUT_OPTIONS = (
  'overwrite',
  'frames',
  'preview',
  'keep-work',
  'codec',
  'bits',
  'quality',
  'saturation',
  'smoothing',
  'compare',
  'confidence',
  'working-size',
  'audio',
  'frame-rate',
  'deinterlace',
)

MODES = {
  'train': Mode(
    _train,
    'Trains the networks.',
    ('--config=configs/vitexco.py',),
    optional=('workdir', *_HOSTS),
  ),
  'gallery': Mode(
    _gallery,
    'Builds a gallery of references from pictures.',
    ('--images=DIR --gallery=OUT',),
    ('images', 'gallery'),
  ),
  'retrieve': Mode(
    _retrieve,
    'Finds the pictures of a gallery that are most similar to a query.',
    ('--query=IN --gallery=DIR --output=PICTURE',),
    ('query', 'gallery', 'output'),
  ),
  'prepare': Mode(
    _prepare,
    'Prepares videos and pictures for training.',
    ('--videos=DIR --images=DIR --gallery=DIR',),
    optional=('videos', 'images', 'gallery', 'beam'),
  ),
  'inspect': Mode(
    _inspect,
    'Draws samples of the training data.',
    ('--output=OUT',),
    ('output',),
  ),
  'pretrain': Mode(
    _pretrain,
    'Pretrains the Feature Transform, the ViT, and the prior on pictures.',
    ('--images=DIR --workdir=runs/warm',),
    ('images',),
    ('workdir', *_HOSTS),
  ),
  'export': Mode(
    _export,
    'Exports the weights of a training run.',
    ('--workdir=runs/vitexco --output=weights/mine',),
    ('output',),
    ('workdir',),
  ),
  'plan': Mode(
    _plan,
    'Finds shots and chooses references; writes a plan that can be edited.',
    ('--video=IN --references=DIR --output=PLAN',),
    ('video', 'output'),
    (*_SOURCES, 'checkpoint', 'frame-rate'),
  ),
  'stills': Mode(
    _stills,
    'Writes the frames of each shot that are most worth coloring by hand.',
    ('--video=IN --output=DIR [--count=2]',),
    ('video', 'output'),
    ('count', 'plan', 'checkpoint'),
  ),
  'colorize': Mode(
    _colorize,
    'Colorizes a video, a folder of frames, or an image.',
    (
      '--video=IN --reference=REF --output=OUT',
      '--video=IN --plan=PLAN --output=OUT',
    ),
    ('video', 'output'),
    (*_SOURCES, 'plan', 'checkpoint', *_OUTPUT_OPTIONS),
  ),
  'serve': Mode(
    _serve,
    'Serves a web page that colorizes videos.',
    ('[--address=127.0.0.1:7860]',),
    optional=(
      'address',
      'upload-limit',
      'disk-limit',
      'checkpoint',
      'working-size',
    ),
  ),
  'evaluate': Mode(
    _evaluate,
    'Measures how close results are to the true colors.',
    ('--data=DIR --output=OUT [--predictions=DIR]',),
    ('data', 'output'),
    ('checkpoint', 'predictions', 'protocols', 'baselines', 'gallery'),
  ),
  'benchmark': Mode(
    _benchmark,
    'Measures speed and memory.',
    ('--output=OUT [--gallery=DIR]',),
    ('output',),
    ('gallery',),
  ),
  'demo': Mode(
    _demo,
    'Colorizes a color video from its first frame and compares the results.',
    ('--video=IN --output=DIR',),
    ('video', 'output'),
    ('checkpoint',),
  ),
}
