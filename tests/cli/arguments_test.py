"""arguments: overrides, errors in one sentence, and help."""

from pathlib import Path

import pytest
from absl import flags

from vitexco_jax.cli import arguments as cli
from vitexco_jax.cli.modes import MODES
from vitexco_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs/vitexco.py')


@pytest.fixture(autouse=True)
def fresh_flags():
  """Flags as they are before a call is parsed."""
  yield
  flags.FLAGS.unparse_flags()
  for name in flags.FLAGS:
    flags.FLAGS[name].unparse()


def _parse(*arguments):
  """The config of a call, up to the choice of a mode."""
  rest = cli.parse_flags(['launch.py', *arguments])
  return cli.make_call(rest[1:]).config


@pytest.mark.parametrize(
  'arguments, name, value',
  [
    (['--config.train.batch_size=8'], 'train.batch_size', 8),
    (['--config.train.b1=0'], 'train.b1', 0.0),
    (
      ['--config.loss.l1_same_video_only=true'],
      'loss.l1_same_video_only',
      True,
    ),
    (['--config.train.init=a=b'], 'train.init', 'a=b'),
    (['--config.use.size=(64, 96)'], 'use.size', (64, 96)),
    (['--config.model.vit.taps=1,1,2,2,2'], 'model.vit.taps', (1, 1, 2, 2, 2)),
    (
      ['--config.seed=1', '--workdir=x', '--config.seed=2'],
      'seed',
      2,
    ),
    ([f'--config={CONFIG}:small'], 'model.discriminator.width', 0.25),
    ([], 'train.updates', 100_000),
  ],
)
def test_overrides(arguments, name, value):
  actual = _parse(*arguments)
  for part in name.split('.'):
    actual = actual[part]
  assert actual == value and type(actual) is type(value)


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    (
      ['--config.train.batchsize=3'],
      "the config has no 'train.batchsize'; did you mean train.batch_size?",
    ),
    (
      ['--config.tran.updates=3'],
      "the config has no 'tran.updates'; did you mean train.updates?",
    ),
    (
      ['--config.seed.x=3'],
      "the config has no 'seed.x'; did you mean seed?",
    ),
    (['--config.zzz=3'], "the config has no 'zzz'; did you mean "),
    (
      ['--config.train.updates=foo'],
      '--config.train.updates=foo is not of type int: write a value like 100000',
    ),
    (
      ['--config.train.updates=2.5'],
      'is not of type int: write a value like 100000',
    ),
    (['--config.train.b1=x'], 'is not of type float: write a value like 0.5'),
    (['--config.train.b1=nan'], 'is not of type float: write a value like 0.5'),
    (
      ['--config.use.size=' + '(' * 10_000],
      'is not of type tuple: write a value like (224,384)',
    ),
    (
      ['--config.seed=' + '9' * 5000],
      'is not of type int: write a value like 0',
    ),
    (
      ['--config.loss.l1_same_video_only=2'],
      'is not of type bool: write a value like False',
    ),
    (
      ['--config.use.size=64'],
      'is not of type tuple: write a value like (224,384)',
    ),
    (
      ['--config.use.size=(64,)'],
      'is not of type tuple: write a value like (224,384)',
    ),
    (
      ['--config.use.size=(64,"b")'],
      'is not of type tuple: write a value like (224,384)',
    ),
    (
      ['--config.use.size=(64,'],
      'is not of type tuple: write a value like (224,384)',
    ),
    (['--config.train.updates', '5'], 'write --config.train.updates=VALUE'),
    (['--config=nope.py'], 'cannot read nope.py: No such file or directory'),
    ([f'--config={ROOT}'], 'it is a folder, not a file'),
    (['--config=/dev/zero'], 'it is a pipe or a device'),
    (['--config=' + 'x' * 300], 'File name too long'),
    ([f'--config={CONFIG}:smal'], 'paper, small, tiny, paper_tiny are known'),
    (
      [f'--config={ROOT / "README.md"}'],
      'not a Python file with a get_config()',
    ),
    (['--moode=x'], 'there is no flag --moode; did you mean --mode?'),
    (
      ['--mode=colorise'],
      'there is no --mode=colorise; did you mean colorize?',
    ),
    (['--mode=version'], 'there is no --mode=version; known are train'),
    (['--mode=foo'], 'known are train, gallery, retrieve, prepare, inspect'),
    (['extra'], "'extra' is not a flag"),
    (['version'], 'form --NAME=VALUE; did you mean --version?'),
    (['help'], 'form --NAME=VALUE; did you mean --help?'),
    (['video=x'], "'video=x' is not a flag"),
    (['--config.use.anchor=2'], 'config.use.anchor=2.0 must be at least 0'),
    (['--config.data.flow=raft'], 'config.data.flow=raft must be one of deep'),
    (['colorise', '--video=x'], 'form --NAME=VALUE; did you mean colorize?'),
    (['plan', '--mode=colorize'], 'plan and --mode are mutually exclusive'),
    (['colorize', '--video=x'], '--mode=colorize needs --output'),
    (['--overwrite=maybe'], 'Non-boolean'),
    (['--mode=prepare'], '--mode=prepare needs --videos, --images, or both'),
    (['--mode=gallery', '--images=x'], '--mode=gallery needs --gallery'),
    (['--mode=retrieve', '--query=x'], '--mode=retrieve needs --gallery'),
    (['--mode=inspect'], '--mode=inspect needs --output'),
    (['--mode=pretrain'], '--mode=pretrain needs --images'),
    (['--hosts=2', '--host=0'], '--hosts needs --coordinator'),
    (['--mode=colorize', '--video=x'], '--mode=colorize needs --output'),
    (
      ['--mode=colorize', '--video=x', '--output=y'],
      'needs --reference, --references or --plan',
    ),
    (
      ['--mode=plan', '--video=x', '--output=y'],
      '--mode=plan needs --reference or --references',
    ),
    (
      [
        '--mode=colorize',
        '--video=x',
        '--output=y',
        '--reference=z',
        '--plan=p',
      ],
      '--reference and --plan are mutually exclusive',
    ),
    (
      ['--mode=plan', '--video=x', '--output=y', '--reference=auto'],
      '--reference=auto and --gallery require each other',
    ),
    (
      [
        '--mode=plan',
        '--video=x',
        '--output=y',
        '--gallery=g',
        '--reference=auto',
        '--reference=z',
      ],
      '--reference=auto allows no other references',
    ),
    (
      [
        '--mode=plan',
        '--video=x',
        '--output=y',
        '--reference=none',
        '--reference=z',
      ],
      '--reference=none allows no other references',
    ),
    (
      [
        '--mode=colorize',
        '--video=x',
        '--output=y',
        '--plan=p',
        '--working-size=48x64',
        '--config.use.size=48,64',
      ],
      '--working-size and --config.use.size are mutually exclusive',
    ),
    (
      ['--mode=colorize', '--videos=x'],
      '--mode=colorize does not know --videos; did you mean --video?',
    ),
    (['--video=x'], '--mode=train does not know --video'),
    (['--address=x:1'], '--mode=train does not know --address'),
    (['--mode=serve', '--upload-limit=0'], 'not a positive integer'),
    (
      ['--mode=export', '--output=x', '--config.use.size=64,96'],
      'the config of the run unchanged: leave out --config.use.size',
    ),
  ],
)
def test_errors_are_one_sentence(arguments, sentence):
  with pytest.raises(UserError) as caught:
    _parse(*arguments)
  assert sentence in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('mode', MODES)
def test_a_mode_may_come_first(mode):
  cli.parse_flags(['launch.py', mode])
  assert flags.FLAGS.mode == mode
