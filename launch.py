"""Vitexco colorizes black-and-white videos from reference pictures.

Each call runs one mode:

  python launch.py --config=configs/vitexco.py            trains
  python launch.py --mode=gallery --images=DIR --gallery=OUT
  python launch.py --mode=retrieve --query=IN --gallery=DIR --output=PICTURE
  python launch.py --mode=prepare --videos=DIR --images=DIR --gallery=DIR
  python launch.py --mode=pretrain --images=DIR --workdir=runs/warm
  python launch.py --mode=inspect --output=OUT
  python launch.py --mode=export --workdir=runs/vitexco --output=weights/mine
  python launch.py --mode=plan --video=IN --references=DIR --output=PLAN
  python launch.py --mode=colorize --video=IN --reference=REF --output=OUT
  python launch.py --mode=colorize --video=IN --plan=PLAN --output=OUT
  python launch.py --mode=serve [--address=127.0.0.1:7860]
  python launch.py --mode=evaluate --data=DIR --output=OUT [--predictions=DIR]
  python launch.py --mode=benchmark --output=OUT [--gallery=DIR]
  python launch.py --mode=demo --video=IN --output=DIR

The mode can also come first: `python launch.py colorize --video=IN ...`. --version
prints the version; -h, --help, or no arguments print this text.

Any value of the config can be set: --config.train.batch_size=8. Modes that use
weights read the config stored with the weights and apply these values; export uses
the run's config unchanged. The installed command is `vitexco`.
"""

import ast
import difflib
import math
import os
import re
import runpy
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags, logging

import vitexco_jax
from vitexco_jax import files, terminal
from vitexco_jax.errors import UserError

_PAPER = str(files.shipped('configs/vitexco.py'))

# Required and optional flags of each mode.
_MODES = {
  'train': ((), ('workdir', 'coordinator', 'hosts', 'host')),
  'gallery': (('images', 'gallery'), ()),
  'retrieve': (('query', 'gallery', 'output'), ()),
  'prepare': ((), ('videos', 'images', 'gallery', 'beam')),
  'inspect': (('output',), ()),
  'pretrain': (('images',), ('workdir', 'coordinator', 'hosts', 'host')),
  'export': (('output',), ('workdir',)),
  'plan': (
    ('video', 'output'),
    ('reference', 'references', 'gallery', 'checkpoint', 'frame-rate'),
  ),
  'colorize': (
    ('video', 'output'),
    (
      *('reference', 'references', 'gallery', 'plan', 'checkpoint'),
      *('overwrite', 'codec', 'bits', 'quality', 'saturation', 'smoothing'),
      *('compare', 'confidence', 'working-size', 'audio', 'frame-rate'),
      'deinterlace',
    ),
  ),
  'serve': (
    (),
    ('address', 'upload-limit', 'disk-limit', 'checkpoint', 'working-size'),
  ),
  'evaluate': (
    ('data', 'output'),
    ('checkpoint', 'predictions', 'protocols', 'baselines', 'gallery'),
  ),
  'benchmark': (('output',), ('gallery',)),
  'demo': (('video', 'output'), ('checkpoint',)),
}

