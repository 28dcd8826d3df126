"""Every command of docs/tutorial.md, in miniature, as it stands there."""

import json
import shutil

import numpy as np
import pytest
from documents import (
  ROOT,
  blocks,
  frames,
  picture,
  run,
  write_config,
  write_video,
)

from vitexco_jax import video

COMMANDS = blocks('docs/tutorial.md')


@pytest.fixture(scope='module')
def home(tmp_path_factory, tiny_weights):
  """A folder as the tutorial supposes it, and the program."""
  home = tmp_path_factory.mktemp('home')
  for folder in ('stills', 'like', 'mine', 'weights'):
    (home / folder).mkdir()
  grey = [
    np.repeat(x.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    for x in frames(0)
  ]
  write_video(home / 'film.mp4', grey)
  for seed, name in enumerate(('street', 'portrait', 'poster')):
    video.write_image(home / f'stills/{name}.jpg', picture(seed))
  write_video(home / 'like/a.mp4', frames(3, 4))
  for seed in (4, 5):
    write_video(home / f'mine/{seed}.mp4', frames(seed))
  # A copy, so that what lies beside it is taken by default.
  shutil.copyfile(ROOT / 'launch.py', home / 'launch.py')
  shutil.copytree(tiny_weights, home / 'weights/small')
  write_config(home)
  return home


def test_every_command_works(home):
  printed = ''
  calls = 0
  for text in COMMANDS:
    if text.startswith('make setup'):
      continue  # This runs in what it made.
    # The last commands are about the end of a long training.
    printed += run(text.replace('updates=1000', 'updates=2'), home)
    calls += text.count('python launch.py')
  assert calls == 13
  assert 'street.jpg' in printed

  sizes = {}
  for name in ('first', 'draft', 'two', 'mine'):
    with video.VideoReader(home / f'{name}.mp4') as reader:
      found = np.stack([frame.rgb for frame in reader])
    assert np.ptp(found.astype(int), -1).mean() > 1, name  # In colour.
    sizes[name] = found.shape
  assert set(sizes.values()) == {(6, 64, 96, 3)}
  assert video.read_image(home / 'frame_colour.png').shape == (64, 96, 3)
  assert (home / 'runs/like/report.html').stat().st_size
  assert (home / 'data/inspect/index.html').stat().st_size
  summary = json.loads((home / 'runs/like_mine/summary.json').read_text())
  assert set(summary['protocols']) == {'first-frame', 'far-frame'}
