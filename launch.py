"""Vitexco colorizes gray videos by reference pictures. One mode per call:

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

The mode may also come first: `python launch.py colorize --video=IN ...`. --version
prints the version, and -h, --help or no argument at all this text.

Any value of the config can be set from here: --config.train.batch_size=8. The
modes that use weights take the config that lies beside these, and what is set;
export takes that of the run, unchanged. Installed, this is the command `vitexco`.
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

# Flags that a mode needs, and those that it understands beside them.
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
  'The experiment, FILE[:VARIANT]; :VARIANT alone is one of configs/vitexco.py. '
  '--config.NAME=VALUE changes a value of it.',
)
_MODE = flags.DEFINE_string('mode', 'train', f'What to do: {" ".join(_MODES)}.')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/vitexco', 'Where a training run lives.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'train, pretrain, on several hosts: HOST:PORT of host 0, or auto: the cluster '
  'knows.',
)
_HOSTS = flags.DEFINE_integer(
  'hosts', None, 'train, pretrain, on several hosts: how many there are.'
)
_HOST = flags.DEFINE_integer(
  'host',
  None,
  'train, pretrain, on several hosts: which of them this is, from 0.',
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
  'gallery, pretrain: a folder of pictures or the name of a data set of TFDS; '
  'prepare: a folder of pictures to train on besides.',
)
_GALLERY = flags.DEFINE_string(
  'gallery',
  None,
  'gallery, retrieve, prepare, plan, colorize, evaluate, benchmark: where '
  'references are found.',
)
_QUERY = flags.DEFINE_string(
  'query', None, 'retrieve: an image, a video or a folder of frames.'
)
_BEAM = flags.DEFINE_string(
  'beam',
  None,
  'prepare: options of an Apache Beam pipeline, such as --runner=FlinkRunner, '
  'that prepares instead of this machine.',
)
_VIDEO = flags.DEFINE_string(
  'video',
  None,
  'plan, colorize, demo: a video, a folder of frames, or an image.',
)
_REFERENCE = flags.DEFINE_multi_string(
  'reference',
  None,
  'plan, colorize: a color image, or first-frame, for all shots, several by '
  'giving it again; or auto: the best of --gallery for each shot; or none: '
  'colors that the network expects.',
)
_REFERENCES = flags.DEFINE_string(
  'references',
  None,
  'plan, colorize: a folder of color images, or a list of them (text, or CSV '
  'with file,frame or file,time), of which each shot takes the most similar.',
)
_PLAN = flags.DEFINE_string(
  'plan', None, 'colorize: what --mode=plan wrote, perhaps edited.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Where results go.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'colorize: whether an existing output may be replaced.'
)
_CODEC = flags.DEFINE_string(
  'codec', 'h264', 'colorize: h264, hevc, ffv1 (without loss) or prores.'
)
_BITS = flags.DEFINE_integer(
  'bits', None, 'colorize: 8, 10 or 16 to a channel, as codec or PNG have them.'
)
_QUALITY = flags.DEFINE_integer(
  'quality',
  None,
  'colorize: of h264 and hevc the crf, 0 (best) to 51; of prores the profile, '
  '0 (proxy) to 3 (HQ).',
)
_WORKING_SIZE = flags.DEFINE_string(
  'working-size',
  None,
  'colorize, serve: HEIGHTxWIDTH within which colors are predicted; by default '
  "the weights' own, or less where memory is short.",
)
_SATURATION = flags.DEFINE_float(
  'saturation', 1.0, 'colorize: what colors are multiplied by.'
)
_SMOOTHING = flags.DEFINE_float(
  'smoothing',
  0.0,
  "colorize: strength of the filter that holds colors to the frame's edges; "
  '500 is usual.',
)
_COMPARE = flags.DEFINE_string(
  'compare', None, 'colorize: a video of gray and colored side by side.'
)
_CONFIDENCE = flags.DEFINE_string(
  'confidence', None, 'colorize: a video of how sure the matching is.'
)
_AUDIO = flags.DEFINE_string(
  'audio', 'auto', 'colorize: auto copies the sound, none leaves it out.'
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
  'colorize: make an interlaced video progressive, at the same frame rate.',
)
_ADDRESS = flags.DEFINE_string(
  'address',
  '127.0.0.1:7860',
  'serve: HOST:PORT that the page is at; 0.0.0.0 opens it to other machines.',
)
_UPLOAD_LIMIT = flags.DEFINE_integer(
  'upload-limit', 2000, 'serve: MB that a video may have.', lower_bound=1
)
_DISK_LIMIT = flags.DEFINE_integer(
  'disk-limit',
  20_000,
  'serve: MB that the files of all visitors may take together.',
  lower_bound=1,
)
_DATA = flags.DEFINE_string(
  'data',
  None,
  'evaluate: a folder of videos or of folders of frames, a single one, records, '
  'or the name of a data set of TFDS.',
)
_PREDICTIONS = flags.DEFINE_string(
  'predictions',
  None,
  "evaluate: another method's frames of the same clips, instead of the network.",
)
_PROTOCOLS = flags.DEFINE_list(
  'protocols',
  ['first-frame'],
  'evaluate: first-frame, far-frame, retrieved, multi, none; any of them, by '
  'commas.',
)
_BASELINES = flags.DEFINE_list(
  'baselines',
  ['gray', 'flow'],
  'evaluate: gray, flow, transfer, vgg16; any of them, by commas.',
)


def main(argv: Sequence[str]) -> None:
  """Calls the mode's file with what it needs; argv[1:] are no plain flags."""
  logging.set_verbosity(logging.ERROR)  # Orbax tells of every step it takes.
  # Compiled programs are kept between calls: starting is most of a short call.
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
    from vitexco_jax.inference.colorize import VideoColorizer, working_size

    # Of the weights' retrieval nothing depends here, and old ones have none.
    ours = {
      x: y for x, y in overrides.items() if not x.startswith('retrieval.')
    }
    if 'use.size' not in ours:
      usual = checkpoint.load_config(_CHECKPOINT.value).use.size
      ours['use.size'] = working_size(_WORKING_SIZE.value, tuple(usual))
    return VideoColorizer.from_checkpoint(_CHECKPOINT.value, ours)

  def comparing():
    """The config that says how pictures are compared with shots."""
    from vitexco_jax import checkpoint

    found = config
    if not flags.FLAGS['config'].present:
      variant = checkpoint.load_config(_CHECKPOINT.value).variant
      found = load_config(f'{_CONFIG.default}:{variant}')
      found.update_from_flattened_dict(overrides)
    if not found.train.vit_weights:
      found.train.init = _CHECKPOINT.value  # Its own ViT, then.
    return found

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
    from vitexco_jax.retrieval.gallery import build_gallery

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
      made = colorizer()
      config.use = made.config.use
      subject = evaluate.network(made, _CHECKPOINT.value)
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
  """The path that a flag names, if it does."""
  return None if value is None else Path(value)