_CONFIG = flags.DEFINE_string(
  'config',
  _PAPER,
  'Config, FILE[:VARIANT]; :VARIANT selects a variant of configs/vitexco.py. '
  '--config.NAME=VALUE changes a value.',
)
_MODE = flags.DEFINE_string('mode', 'train', f'Mode: {" ".join(_MODES)}.')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/vitexco', 'Folder of a training run.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'train, pretrain, on several hosts: HOST:PORT of host 0, or auto to ask the '
  'cluster.',
)
_HOSTS = flags.DEFINE_integer(
  'hosts', None, 'train, pretrain, on several hosts: number of hosts.'
)
_HOST = flags.DEFINE_integer(
  'host',
  None,
  'train, pretrain, on several hosts: index of this host, from 0.',
)
_CHECKPOINT = flags.DEFINE_string(
  'checkpoint',
  str(files.shipped('weights/small')),
  'Weights to use: an export, or the workdir of a run.',
)
_VIDEOS = flags.DEFINE_string(
  'videos', None, 'prepare: a folder of videos, or a text file that lists them.'
)
_IMAGES = flags.DEFINE_string(
  'images',
  None,
  'gallery, pretrain: a folder of pictures or the name of a TFDS data set; '
  'prepare: a folder of additional pictures for training.',
)
_GALLERY = flags.DEFINE_string(
  'gallery',
  None,
  'gallery, retrieve, prepare, plan, colorize, evaluate, benchmark: folder of a '
  'gallery of references.',
)
_QUERY = flags.DEFINE_string(
  'query', None, 'retrieve: an image, a video, or a folder of frames.'
)
_BEAM = flags.DEFINE_string(
  'beam',
  None,
  'prepare: options of an Apache Beam pipeline, such as --runner=FlinkRunner, '
  'that runs the preparation.',
)
_VIDEO = flags.DEFINE_string(
  'video',
  None,
  'plan, colorize, demo: a video, a folder of frames, or an image.',
)
_REFERENCE = flags.DEFINE_multi_string(
  'reference',
  None,
  'plan, colorize: a color image, or first-frame, for all shots (repeat the flag '
  'for several); auto: the best of --gallery for each shot; none: the colors '
  'that the network expects.',
)
_REFERENCES = flags.DEFINE_string(
  'references',
  None,
  'plan, colorize: a folder of color images, or a list of them (text, or CSV '
  'with file,frame or file,time); each shot uses the most similar ones.',
)
_PLAN = flags.DEFINE_string(
  'plan', None, 'colorize: a plan from --mode=plan, possibly edited.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Output file or folder.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'colorize: replace an existing output.'
)
_CODEC = flags.DEFINE_string(
  'codec', 'h264', 'colorize: h264, hevc, ffv1 (lossless), or prores.'
)
_BITS = flags.DEFINE_integer(
  'bits',
  None,
  'colorize: 8, 10, or 16 bits per channel, if supported by the codec or PNG.',
)
_QUALITY = flags.DEFINE_integer(
  'quality',
  None,
  'colorize: crf of h264 and hevc, 0 (best) to 51; profile of prores, 0 (proxy) '
  'to 3 (HQ).',
)
_WORKING_SIZE = flags.DEFINE_string(
  'working-size',
  None,
  'colorize, serve: HEIGHTxWIDTH within which colors are predicted; by default '
  'that of the weights, or less if the machine has little memory.',
)
_SATURATION = flags.DEFINE_float(
  'saturation', 1.0, 'colorize: factor applied to the colors.'
)
_SMOOTHING = flags.DEFINE_float(
  'smoothing',
  0.0,
  'colorize: strength of the edge-aware filter of the colors; a typical value '
  'is 500.',
)
_COMPARE = flags.DEFINE_string(
  'compare', None, 'colorize: also write a side-by-side video to this path.'
)
_CONFIDENCE = flags.DEFINE_string(
  'confidence',
  None,
  'colorize: also write a video of the matching confidence to this path.',
)
_AUDIO = flags.DEFINE_string(
  'audio', 'auto', 'colorize: auto copies the audio; none omits it.'
)
_FRAME_RATE = flags.DEFINE_string(
  'frame-rate',
  None,
  'plan, colorize: frames per second of a folder of frames, such as 24 or '
  '24000/1001; 25 by default.',
)
_DEINTERLACE = flags.DEFINE_bool(
  'deinterlace',
  False,
  'colorize: deinterlace the video, at the same frame rate.',
)
_ADDRESS = flags.DEFINE_string(
  'address',
  '127.0.0.1:7860',
  'serve: HOST:PORT of the page; 0.0.0.0 opens it to other machines.',
)
_UPLOAD_LIMIT = flags.DEFINE_integer(
  'upload-limit', 2000, 'serve: maximum size of a video, in MB.', lower_bound=1
)
_DISK_LIMIT = flags.DEFINE_integer(
  'disk-limit',
  20_000,
  'serve: maximum size of the files of all sessions together, in MB.',
  lower_bound=1,
)
_DATA = flags.DEFINE_string(
  'data',
  None,
  'evaluate: a folder of videos or of folders of frames, a single one, records, '
  'or the name of a TFDS data set.',
)
_PREDICTIONS = flags.DEFINE_string(
  'predictions',
  None,
  "evaluate: another method's results for the same clips, instead of the network.",
)
_PROTOCOLS = flags.DEFINE_list(
  'protocols',
  ['first-frame'],
  'evaluate: any of first-frame, far-frame, retrieved, multi, none, separated '
  'by commas.',
)
_BASELINES = flags.DEFINE_list(
  'baselines',
  ['gray', 'flow'],
  'evaluate: any of gray, flow, transfer, vgg16, separated by commas.',
)


