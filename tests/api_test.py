"""Every block of docs/api.md and of the README's Python, as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vitexco_jax import video

pytestmark = pytest.mark.usefixtures('quick_compiler')

ROOT = Path(__file__).resolve().parent.parent
SIZE = (48, 64)
FRAMES = 8


def _blocks(path, language):
  text = (ROOT / path).read_text()
  blocks = re.findall(r'^```(\w*)\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
  return [block for found, block in blocks if found == language]


def _picture(seed):
  noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
  return cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def home(tmp_path, tiny_weights, monkeypatch):
  """Where the blocks find what they name."""
  (tmp_path / 'weights').mkdir()
  (tmp_path / 'weights/small').symlink_to(tiny_weights)
  for i, name in enumerate(('picture.jpg', 'other.jpg', 'frame.png')):
    video.write_image(tmp_path / name, _picture(i))
  video.write_image(tmp_path / 'first_in_colour.png', _picture(9))
  form = video.Format(*SIZE)
  with video.VideoWriter(tmp_path / 'grey.mp4', form) as writer:
    for i in range(FRAMES):
      grey = cv2.cvtColor(_picture(10 + i), cv2.COLOR_RGB2GRAY)
      writer.write(video.Frame(np.repeat(grey[..., None], 3, -1)))
  monkeypatch.chdir(tmp_path)
  return tmp_path


def _read(path):
  with video.VideoReader(path) as reader:
    return np.stack([frame.rgb for frame in reader])


def test_every_block_works(home, capsys):
  names = {}
  for block in _blocks('docs/api.md', 'python'):
    exec(compile(block, block, 'exec'), names)
  out = capsys.readouterr().out
  # Eight frames at once and one by one give the same, but for the codec.
  at_once, one_by_one = _read('colour.mp4'), _read('colour.mkv')
  assert at_once.shape == one_by_one.shape == (FRAMES, *SIZE, 3)
  assert np.abs(np.int16(at_once) - np.int16(one_by_one)).mean() < 3
  assert np.ptp(at_once, -1).mean() > 3  # In colour.
  assert out.count('(48, 64, 3) uint8\n') == FRAMES
  assert out.count(f'({FRAMES}, 48, 64, 3)\n') == 3
  reference = names['reference']
  assert reference['keys'].shape[:2] == (1, 32 * 48 // 16)

  np.save('frames.npy', names['coloured'])
  np.save('reference.npy', names['first'])
  (command,) = _blocks('docs/api.md', '')
  subprocess.run(
    ['bash', '-euc', command],
    env=os.environ
    | {
      'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    },
    check=True,
  )
  found = np.load('coloured.npy')
  (expected,) = names['colorize_clips'](names['colorizers'], names['clips'][:1])
  assert np.abs(np.int16(found) - np.int16(expected)).max() <= 1


def test_the_block_of_the_readme_works(home, capsys):
  (block,) = [x for x in _blocks('README.md', 'python') if 'Colorizer' in x]
  exec(compile(block, 'README.md', 'exec'), {})
  assert capsys.readouterr().out == '(48, 64, 3) uint8\n' * FRAMES
