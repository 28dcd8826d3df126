"""What each mode of the command line runs.

Functions import what they run, so that wrong arguments are reported at once.
"""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_collections
from absl.flags import FlagHolder

from vitexco_jax import config as configs
from vitexco_jax.cli import flags
from vitexco_jax.errors import UserError

if TYPE_CHECKING:
  from vitexco_jax.inference.cluster import Workers
  from vitexco_jax.inference.outputs import Options
  from vitexco_jax.inference.video_colorizer import VideoColorizer

_logger = logging.getLogger(__name__)


class Call(NamedTuple):
  """The arguments of a call other than the plain flags."""

  config: ml_collections.ConfigDict  # With the overrides.
  overrides: Mapping[str, Any]  # By dotted name.


def train(call: Call) -> None:
  """Runs --mode=train."""
  _connect()
  from vitexco_jax.training.train import train

  train(call.config, Path(flags.WORKDIR.value))


def pretrain(call: Call) -> None:
  """Runs --mode=pretrain."""
  _connect()
  from vitexco_jax.training.pretrain import pretrain

  pretrain(call.config, _given(flags.IMAGES), Path(flags.WORKDIR.value))


def mix(call: Call) -> None:
  """Runs --mode=mix."""
  from vitexco_jax.training.mix import mix

  mix(call.config, Path(_given(flags.VIDEOS)), Path(flags.WORKDIR.value))


def _connect() -> None:
  """Connects this host to the others, if there are several."""
  if flags.COORDINATOR.value:
    from vitexco_jax.training import multihost

    multihost.connect(
      flags.COORDINATOR.value, flags.HOSTS.value, flags.HOST.value
    )


def prepare(call: Call) -> None:
  """Runs --mode=prepare."""
  from vitexco_jax.data.prepare import prepare

  prepare(
    call.config,
    _path(flags.VIDEOS.value),
    _path(flags.IMAGES.value),
    _path(flags.GALLERY.value),
    flags.BEAM.value,
  )


def gallery(call: Call) -> None:
  """Runs --mode=gallery."""
  from vitexco_jax.retrieval.build import build_gallery

  build_gallery(call.config, _given(flags.IMAGES), Path(_given(flags.GALLERY)))


def retrieve(call: Call) -> None:
  """Runs --mode=retrieve."""
  from vitexco_jax.retrieval.retrieve import retrieve

  retrieve(
    call.config,
    Path(_given(flags.QUERY)),
    Path(_given(flags.GALLERY)),
    Path(_given(flags.OUTPUT)),
  )


def inspect(call: Call) -> None:
  """Runs --mode=inspect."""
  from vitexco_jax.data.inspect import inspect

  inspect(call.config, Path(_given(flags.OUTPUT)))


def export(call: Call) -> None:
  """Runs --mode=export."""
  from vitexco_jax.tools.export import export_run

  export_run(Path(flags.WORKDIR.value), Path(_given(flags.OUTPUT)))


def plan(call: Call) -> None:
  """Runs --mode=plan."""
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


def stills(call: Call) -> None:
  """Runs --mode=stills."""
  from vitexco_jax.inference import best_frames, preflight

  video_path, output = Path(_given(flags.VIDEO)), Path(_given(flags.OUTPUT))
  plan_path = _path(flags.PLAN.value)
  best_frames.check_output(output)
  preflight.check_sources(video_path, (), plan_path)
  best_frames.write_stills(
    _comparing_config(call),
    video_path,
    output,
    flags.COUNT.value,
    plan_path,
    _path(flags.FINISHED.value),
  )


def colorize(call: Call) -> None:
  """Runs --mode=colorize."""
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
  if flags.BEAM.value is not None:
    _check_beam(flags.BEAM.value, task[0])
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
    workers=_workers(call),
  )


def _check_beam(options: str, video_path: Path) -> None:
  """Raises UserError if --beam cannot be used."""
  from vitexco_jax import beam
  from vitexco_jax.inference import photos

  if flags.PREVIEW.value:
    raise UserError('`beam` colors a whole film: leave it out with `preview`')
  if photos.has_references(video_path):
    raise UserError(
      f'`beam` colors a film, but {video_path} is a folder of photos with '
      'references: leave it out'
    )
  beam.check(options)


def _workers(call: Call) -> 'Workers | None':
  """Returns the workers of a cluster, if --beam is given."""
  if flags.BEAM.value is None:
    return None
  from vitexco_jax.inference import cluster

  return cluster.Workers.of(
    flags.BEAM.value, flags.CHECKPOINT.value, _overrides(call)
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
    _comparing_config(call),
    video_path,
    pictures,
    **sources,
    colorizer=colorizer,
  )
  preview.preview(colorizer, video_path, plan, output, overwrite, options, part)


def serve(call: Call) -> None:
  """Runs --mode=serve."""
  if importlib.util.find_spec('fcntl') is None:
    raise UserError(
      '--mode=serve runs on Linux and macOS only: on Windows, use WSL2 or '
      '--mode=colorize'
    )
  from vitexco_jax.serving.serve import serve

  serve(
    _colorizer(call),
    _comparing_config(call),
    flags.ADDRESS.value,
    flags.UPLOAD_LIMIT.value,
    flags.DISK_LIMIT.value,
  )


def evaluate(call: Call) -> None:
  """Runs --mode=evaluate."""
  from vitexco_jax.evaluation import evaluate, subjects

  config = call.config
  if flags.PREDICTIONS.value:
    subject, *others = subjects.read_predictions(
      flags.PREDICTIONS.value, flags.PROTOCOLS.value
    )
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
    _path(flags.LEADERBOARD.value),
  )


def inputs(call: Call) -> None:
  """Runs --mode=inputs."""
  from vitexco_jax.evaluation.inputs import write_inputs

  write_inputs(
    call.config,
    _given(flags.DATA),
    Path(_given(flags.OUTPUT)),
    flags.PROTOCOLS.value,
    _path(flags.GALLERY.value),
  )


def benchmark(call: Call) -> None:
  """Runs --mode=benchmark."""
  if flags.PROFILE.value:
    from vitexco_jax.tools.profile import profile

    profile(call.config, Path(flags.PROFILE.value))
    return
  if not flags.OUTPUT.value:
    raise UserError('--mode=benchmark needs --output or --profile')
  from vitexco_jax.tools.benchmark import benchmark

  benchmark(
    call.config,
    Path(flags.OUTPUT.value),
    _path(flags.GALLERY.value),
    _path(flags.DEVC.value),
  )


def demo(call: Call) -> None:
  """Runs --mode=demo."""
  from vitexco_jax.tools.demo import demo

  demo(_colorizer(call), _given(flags.VIDEO), _given(flags.OUTPUT))


def _colorizer(call: Call) -> 'VideoColorizer':
  """Loads the weights, with the overrides."""
  from vitexco_jax.inference.video_colorizer import VideoColorizer

  return VideoColorizer.from_checkpoint(
    flags.CHECKPOINT.value, _overrides(call)
  )


def _overrides(call: Call) -> dict[str, Any]:
  """Returns the values to change in the config of the weights."""
  from vitexco_jax import checkpoint
  from vitexco_jax.inference.working_size import working_size

  overrides = dict(call.overrides)
  if 'use.size' not in overrides:
    usual = checkpoint.load_config(flags.CHECKPOINT.value).use.size
    overrides['use.size'] = working_size(flags.WORKING_SIZE.value, usual)
  return overrides


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