def main(argv: Sequence[str]) -> None:
  """Runs the selected mode; argv[1:] are the arguments other than plain flags."""
  logging.set_verbosity(logging.ERROR)  # Orbax logs every step.
  # Cache compiled programs: compilation dominates short runs.
  cache = os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')
  os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR', str(Path(cache, 'vitexco'))
  )
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '1')

  config = load_config(_CONFIG.value)
  overrides = parse_overrides(argv[1:], config)
  config.update_from_flattened_dict(overrides)
  check_flags(_MODE.value, overrides)

  def colorizer():
    from vitexco_jax import checkpoint
    from vitexco_jax.inference.video_colorizer import VideoColorizer
    from vitexco_jax.inference.working_size import working_size

    # The engine does not use `retrieval`, and old weights do not have it.
    applied = {
      x: y for x, y in overrides.items() if not x.startswith('retrieval.')
    }
    if 'use.size' not in applied:
      usual = checkpoint.load_config(_CHECKPOINT.value).use.size
      applied['use.size'] = working_size(_WORKING_SIZE.value, tuple(usual))
    return VideoColorizer.from_checkpoint(_CHECKPOINT.value, applied)

  def comparing():
    """Returns the config for comparing pictures with shots."""
    from vitexco_jax import checkpoint

    chosen = config
    if not flags.FLAGS['config'].present:
      variant = checkpoint.load_config(_CHECKPOINT.value).variant
      chosen = load_config(f'{_CONFIG.default}:{variant}')
      chosen.update_from_flattened_dict(overrides)
    if not chosen.train.vit_weights:
      chosen.train.init = _CHECKPOINT.value  # Use the ViT of the weights.
    return chosen

  if _COORDINATOR.value:
    from vitexco_jax.training import multihost

    multihost.connect(_COORDINATOR.value, _HOSTS.value, _HOST.value)
  if _MODE.value == 'train':
    from vitexco_jax.training.train import train

    train(config, Path(_WORKDIR.value))
  elif _MODE.value == 'pretrain':
    from vitexco_jax.training.pretrain import pretrain

    pretrain(config, _IMAGES.value, Path(_WORKDIR.value))
  elif _MODE.value == 'prepare':
    from vitexco_jax.data.prepare import prepare

    prepare(
      config,
      _path(_VIDEOS.value),
      _path(_IMAGES.value),
      _path(_GALLERY.value),
      _BEAM.value,
    )
  elif _MODE.value == 'gallery':
    from vitexco_jax.retrieval.build import build_gallery

    build_gallery(config, _IMAGES.value, Path(_GALLERY.value))
  elif _MODE.value == 'retrieve':
    from vitexco_jax.retrieval.retrieve import retrieve

    retrieve(
      config, Path(_QUERY.value), Path(_GALLERY.value), Path(_OUTPUT.value)
    )
  elif _MODE.value == 'inspect':
    from vitexco_jax.data.inspect import inspect

    inspect(config, Path(_OUTPUT.value))
  elif _MODE.value == 'export':
    from vitexco_jax.tools.export import export_run

    export_run(Path(_WORKDIR.value), Path(_OUTPUT.value))
  elif _MODE.value == 'plan':
    from vitexco_jax.inference import plan, preflight

    video_path, pictures = Path(_VIDEO.value), _REFERENCE.value or ()
    references = _path(_REFERENCES.value)
    rate = preflight.read_frame_rate(_FRAME_RATE.value)
    plan.check_output(Path(_OUTPUT.value))
    for warning in preflight.check_inputs(
      video_path, pictures, references, rate
    ):
      print(f'warning: {warning}', file=sys.stderr)
    plan.plan_film(
      comparing(),
      video_path,
      pictures,
      Path(_OUTPUT.value),
      references,
      _path(_GALLERY.value),
      rate,
    )
  elif _MODE.value == 'colorize':
    from vitexco_jax.inference import preflight
    from vitexco_jax.inference.outputs import Options
    from vitexco_jax.media.video import Coding

    task = (
      Path(_VIDEO.value),
      _REFERENCE.value or (),
      Path(_OUTPUT.value),
      _OVERWRITE.value,
      Options(
        Coding(_CODEC.value, _BITS.value, _QUALITY.value),
        _SATURATION.value,
        _SMOOTHING.value,
        _path(_COMPARE.value),
        _path(_CONFIDENCE.value),
        _AUDIO.value,
        _DEINTERLACE.value,
      ),
    )
    sources = {
      'plan_path': _path(_PLAN.value),
      'references': _path(_REFERENCES.value),
      'gallery': _path(_GALLERY.value),
      'frame_rate': preflight.read_frame_rate(_FRAME_RATE.value),
    }
    preflight.check(*task, **sources)  # Before JAX is imported.
    from vitexco_jax.inference.colorize import colorize

    colorize(colorizer(), *task, **sources, config=comparing())
  elif _MODE.value == 'serve':
    from vitexco_jax.serving.serve import serve

    serve(
      colorizer(),
      comparing(),
      _ADDRESS.value,
      _UPLOAD_LIMIT.value,
      _DISK_LIMIT.value,
    )
  elif _MODE.value == 'evaluate':
    from vitexco_jax.evaluation import evaluate

    if _PREDICTIONS.value:
      subject = evaluate.predictions(_PREDICTIONS.value)
    else:
      network = colorizer()
      config.use = network.config.use
      subject = evaluate.network(network, _CHECKPOINT.value)
    evaluate.evaluate(
      config,
      subject,
      _DATA.value,
      Path(_OUTPUT.value),
      _PROTOCOLS.value,
      _BASELINES.value,
      _path(_GALLERY.value),
    )
  elif _MODE.value == 'benchmark':
    from vitexco_jax.tools.benchmark import benchmark

    benchmark(config, Path(_OUTPUT.value), _path(_GALLERY.value))
  elif _MODE.value == 'demo':
    from vitexco_jax.tools.demo import demo

    demo(colorizer(), _VIDEO.value, _OUTPUT.value)


