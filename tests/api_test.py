"""Every Python block of docs/api.md and of the README, unchanged."""

import ast
from pathlib import Path

import cv2
import numpy as np
import pytest
from documents import blocks, picture, run

import vitexco_jax
from vitexco_jax.media import video

SIZE = (48, 64)
FRAMES = 8


@pytest.fixture
def home(tmp_path, tiny_weights, monkeypatch):
  """Where the blocks find what they name."""
  (tmp_path / 'weights').mkdir()
  (tmp_path / 'weights/small').symlink_to(tiny_weights)
  for i, name in enumerate(('picture.jpg', 'other.jpg', 'frame.png')):
    video.write_image(tmp_path / name, picture(i, SIZE))
  video.write_image(tmp_path / 'first_in_color.png', picture(9, SIZE))
  form = video.Format(*SIZE)
  with video.VideoWriter(tmp_path / 'gray.mp4', form) as writer:
    for i in range(FRAMES):
      gray = cv2.cvtColor(picture(10 + i, SIZE), cv2.COLOR_RGB2GRAY)
      writer.write(video.Frame(np.repeat(gray[..., None], 3, -1)))
  monkeypatch.chdir(tmp_path)
  return tmp_path


def _read(path):
  with video.VideoReader(path) as reader:
    return np.stack([frame.rgb for frame in reader])


def test_public_names_are_imported_on_demand():
  for name in vitexco_jax.__all__:
    assert getattr(vitexco_jax, name) is not None
    assert name in dir(vitexco_jax)
  tree = ast.parse(Path(vitexco_jax.__file__).read_text())
  (typed,) = (node for node in tree.body if isinstance(node, ast.If))
  typed_names = [node.names[0].name for node in typed.body]
  assert sorted([*typed_names, '__version__']) == sorted(vitexco_jax.__all__)
  with pytest.raises(AttributeError, match="no attribute 'colorise'"):
    vitexco_jax.colorise  # noqa: B018


def test_every_block_works(home, capsys):
  names = {}
  for block in blocks('docs/api.md', 'python'):
    exec(compile(block, block, 'exec'), names)
  out = capsys.readouterr().out
  # Eight frames at once and one by one give the same, but for the codec.
  at_once, one_by_one = _read('color.mp4'), _read('color.mkv')
  assert at_once.shape == one_by_one.shape == (FRAMES, *SIZE, 3)
  assert np.abs(np.int16(at_once) - np.int16(one_by_one)).mean() < 3
  assert np.ptp(at_once, -1).mean() > 3  # In color.
  assert out.count('(48, 64, 3) uint8\n') == FRAMES
  assert out.count(f'({FRAMES}, 48, 64, 3)\n') == 3
  reference = names['reference']
  assert reference['keys'].shape[:2] == (1, 32 * 48 // 16)

  np.save('frames.npy', names['colored'])
  np.save('reference.npy', names['first'])
  (command,) = blocks('docs/api.md', '')
  run(command, home)
  actual = np.load('colored.npy')
  colorizer, expected = names['colorizer'], []
  for rgb in names['colored']:  # Without flow each by itself.
    colorizer.set_reference(names['first'])
    expected += colorizer.colorize([rgb])
  assert np.abs(np.int16(actual) - np.int16(expected)).max() <= 1


def test_the_block_of_the_readme_works(home, capsys):
  (block,) = [x for x in blocks('README.md', 'python') if 'Colorizer' in x]
  exec(compile(block, 'README.md', 'exec'), {})
  assert capsys.readouterr().out == '(48, 64, 3) uint8\n' * FRAMES
