"""Every command of docs/tutorial.md, unchanged, at toy size."""

import json
import re
import shutil

import documents
import numpy as np
import pytest

from vitexco_jax.media import video

COMMANDS = documents.commands('docs/tutorial.md')
(EDITED,) = documents.blocks('docs/tutorial.md', 'json')  # A shot of a plan.


@pytest.fixture(scope='module')
def home(tmp_path_factory, tiny_weights):
  """A folder as the tutorial expects it, and the program."""
  home = tmp_path_factory.mktemp('home')
  for folder in ('stills', 'like', 'mine', 'weights'):
    (home / folder).mkdir()
  film = []
  for seed in (0, 6, 1):  # One per shot; two of the shots have a still.
    gray = documents.picture(seed).mean(-1, keepdims=True).astype(np.uint8)
    film += [np.repeat(np.roll(gray, i, 1), 3, -1) for i in range(4)]
  documents.write_video(home / 'film.mp4', film)
  for seed, name in enumerate(('street', 'portrait', 'poster')):
    still = documents.picture(seed)
    video.write_image(home / f'stills/{name}.jpg', still)
  documents.write_video(home / 'like/a.mp4', documents.frames(3, 4))
  for seed in (4, 5):
    documents.write_video(home / f'mine/{seed}.mp4', documents.frames(seed))
  # A copy, so that its default paths are in this folder.
  shutil.copyfile(documents.ROOT / 'launch.py', home / 'launch.py')
  shutil.copytree(tiny_weights, home / 'weights/small')
  documents.write_config(home, 'tiny')
  return home


def _chroma(path):
  """Returns the strength of the colors of each frame of the film."""
  with video.VideoReader(path) as reader:
    rgb = np.stack([frame.rgb for frame in reader])
  assert rgb.shape == (12, 64, 96, 3)
  return np.ptp(rgb.astype(int), -1).mean((1, 2))


def _shortened(text):
  """Shortens a command: a tenth of the frames, and few training updates."""
  text = re.sub(r'\b(\d)0\b', r'\1', text)
  return text.replace('updates=1000', 'updates=2')


def _edit(path):
  """Puts the shot that the tutorial shows into a plan."""
  result, edited = json.loads(path.read_text()), json.loads(_shortened(EDITED))
  (number,) = [
    i
    for i, shot in enumerate(result['shots'])
    if (shot['start'], shot['stop']) == (edited['start'], edited['stop'])
  ]
  result['shots'][number] = edited
  path.write_text(json.dumps(result))


def test_every_command_works(home):
  printed = ''
  for text in COMMANDS:
    printed += documents.run(_shortened(text), home)
    if '--mode=plan' in text:
      _edit(home / 'plan.json')
  assert '\n'.join(COMMANDS).count('python launch.py') == 15
  assert 'street.jpg' in printed

  for name in ('first', 'draft', 'two', 'mine'):
    assert _chroma(home / f'{name}.mp4').min() > 1, name
  # The still that the plan binds to the second shot is gray. Its little color
  # comes from the random colorizer and grows with the distance from the still.
  planned = _chroma(home / 'planned.mp4').reshape(3, 4)
  assert 20 * planned[1].max() < planned[[0, 2]].min()
  assert planned[1, 2] < 0.1
  assert video.read_image(home / 'frame_color.png').shape == (64, 96, 3)
  for name in ('plan.jpg', 'sure.mp4'):
    assert (home / name).stat().st_size, name
  assert (home / 'runs/like/report.html').stat().st_size
  assert (home / 'data/inspect/index.html').stat().st_size
  summary = json.loads((home / 'runs/like_mine/summary.json').read_text())
  assert set(summary['protocols']) == {'first-frame', 'far-frame'}
