"""Coloring without what only POSIX has; see `like_windows` for how far this goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_PROCESS = """
import sys, av, cv2, jax, numpy, orbax.checkpoint, scenedetect, skimage.color, tqdm
import matplotlib.pyplot, PIL.Image, faiss, absl.app, flax, ml_collections
import like_windows
like_windows.install()
import collections
from pathlib import Path
import films, painter
from vitexco_jax.cli import commands
from vitexco_jax.errors import UserError
from vitexco_jax.inference import film, plan, preflight, working_size
from vitexco_jax.media import video
like_windows.hide()

home = Path(sys.argv[1])
source, still = home / 'in.mkv', home / 'red.png'
form = video.Format(*painter.SIZE)
with video.VideoWriter(source, form) as writer:
  for i in range(films.COUNT):
    writer.write(video.Frame(films.gray_frame(i)))
video.write_image(still, films.tint(50))
options = film.Options()
assert not preflight.check(source, [str(still)], home / 'a.mp4', False, options)
assert working_size.working_size(None, (64, 64)) == (64, 64)

choices = [plan.Choice(str(still), frame=i) for i in (2, 15)]
made = films.one_shot(source, *choices)

def make_film(made, output, overwrite=False):
  painters = [painter.Painter()]
  return film.Film(painters, source, made, output, overwrite, keep_work=True)

for suffix in ('.mp4', '/'):
  output = home / f'out{suffix}'
  run = make_film(made, output).run()
  for _ in range(12):
    next(run)
  second = make_film(made, output).run()
  try:
    next(second)
    raise AssertionError('two runs at once')
  except UserError as error:
    assert 'in use by another run' in str(error), error
  run.close()
  # The stand-in shares memory with its frames; the engine copies them.
  collections.deque(make_film(made, output, True).run(), 0)
  shots = (made.shots[0]._replace(references=choices[:1]),)
  changed = made._replace(shots=shots)
  collections.deque(make_film(changed, output, True).run(), 0)
  with video.VideoReader(output) as reader:
    assert len(list(reader)) == films.COUNT
plan.plan_film(None, source, [str(still)], home / 'plan.json')
try:
  commands.serve(None)
  raise AssertionError('the page runs')
except UserError as error:
  assert 'Linux and macOS only' in str(error)
print(sorted(path.name for path in home.iterdir()))
"""


@pytest.mark.skipif(
  not Path('/proc/self/maps').exists(), reason='needs the files of Linux'
)
def test_a_film_without_posix(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', _PROCESS, tmp_path],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': f'{ROOT}:{ROOT / "tests/support"}'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == str(
    [
      'in.mkv',
      'out',
      'out.mp4',
      'out.mp4.work',
      'out.work',
      'plan.jpg',
      'plan.json',
      'plan_cuts.csv',
      'plan_cuts.edl',
      'red.png',
    ]
  )
