"""Every command of docs/reproduce.md, unchanged, at toy size."""

import re

import cv2
import documents
import pytest
import tiny_weights

from vitexco_jax.data import records
from vitexco_jax.media import video

COMMANDS = documents.commands('docs/reproduce.md')


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """The folder that section 2 describes, and the program."""
  home = tmp_path_factory.mktemp('home')
  for folder in ('videos/hollywood2', 'videos/pixabay', 'weights'):
    (home / folder).mkdir(parents=True)
  documents.write_video(home / 'videos/hollywood2/a.avi', documents.frames(0))
  documents.write_video(home / 'videos/pixabay/first.mp4', documents.frames(1))
  for number in range(8):
    synset = home / f'imagenet/train/n0000000{number % 2}'
    synset.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode('.jpg', documents.picture(10 + number))[1]
    (synset / f'{number}.JPEG').write_bytes(encoded)
  (score,) = [text for text in COMMANDS if 'for name in' in text]
  names = re.search(r'for name in (.*?);', score, re.DOTALL)[1]
  for number, name in enumerate(names.replace('\\\n', ' ').split()):
    clip = home / f'DAVIS/JPEGImages/480p/{name}'
    clip.mkdir(parents=True)
    for index, rgb in enumerate(documents.frames(30 + number, 2)):
      video.write_image(clip / f'{index:05d}.jpg', rgb)
  tiny_weights.write_vit(home / 'weights/Ti_16.npz')
  (home / 'launch.py').symlink_to(documents.ROOT / 'launch.py')
  documents.write_config(home, 'paper_tiny')
  return home


def test_every_command_works(home):
  for text in COMMANDS:
    documents.run(text, home)
  assert '\n'.join(COMMANDS).count('python launch.py') == 8
  result = records.Records(home / 'data/records_paper_tiny')
  assert {x.video for x in result.runs} == {
    'hollywood2/a.avi',
    'pixabay/first.mp4',
  }
  assert len(set(result.read(0).references)) == 5
  for path in (
    'data/first.png',
    'data/inspect/index.html',
    'runs/table1/metrics.jsonl',
    'weights/table1/config.json',
    'runs/table1/first.mp4',
    'runs/table1/davis/summary.json',
  ):
    assert (home / path).stat().st_size, path
