"""The modes of the command line: what each one does, with which flags."""

from collections.abc import Callable
from typing import NamedTuple

from vitexco_jax.cli import commands
from vitexco_jax.cli.commands import Call


class Mode(NamedTuple):
  """A mode; flags are named as on the command line."""

  run: Callable[[Call], None]
  help: str  # What it does.
  usage: tuple[str, ...]  # Examples of flags.
  needed: tuple[str, ...] = ()
  optional: tuple[str, ...] = ()


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
    commands.train,
    'Trains the networks.',
    ('--config=configs/vitexco.py',),
    optional=('workdir', *_HOSTS),
  ),
  'gallery': Mode(
    commands.gallery,
    'Builds a gallery of references from pictures.',
    ('--images=DIR --gallery=OUT',),
    ('images', 'gallery'),
  ),
  'retrieve': Mode(
    commands.retrieve,
    'Finds the pictures of a gallery that are most similar to a query.',
    ('--query=IN --gallery=DIR --output=PICTURE',),
    ('query', 'gallery', 'output'),
  ),
  'prepare': Mode(
    commands.prepare,
    'Prepares videos and pictures for training.',
    ('--videos=DIR --images=DIR --gallery=DIR',),
    optional=('videos', 'images', 'gallery', 'beam'),
  ),
  'inspect': Mode(
    commands.inspect,
    'Draws samples of the training data.',
    ('--output=OUT',),
    ('output',),
  ),
  'pretrain': Mode(
    commands.pretrain,
    'Pretrains the Feature Transform, the ViT, and the prior on pictures.',
    ('--images=DIR --workdir=runs/warm',),
    ('images',),
    ('workdir', *_HOSTS),
  ),
  'mix': Mode(
    commands.mix,
    'Trains the mixture of trained networks on videos.',
    ('--videos=DIR --workdir=runs/mix --config.train.init=weights/small',),
    ('videos',),
    ('workdir',),
  ),
  'export': Mode(
    commands.export,
    'Exports the weights of a training run.',
    ('--workdir=runs/vitexco --output=weights/mine',),
    ('output',),
    ('workdir',),
  ),
  'plan': Mode(
    commands.plan,
    'Finds shots and chooses references; writes a plan that can be edited.',
    ('--video=IN --references=DIR --output=PLAN',),
    ('video', 'output'),
    (*_SOURCES, 'checkpoint', 'frame-rate'),
  ),
  'stills': Mode(
    commands.stills,
    'Writes the frames of each shot that are most worth coloring by hand.',
    ('--video=IN --output=DIR [--count=2] [--finished=COLOR]',),
    ('video', 'output'),
    ('count', 'plan', 'finished', 'checkpoint'),
  ),
  'colorize': Mode(
    commands.colorize,
    'Colorizes a video, a folder of frames, or an image.',
    (
      '--video=IN --reference=REF --output=OUT',
      '--video=IN --plan=PLAN --output=OUT',
    ),
    ('video', 'output'),
    (*_SOURCES, 'plan', 'checkpoint', 'beam', *_OUTPUT_OPTIONS),
  ),
  'serve': Mode(
    commands.serve,
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
    commands.evaluate,
    'Measures how close results are to the true colors.',
    ('--data=DIR --output=OUT [--predictions=DIR]',),
    ('data', 'output'),
    (
      'checkpoint',
      'predictions',
      'protocols',
      'baselines',
      'gallery',
      'leaderboard',
    ),
  ),
  'inputs': Mode(
    commands.inputs,
    'Writes the gray clips and references of an evaluation, for other methods.',
    ('--data=DIR --output=OUT',),
    ('data', 'output'),
    ('protocols', 'gallery'),
  ),
  'benchmark': Mode(
    commands.benchmark,
    'Measures speed and memory.',
    ('--output=OUT [--gallery=DIR]', '--profile=DIR'),
    optional=('output', 'gallery', 'devc', 'profile'),
  ),
  'demo': Mode(
    commands.demo,
    'Colorizes a color video from its first frame and compares the results.',
    ('--video=IN --output=DIR',),
    ('video', 'output'),
    ('checkpoint',),
  ),
}
