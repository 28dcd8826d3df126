"""Broken inputs and kills, on films made of any videos.

  PYTHONPATH=.:tests/support:tests/trials python tests/trials/faults.py broken --clips=FOLDER [--count=100]
  PYTHONPATH=.:tests/support:tests/trials python tests/trials/faults.py kill --clips=FOLDER [--count=20]

`broken` cuts off, flips bits of, swaps and empties inputs of all kinds, and
colours with each, a tenth of them as users do and the rest within one process.
Either that goes well, with all frames that can be decoded, or it is refused in one
sentence; nothing else is said, and nothing left behind.

`kill` ends a run by SIGKILL, at a random time or as it touches a file, and starts it
again. The outputs must be those of a run that nobody disturbed, byte for byte.

Both use random `:tiny` weights, draw by --seed, say what goes wrong with which case,
and exit with status 1 if anything does. --only=N repeats case N.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
import soak
import tiny_weights
from absl.testing import flagsaver

import launch
from vitexco_jax.cli.arguments import parse_flags
from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (str(ROOT / 'launch.py'),)
FRAMES = 30

# --- Broken inputs ---

FILMS = [f'film{x}' for x in ('.mp4', '.mkv', '.mov', '.avi', '.webm')]
STILLS = ['still.png', 'still.jpg', 'deep.tiff']
VICTIMS = [
  *(*FILMS, *FILMS, *STILLS, *STILLS),
  *('frames', 'plan.json', 'list.txt', 'list.csv', 'weights'),
]
FAULTS = ['cut', 'flipped', 'swapped', 'cut', 'flipped', 'empty']


class Result(NamedTuple):
  """What a call came to."""

  status: int
  said: str  # On stderr.


def write_inputs(folder, clips):
  """Writes inputs of all kinds that are well."""
  for name in FILMS:
    soak.write_film(folder / name, clips[:2], FRAMES)
  frames = folder / 'frames'
  frames.mkdir()
  with video.VideoReader(folder / 'film.mkv') as reader:
    pictures = [frame.rgb for frame in reader]
  for number, rgb in enumerate(pictures[:8]):
    video.write_image(frames / f'{number:03d}.png', rgb)
  for name in STILLS[:2]:
    video.write_image(folder / name, pictures[-1])
  deep = np.uint16(pictures[-1][..., ::-1]) * 257
  cv2.imwrite(str(folder / 'deep.tiff'), deep)
  surveyed = plan.survey(folder / 'film.mkv')
  made = plan.same_for_all(surveyed, [str(folder / 'still.png')])
  plan.write(folder / 'plan.json', made)
  (folder / 'list.txt').write_text('still.png\nstill.jpg\n')
  (folder / 'list.csv').write_text('file,frame\nstill.png,3\nstill.jpg,\n')
  tiny_weights.write(folder / 'weights')


def spoil(folder, victim, fault, rng):
  """Spoils an input, or a file of it; returns that file."""
  path = folder / victim
  if path.is_dir():
    path = rng.choice(sorted(x for x in path.rglob('*') if x.is_file()))
  content = bytearray(path.read_bytes())
  if fault == 'cut':
    content = content[: rng.randrange(1, len(content))]
  elif fault == 'flipped':
    for _ in range(2 ** rng.randrange(8)):
      content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  elif fault == 'swapped':
    others = [x for x in VICTIMS if Path(x).suffix not in ('', path.suffix)]
    content = (folder / rng.choice(others)).read_bytes()
  else:
    content = b''
  path.write_bytes(content)
  return path


def arguments_for(victim, folder):
  """The flags of a call that needs an input."""
  given = {
    'video': folder / 'film.mkv',
    'reference': folder / 'still.png',
    'output': folder / 'out' / 'colour.mkv',
  }
  if victim in FILMS or victim == 'frames':
    given['video'] = folder / victim
  elif victim in STILLS:
    given['reference'] = folder / victim
  elif victim != 'weights':
    del given['reference']
    name = 'plan' if victim == 'plan.json' else 'references'
    given[name] = folder / victim
  flags = [f'--{name}={path}' for name, path in given.items()]
  return ['--mode=colorize', *flags, '--config.retrieval.network=vit']


def call_here(arguments):
  """Runs the program in this process, which saves its start."""
  with (
    tempfile.TemporaryFile() as said,
    flagsaver.flagsaver(),
    _redirected(said),
  ):
    try:
      launch.main(parse_flags(['launch.py', *arguments]))
      status = 0
    except UserError as error:
      print(f'error: {error}', file=sys.stderr)
      status = 1
    except Exception:
      traceback.print_exc()
      status = 2
    sys.stderr.flush()
    said.seek(0)
    return Result(status, said.read().decode(errors='replace'))


@contextlib.contextmanager
def _redirected(file):
  """Lets stderr go to a file, of libraries too, and stdout nowhere."""
  kept = [os.dup(number) for number in (1, 2)]
  with open(os.devnull, 'w') as nowhere:
    os.dup2(nowhere.fileno(), 1)
    os.dup2(file.fileno(), 2)
    try:
      with (
        open(os.dup(2), 'w') as errors,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(errors),
      ):
        yield
    finally:
      for number, handle in zip((1, 2), kept, strict=True):
        os.dup2(handle, number)
        os.close(handle)


def call(arguments, program=PROGRAM):
  """Runs the program as a user does."""
  process = start(arguments, program)
  said = process.communicate(timeout=600)[1]
  return Result(process.returncode, said.decode(errors='replace'))


def start(arguments, program):
  """Starts the program, in a process group of its own."""
  paths = os.pathsep.join(
    map(str, (ROOT, ROOT / 'tests/support', ROOT / 'tests/trials'))
  )
  return subprocess.Popen(
    [sys.executable, *program, *arguments],
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': paths},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    start_new_session=True,
  )


def complaints(folder, victim, result):
  """Yields what is wrong with what a call with a broken input came to."""
  # But for progress bars.
  lines = re.split(r'[\r\n]+', re.sub(r'[^\r\n]*frame(/s)?\]', '', result.said))
  lines = [line for line in lines if line.strip()]
  output = folder / 'out' / 'colour.mkv'
  there = {x for x in output.parent.glob('*')}
  if result.status:
    last = lines.pop() if lines else 'nothing said'
    if result.status != 1 or not last.startswith('error: '):
      yield f'ends with status {result.status}: {last}'
    if there:
      yield f'leaves {there}'
  elif there != {output}:
    yield f'leaves {there}'
  elif victim in FILMS or victim == 'frames':
    counts = [_count(path) for path in (folder / victim, output)]
    if counts[0] != counts[1]:
      yield f'has {counts[1]} frames, not {counts[0]}'
  for line in lines:
    # libjpeg cannot be silenced where it mends a picture.
    if not line.startswith(('warning: ', 'Corrupt JPEG data')):
      yield f'says: {line}'


def _count(path):
  with video.VideoReader(path) as reader:
    return sum(1 for _ in reader)


def broken(clips, work, numbers, seed, by_process):
  """Tries broken inputs.

  Args:
    clips: videos to make inputs of.
    work: an empty folder.
    numbers: of the cases.
    seed: of the draws.
    by_process: tells by its number whether a case is called as users do; else it
      is within this process.

  Yields:
    The case in words, its `Result`, and what is wrong with that, in words.
  """
  good = work / 'good'
  good.mkdir()
  write_inputs(good, clips)
  load = VideoColorizer.from_checkpoint
  loaded = load(good / 'weights')

  def from_checkpoint(path, overrides):
    whole = Path(path) == good / 'weights'
    return loaded if whole else load(path, overrides)

  for number in numbers:
    rng = random.Random(f'{seed} {number}')
    victim = VICTIMS[number % len(VICTIMS)]
    fault = FAULTS[(number + number // len(VICTIMS)) % len(FAULTS)]
    folder = work / f'{number:03d}'
    shutil.copytree(good, folder)
    path = spoil(folder, victim, fault, rng)
    weights = (folder if victim == 'weights' else good) / 'weights'
    arguments = [*arguments_for(victim, folder), f'--checkpoint={weights}']
    if by_process(number):
      result = call(arguments)
    else:
      with mock.patch.object(
        VideoColorizer, 'from_checkpoint', from_checkpoint
      ):
        result = call_here(arguments)
    wrong = list(complaints(folder, victim, result))
    yield f'{number}: {path.relative_to(folder)} {fault}', result, wrong
    if not wrong:
      shutil.rmtree(folder)


# --- Kills ---

# What the program does to files, by Python's audit events.
TOUCHES = {
  *('open', 'os.link', 'os.mkdir', 'os.remove', 'os.rename', 'os.rmdir'),
  'shutil.rmtree',
}


def die_at(count):
  """Runs the program, and kills it as it touches files for so many times.

  Args:
    count: how often it may touch files of --output's folder before; None: as often
      as it likes. In the end that is said.
  """
  output = next(x for x in sys.argv if x.startswith('--output='))
  folder = str(Path(output.partition('=')[2]).parent)
  touched = 0

  def hook(event, args):
    nonlocal touched
    if event not in TOUCHES or not isinstance(args[0], str | Path):
      return
    # What is removed with its folder has no path.
    if str(args[0]).startswith(folder) or not os.path.isabs(args[0]):
      if touched == count:
        os.kill(os.getpid(), signal.SIGKILL)
      touched += 1

  sys.addaudithook(hook)
  launch.main(parse_flags(sys.argv))
  print(f'touched {touched}', file=sys.stderr)


def kill(clips, work, numbers, seed):
  """Kills runs and starts them again; the first is not disturbed.

  Args:
    clips: videos to make a film of.
    work: an empty folder.
    numbers: of the kills.
    seed: of the draws.

  Yields:
    As `broken`: the kill in words, the last run's `Result`, what is wrong.
  """
  film = work / 'film.mkv'
  starts = soak.write_film(film, clips[:3], 2 * FRAMES)
  tiny_weights.write(work / 'weights')
  stills = work / 'stills'
  stills.mkdir()
  with video.VideoReader(film) as reader:
    for number, frame in enumerate(reader):
      if number in {*starts, 12}:
        video.write_image(stills / f'ref_{number:05d}.png', frame.rgb)

  def dying(count):
    return '-c', f'import faults; faults.die_at({count})'

  def arguments(out):
    return [
      '--mode=colorize',
      *(f'--video={film}', f'--references={stills}'),
      *(f'--checkpoint={work / "weights"}', '--config.retrieval.network=vit'),
      *(f'--output={out / "colour.mp4"}', f'--compare={out / "both"}'),
      f'--confidence={out / "sure.mkv"}',
    ]

  whole = work / 'whole'
  began = time.monotonic()
  result = call(arguments(whole), dying(None))
  seconds = time.monotonic() - began
  if result.status:
    raise UserError(result.said)
  touches = int(re.search(r'touched (\d+)', result.said)[1])
  expected = _contents(whole)
  yield f'nobody disturbs: {seconds:.0f} s, {touches} touches', result, []

  for number in numbers:
    rng = random.Random(f'{seed} {number}')
    out = work / f'{number:03d}'
    began = time.monotonic()
    if number % 2:
      touch = rng.randrange(touches)
      moment = f'touch {touch} of {touches}'
      process = start(arguments(out), dying(touch))
    else:
      delay = seconds * rng.random()
      moment = f'after {delay:.1f} s'
      process = start(arguments(out), PROGRAM)
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    said = process.communicate()[1].decode(errors='replace')
    result = Result(process.returncode, said)
    left = sorted(x.name for x in out.iterdir()) if out.exists() else []
    if _contents(out) == expected:
      moment += ', when all was done'
      seconds = min(seconds, time.monotonic() - began)
    elif result.status == -signal.SIGKILL:
      result = call(arguments(out))
    wrong = []
    if _contents(out) != expected:
      wrong.append(f'ends with status {result.status} and other outputs')
    yield f'{number}: {moment}; there was {left}', result, wrong
    if not wrong:
      shutil.rmtree(out)


def _contents(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('what', choices=['broken', 'kill'])
  parser.add_argument('--clips', type=Path, required=True, help='videos')
  parser.add_argument('--count', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', type=int, nargs='*', help='these cases alone')
  args = parser.parse_args()
  clips = soak.list_clips(args.clips)
  numbers = range(args.count) if args.only is None else args.only
  with tempfile.TemporaryDirectory() as folder:
    if args.what == 'kill':
      results = kill(clips, Path(folder), numbers, args.seed)
    else:
      results = broken(
        clips, Path(folder), numbers, args.seed, lambda number: number % 10 == 3
      )
    refused = bad = 0
    for case, result, wrong in results:
      refused += result.status == 1
      bad += bool(wrong)
      said = re.findall('(?:error|warning): .*', result.said)
      print(case, *(said or ['goes well']), sep='\n  ', flush=True)
      for text in wrong:
        print(f'  WRONG: {text}', flush=True)
  print(f'{len(numbers)} cases: {refused} refused; {bad} wrong')
  sys.exit(bool(bad))


if __name__ == '__main__':
  main()