def _path(value: str | None) -> Path | None:
  """Converts the value of a flag to a path; None stays None."""
  return None if value is None else Path(value)


def load_config(spec: str) -> ml_collections.ConfigDict:
  """Returns `get_config(VARIANT)` of FILE[:VARIANT].

  Raises:
    UserError: the file or variant does not exist.
  """
  path, _, variant = spec.partition(':')
  path = path or _PAPER
  try:
    files.check_regular(path)
  except UserError as error:
    raise UserError(
      f'--config={spec}: {error}; for a config of the program, write for example '
      '--config=:small'
    ) from error
  try:
    get_config = runpy.run_path(path)['get_config']
  except (SyntaxError, KeyError, ValueError, RecursionError) as error:
    raise UserError(
      f'--config={spec}: {path} is not a Python file with a get_config()'
    ) from error
  try:
    return get_config(*filter(None, [variant]))
  except (ValueError, TypeError) as error:
    raise UserError(f'--config={spec}: {error}') from error


def parse_overrides(
  arguments: Iterable[str], config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Parses overrides such as `--config.train.batch_size=8`.

  Args:
    arguments: all arguments except plain flags.
    config: defines the allowed names and types.

  Returns:
    Values by dotted name, as in `{'train.batch_size': 8}`.

  Raises:
    UserError: a name is unknown, a value has the wrong type, or an argument does
      not have this form.
  """
  known = dict(_values(config))
  overrides = {}
  for argument in arguments:
    flag, equals, text = argument.partition('=')
    dashes, dot, name = flag.partition('config.')
    if dashes not in ('-', '--') or not dot:
      raise UserError(_no_flag(argument))
    if name not in known:
      raise UserError(
        f'the config has no {name!r}' + _nearest(name, known, cutoff=0.0)
      )
    if not equals:
      raise UserError(f'--config.{name} has no value: write {flag}=VALUE')
    overrides[name] = _parse_value(name, text, known[name])
  return overrides


def check_flags(mode: str, overrides: Collection[str]):
  """Checks that a mode gets its required flags and no unknown ones.

  Args:
    mode: name of the mode.
    overrides: names of the config values that are set.

  Raises:
    UserError: the mode is unknown, or a flag is missing or belongs to another mode.
  """
  if mode not in _MODES:
    raise UserError(
      f'there is no --mode={mode}'
      + (_nearest(mode, _MODES) or f'; known are {", ".join(_MODES)}')
    )
  needed, understood = _MODES[mode]
  all_names = {
    name for pair in _MODES.values() for names in pair for name in names
  }
  for name in sorted(all_names.difference(needed, understood)):
    if flags.FLAGS[name].present:
      near = _nearest(name, needed + understood, '--')
      raise UserError(f'--mode={mode} does not know --{name}{near}')
  for name in needed:
    if not flags.FLAGS[name].value:
      raise UserError(f'--mode={mode} needs --{name}')
  if mode == 'prepare' and not (flags.FLAGS.videos or flags.FLAGS.images):
    raise UserError('--mode=prepare needs --videos, --images, or both')
  if mode in ('plan', 'colorize'):
    _check_references(mode)
  if flags.FLAGS['working-size'].value and 'use.size' in overrides:
    raise UserError(
      '--working-size and --config.use.size are mutually exclusive: give one'
    )
  for name in ('hosts', 'host'):
    if flags.FLAGS[name].present and not flags.FLAGS.coordinator:
      raise UserError(f'--{name} needs --coordinator')
  if mode == 'export' and overrides:
    raise UserError(
      '--mode=export uses the config of the run unchanged: leave out '
      + ', '.join(f'--config.{name}' for name in overrides)
    )


def _check_references(mode: str):
  """Checks that exactly one flag defines the references."""
  ways = ['reference', 'references', 'plan'][: 3 if mode == 'colorize' else 2]
  given = [name for name in ways if flags.FLAGS[name].value]
  named = [f'--{name}' for name in given or ways]
  if not given:
    raise UserError(
      f'--mode={mode} needs {", ".join(named[:-1])} or {named[-1]}'
    )
  if len(given) > 1:
    raise UserError(f'{" and ".join(named)} are mutually exclusive: give one')
  references = flags.FLAGS.reference or ()
  for single in ('auto', 'none'):
    if single in references and len(references) > 1:
      raise UserError(
        f'--reference={single} allows no other references: leave them out'
      )
  automatic = 'auto' in references
  if automatic != bool(flags.FLAGS.gallery):
    raise UserError('--reference=auto and --gallery require each other')


def _values(
  config: ml_collections.ConfigDict, prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  """Yields all values of a config by dotted name."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _values(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value


def _parse_value(name: str, text: str, default: Any) -> Any:
  """Parses a value of the type of the default."""
  kind = type(default)
  try:
    if kind is bool:
      return {'true': True, 'false': False}[text.lower()]
    if kind is not tuple:
      value = kind(text)
      if kind is float and not math.isfinite(value):
        raise ValueError
      return value
    value = ast.literal_eval(text)
    if {type(x) for x in value} != {type(x) for x in default}:
      raise TypeError
    if len(default) == 2 != len(value):  # A size.
      raise TypeError
    return tuple(value)
  except (
    *(KeyError, SyntaxError, TypeError, ValueError),
    *(RecursionError, MemoryError),  # From Python's parser.
  ) as error:
    example = str(default).replace(' ', '')
    raise UserError(
      f'--config.{name}={text} is not of type {kind.__name__}: write a value '
      f'like {example}'
    ) from error


def _no_flag(argument: str) -> str:
  """Returns the message for an unknown argument."""
  if not argument.startswith('-'):
    return (
      f'{argument!r} is not a flag: all arguments except a leading mode have the '
      'form --NAME=VALUE' + _nearest(argument, _MODES)
    )
  name = argument.lstrip('-').partition('=')[0]
  known = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(__name__)]
  return f'there is no flag --{name}' + _nearest(name, known, '--')