def load_config(spec: str) -> ml_collections.ConfigDict:
  """Returns what `get_config(VARIANT)` of a FILE[:VARIANT] gives.

  Raises:
    UserError: there is no such file or variant.
  """
  path, _, variant = spec.partition(':')
  path = path or _PAPER
  try:
    files.check_regular(path)
  except UserError as error:
    raise UserError(
      f'--config={spec}: {error}; --config=:small and the like name what comes '
      'with the program'
    ) from error
  try:
    get_config = runpy.run_path(path)['get_config']
  except (SyntaxError, KeyError, ValueError, RecursionError) as error:
    raise UserError(
      f'--config={spec}: {path} is no Python file with a get_config()'
    ) from error
  try:
    return get_config(*filter(None, [variant]))
  except (ValueError, TypeError) as error:
    raise UserError(f'--config={spec}: {error}') from error


def parse_overrides(
  arguments: Iterable[str], config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Parses `--config.train.batch_size=8` and the like by the config's types.

  Args:
    arguments: all that are no plain flags.
    config: whose names and types are allowed.

  Returns:
    Values by dotted name, as in `{'train.batch_size': 8}`.

  Raises:
    UserError: a name is unknown, a value is not of the type, or an argument is
      not of this form.
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
  """Checks that a mode has the flags that it needs, and no others.

  Args:
    mode: its name.
    overrides: names of the config's values that are set.

  Raises:
    UserError: the mode is unknown, or a flag is missing or of another mode.
  """
  if mode not in _MODES:
    raise UserError(
      f'there is no --mode={mode}'
      + (_nearest(mode, _MODES) or f'; known are {", ".join(_MODES)}')
    )
  needed, understood = _MODES[mode]
  ours = {name for pair in _MODES.values() for names in pair for name in names}
  for name in sorted(ours.difference(needed, understood)):
    if flags.FLAGS[name].present:
      near = _nearest(name, needed + understood, '--')
      raise UserError(f'--mode={mode} does not know --{name}{near}')
  for name in needed:
    if not flags.FLAGS[name].value:
      raise UserError(f'--mode={mode} needs --{name}')
  if mode == 'prepare' and not (flags.FLAGS.videos or flags.FLAGS.images):
    raise UserError('--mode=prepare needs --videos, --images or both')
  if mode in ('plan', 'colorize'):
    _check_references(mode)
  if flags.FLAGS['working-size'].value and 'use.size' in overrides:
    raise UserError(
      '--working-size and --config.use.size exclude one another: give one'
    )
  for name in ('hosts', 'host'):
    if flags.FLAGS[name].present and not flags.FLAGS.coordinator:
      raise UserError(f'--{name} needs --coordinator')
  if mode == 'export' and overrides:
    raise UserError(
      '--mode=export takes the config of the run as it is: leave out '
      + ', '.join(f'--config.{name}' for name in overrides)
    )


def _check_references(mode: str):
  """Checks that it is said in one way where colors come from."""
  ways = ['reference', 'references', 'plan'][: 3 if mode == 'colorize' else 2]
  given = [name for name in ways if flags.FLAGS[name].value]
  named = [f'--{name}' for name in given or ways]
  if not given:
    raise UserError(
      f'--mode={mode} needs {", ".join(named[:-1])} or {named[-1]}'
    )
  if len(given) > 1:
    raise UserError(f'{" and ".join(named)} exclude one another: give one')
  references = flags.FLAGS.reference or ()
  for alone in ('auto', 'none'):
    if alone in references and len(references) > 1:
      raise UserError(f'--reference={alone} stands alone: leave out the others')
  automatic = 'auto' in references
  if automatic != bool(flags.FLAGS.gallery):
    raise UserError('--reference=auto and --gallery need one another')


def _values(
  config: ml_collections.ConfigDict, prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  """All values of a config by dotted name."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _values(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value


def _parse_value(name: str, text: str, default: Any) -> Any:
  """Reads a value of the default's type."""
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
    wanted = {type(x) for x in default}
    if {type(x) for x in value} != wanted:
      raise TypeError
    if len(default) == 2 != len(value):  # A size.
      raise TypeError
    return tuple(value)
  except (
    *(KeyError, SyntaxError, TypeError, ValueError),
    *(RecursionError, MemoryError),  # Of Python's parser.
  ) as error:
    example = str(default).replace(' ', '')
    raise UserError(
      f'--config.{name}={text} is no {kind.__name__} like {example}'
    ) from error


def _no_flag(argument: str) -> str:
  """What to say of an argument that is no flag of ours."""
  if not argument.startswith('-'):
    return (
      f'{argument!r} is no flag: every argument is of the form --NAME=VALUE'
      ', but for the mode, which may come first' + _nearest(argument, _MODES)
    )
  name = argument.lstrip('-').partition('=')[0]
  ours = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(__name__)]
  return f'there is no flag --{name}' + _nearest(name, ours, '--')


def _nearest(
  name: str, known: Iterable[str], prefix: str = '', cutoff: float = 0.5
) -> str:
  """A question for the known name that comes nearest, if any comes near."""
  near = difflib.get_close_matches(name, known, 1, cutoff)
  return f'; did you mean {prefix}{near[0]}?' if near else ''


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the plain flags; what is left over goes to `main`."""
  program, *arguments = argv
  if arguments and arguments[0] in _MODES:
    if any(re.match('--?mode(=|$)', x) for x in arguments[1:]):
      raise UserError(
        f'{arguments[0]} and --mode exclude one another: give one'
      )
    arguments[0] = f'--mode={arguments[0]}'
  try:
    return flags.FLAGS([program, *arguments], known_only=True)
  except flags.Error as error:
    raise UserError(str(error)) from error


def run() -> None:
  """Runs `main`; errors that the user can fix end it with one sentence."""
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
