"""Vitexco's door: one mode a call.

  python launch.py --config=configs/vitexco.py            trains
  python launch.py --mode=prepare --videos=DIR
  python launch.py --mode=export --workdir=runs/vitexco --output=weights/mine
  python launch.py --mode=colorize --video=IN --reference=REF --output=OUT
  python launch.py --mode=evaluate --data=DIR --output=OUT
  python launch.py --mode=benchmark
  python launch.py --mode=demo --video=IN --output=DIR

Any value of the config can be set from here: --config.train.batch_size=8.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from vitexco_jax.errors import UserError

_HERE = Path(__file__).resolve().parent

_MODES = (
  'train',
  'prepare',
  'export',
  'colorize',
  'evaluate',
  'benchmark',
  'demo',
)
_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The experiment, FILE[:VARIANT]; configs/vitexco.py if unset.'
)
_MODE = flags.DEFINE_enum('mode', 'train', _MODES, 'What to do.')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/vitexco', 'Where a training run lives.'
)
_CHECKPOINT = flags.DEFINE_string(
  'checkpoint',
  str(_HERE / 'weights/small'),
  'Weights to use: an export, or the workdir of a run.',
)
_VIDEOS = flags.DEFINE_string(
  'videos', None, 'prepare: a folder of videos, or a text file that lists them.'
)
_VIDEO = flags.DEFINE_string(
  'video', None, 'colorize, demo: a video, a folder of frames, or an image.'
)
_REFERENCE = flags.DEFINE_string(
  'reference', None, 'colorize: a colour image, or first-frame.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Where results go.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Whether an existing output may be replaced.'
)
_DATA = flags.DEFINE_string(
  'data', None, 'evaluate: a folder of videos or of folders of frames.'
)


def main(argv: Sequence[str]) -> None:
  """Calls the mode's file with what it needs."""
  if len(argv) > 1:
    raise UserError(f'{argv[1]!r} is no flag: every argument starts with --')
  # Compiled programs are kept between calls: starting is most of a short call.
  cache = os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')
  os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR', str(Path(cache, 'vitexco'))
  )
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '1')

  config = _CONFIG.value
  if _MODE.value == 'train':
    from vitexco_jax.train import train

    train(config, Path(_WORKDIR.value))
  elif _MODE.value == 'prepare':
    from vitexco_jax.prepare import prepare

    prepare(config, Path(_required('videos')))
  elif _MODE.value == 'export':
    from vitexco_jax.export import export_run

    export_run(Path(_WORKDIR.value), Path(_required('output')))
  elif _MODE.value == 'colorize':
    from vitexco_jax.colorize import colorize

    colorize(
      _colorizer(),
      video_path=Path(_required('video')),
      reference=_required('reference'),
      output=Path(_required('output')),
      overwrite=_OVERWRITE.value,
    )
  elif _MODE.value == 'evaluate':
    from vitexco_jax.evaluate import evaluate

    colorizer = _colorizer()
    evaluate(
      colorizer.config,
      colorizer,
      _CHECKPOINT.value,
      _required('data'),
      _required('output'),
    )
  elif _MODE.value == 'benchmark':
    from vitexco_jax.benchmark import benchmark

    benchmark(config, Path(_required('output')))
  elif _MODE.value == 'demo':
    from vitexco_jax.demo import demo

    demo(_colorizer(), _required('video'), _required('output'))


def _colorizer():
  """The colorizer of --checkpoint, under the overrides of its config."""
  from vitexco_jax.colorize import VideoColorizer

  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  return VideoColorizer.from_checkpoint(Path(_CHECKPOINT.value), overrides)


def _required(name: str) -> str:
  value = flags.FLAGS[name].value
  if not value:
    raise UserError(f'--mode={_MODE.value} needs --{name}')
  return value


def _parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; whatever is wrong with one becomes one sentence."""
  argv = list(argv)
  if not any(x.lstrip('-').split('=')[0] == 'config' for x in argv[1:]):
    argv.insert(1, f'--config={_HERE / "configs/vitexco.py"}')
  try:
    return flags.FLAGS(argv)
  except (
    flags.Error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
  ) as error:
    raise UserError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
  """The telling part of what absl and ml_collections raise."""
  last = str(error).strip().splitlines()
  unknown = re.search(r"'(\w+)'.*Did you mean \"(\w+)\"", str(error), re.S)
  if unknown:
    return 'the config has no {!r}; did you mean {!r}?'.format(
      *unknown.groups()
    )
  return last[-1].strip('\'"')


def run() -> None:
  """Runs `main`; what the user can mend is said in one sentence, status 1."""
  try:
    app.run(main, flags_parser=_parse)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)


if __name__ == '__main__':
  run()
