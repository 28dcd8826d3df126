"""Every command of docs/reproduce.md, in miniature, as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vitexco_jax import records, video
from vitexco_jax.models import vit

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = re.findall(
  r'^```\n(.*?)^```',
  (ROOT / 'docs/reproduce.md').read_text(),
  re.MULTILINE | re.DOTALL,
)
_MINIATURE = """
import runpy

def get_config():
  config = runpy.run_path({path!r})['get_config']('tiny')
  config.data.min_frames = 2
  config.retrieval.network = 'vit'
  config.retrieval.near_duplicate = 2.0  # To this ViT all are alike.
  return config
"""


def _picture(seed, size=(64, 96)):
  """Sharp, colourful, and like no other."""
  noise = np.random.default_rng(seed).uniform(0, 255, (9, 12, 3))
  large = cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
  return np.uint8(np.clip(large, 0, 255))


def _frames(seed, count=6):
  return [np.roll(_picture(seed), 3 * i, 1) for i in range(count)]


def _write_video(path, frames):
  with video.VideoWriter(path, video.Format(*frames[0].shape[:2])) as writer:
    for rgb in frames:
      writer.write(video.Frame(rgb))


def _write_vit(path):
  """Weights of a small ViT under AugReg's names."""
  import jax
  from flax import traverse_util

  made = vit.VisionTransformer('test/16', (1, 1, 2, 2, 2)).init(
    jax.random.key(0), np.zeros((1, 224, 224, 3), np.float32)
  )
  np.savez(path, **traverse_util.flatten_dict(made['params'], sep='/'))


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """The folder that section 2 describes, and the program."""
  home = tmp_path_factory.mktemp('home')
  for folder in ('videos/hollywood2', 'videos/pixabay', 'weights', 'configs'):
    (home / folder).mkdir(parents=True)
  _write_video(home / 'videos/hollywood2/a.avi', _frames(0))
  _write_video(home / 'videos/pixabay/first.mp4', _frames(1))
  for number in range(8):
    synset = home / f'imagenet/train/n0000000{number % 2}'
    synset.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode('.jpg', _picture(10 + number))[1]
    (synset / f'{number}.JPEG').write_bytes(encoded)
  (score,) = [text for text in COMMANDS if 'for name in' in text]
  names = re.search(r'for name in (.*?);', score, re.DOTALL)[1]
  for number, name in enumerate(names.replace('\\\n', ' ').split()):
    clip = home / f'DAVIS/JPEGImages/480p/{name}'
    clip.mkdir(parents=True)
    for index, rgb in enumerate(_frames(30 + number, 2)):
      video.write_image(clip / f'{index:05d}.jpg', rgb)
  _write_vit(home / 'weights/Ti_16.npz')
  (home / 'launch.py').symlink_to(ROOT / 'launch.py')
  config = _MINIATURE.format(path=str(ROOT / 'configs/vitexco.py'))
  (home / 'configs/vitexco.py').write_text(config)
  return home


def test_every_command_works(home):
  environment = os.environ | {
    'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': '2',
    'JAX_COMPILATION_CACHE_DIR': str(home / 'programs'),
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
  }
  run = 0
  for text in COMMANDS:
    if text.startswith('make setup'):
      continue  # This runs in what it made.
    done = subprocess.run(
      ['bash', '-euc', text],
      cwd=home,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, f'{text}\n{done.stdout}{done.stderr}'
    run += text.count('python launch.py')
  assert run == 7
  made = records.Records(home / 'data/records_tiny')
  assert {x.video for x in made.runs} == {
    'hollywood2/a.avi',
    'pixabay/first.mp4',
  }
  assert len(set(made.read(0).references)) == 5
  for path in (
    'data/first.png',
    'data/inspect/index.html',
    'runs/table1/metrics.jsonl',
    'weights/table1/config.json',
    'runs/table1/davis/summary.json',
  ):
    assert (home / path).stat().st_size, path