def _nearest(
  name: str, known: Iterable[str], prefix: str = '', cutoff: float = 0.5
) -> str:
  """Suggests the nearest known name, if there is a similar one."""
  near = difflib.get_close_matches(name, known, 1, cutoff)
  return f'; did you mean {prefix}{near[0]}?' if near else ''


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the plain flags; returns the other arguments for `main`."""
  program, *arguments = argv
  if arguments and arguments[0] in _MODES:
    if any(re.match('--?mode(=|$)', x) for x in arguments[1:]):
      raise UserError(
        f'{arguments[0]} and --mode are mutually exclusive: give one'
      )
    arguments[0] = f'--mode={arguments[0]}'
  try:
    return flags.FLAGS([program, *arguments], known_only=True)
  except flags.Error as error:
    raise UserError(str(error)) from error


def run() -> None:
  """Runs `main`; prints errors that the user can fix as one sentence."""
  terminal.prepare()
  arguments = sys.argv[1:]
  if not arguments or any(re.match('-h$|--?help', x) for x in arguments):
    print(f'{__doc__}\nFlags:\n{flags.FLAGS.module_help(__name__)}')
    return
  if '--version' in arguments:
    print(f'vitexco {vitexco_jax.__version__}')
    return
  try:
    app.run(main, flags_parser=_parse_flags)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  except OSError as error:
    if error.filename is None:
      raise
    print(f'error: {error.filename}: {error.strerror}', file=sys.stderr)
    sys.exit(1)
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)


if __name__ == '__main__':
  run()
