"""Runs the code blocks of documents on tiny inputs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from calls import ROOT, environment

from vitexco_jax.media import video

MINIATURE = """
import runpy

def get_config(variant=None):
  config = runpy.run_path({path!r})['get_config']({variant!r})
  config.data.min_frames = 2
  config.retrieval.near_duplicate = 2.0  # All are alike here.
  return config
"""


def blocks(path, language=''):
  """Returns the code blocks of a document in a language."""
  text = (ROOT / path).read_text()
  actual = re.findall(r'^```(\w*)\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
  return [block for name, block in actual if name == language]


def commands(path):
  """Returns the commands of a document, except `make setup`, which has run."""
  return [x for x in blocks(path) if not x.startswith('make setup')]


def write_config(home, variant):
  """Writes configs/vitexco.py, all variants of which are tiny."""
  (home / 'configs').mkdir()
  path = str(ROOT / 'configs/vitexco.py')
  (home / 'configs/vitexco.py').write_text(
    MINIATURE.format(path=path, variant=variant)
  )


def picture(seed, size=(64, 96)):
  """Draws a sharp, colorful picture, different for each seed."""
  noise = np.random.default_rng(seed).uniform(0, 255, (9, 12, 3))
  large = cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
  return np.uint8(np.clip(large, 0, 255))


def frames(seed, count=6):
  return [np.roll(picture(seed), 3 * i, 1) for i in range(count)]


def write_video(path, frames):
  with video.VideoWriter(path, video.Format(*frames[0].shape[:2])) as writer:
    for rgb in frames:
      writer.write(video.Frame(rgb))


def run(text, home):
  """Runs a block of commands in a folder."""
  done = subprocess.run(
    ['bash', '-euc', text],
    cwd=home,
    env=environment()
    | {
      'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
      'PYTHONPATH': str(ROOT),
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, f'{text}\n{done.stdout}{done.stderr}'
  return done.stdout
