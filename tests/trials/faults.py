"""Trials with broken inputs and killed runs, on films made from any videos.

  PYTHONPATH=.:tests/support:tests/trials python tests/trials/faults.py broken --clips=FOLDER [--count=100]
  PYTHONPATH=.:tests/support:tests/trials python tests/trials/faults.py kill --clips=FOLDER [--count=20]

`broken` truncates inputs of all kinds, flips bits in them, swaps or empties them, and
colorizes with each: a tenth of the cases in a new process, as users do, and the rest in
this process. Each run must either write all frames that can be decoded, or fail with one
sentence. It must print nothing else and leave no other files.

`kill` ends a run by SIGKILL, at a random time or when it accesses a file, and starts it
again. The outputs must equal those of an uninterrupted run, byte for byte.

Both use random `:tiny` weights and draw cases by --seed. They print the faults of each
case and exit with status 1 if there are any. --only=N repeats case N.
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
  *FILMS,
  *FILMS,
  *STILLS,
  *STILLS,
  'frames',
  'plan.json',
  'list.txt',
  'list.csv',
  'weights',
]
FAULTS = ['cut', 'flipped', 'swapped', 'cut', 'flipped', 'empty']


class Result(NamedTuple):
  """Exit status and messages of a run."""

  status: int
  messages: str  # On stderr.


def write_inputs(folder, clips):
  """Writes valid inputs of all kinds."""
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
  film_plan = plan.same_for_all(surveyed, [str(folder / 'still.png')])
  plan.write(folder / 'plan.json', film_plan)
  (folder / 'list.txt').write_text('still.png\nstill.jpg\n')
  (folder / 'list.csv').write_text('file,frame\nstill.png,3\nstill.jpg,\n')
  tiny_weights.write(folder / 'weights')


def damage(folder, victim, fault, rng):
  """Damages an input, or a file of it; returns that file."""
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
  """Returns the flags of a call that reads an input."""
  paths = {
    'video': folder / 'film.mkv',
    'reference': folder / 'still.png',
    'output': folder / 'out' / 'color.mkv',
  }
  if victim in FILMS or victim == 'frames':
    paths['video'] = folder / victim
  elif victim in STILLS:
    paths['reference'] = folder / victim
  elif victim != 'weights':
    del paths['reference']
    name = 'plan' if victim == 'plan.json' else 'references'
    paths[name] = folder / victim
  flags = [f'--{name}={path}' for name, path in paths.items()]
  flags += ['--nokeep-work']
  return ['--mode=colorize', *flags, '--config.retrieval.network=vit']


def call_here(arguments):
  """Runs the program in this process, which saves its startup."""
  with (
    tempfile.TemporaryFile() as messages,
    flagsaver.flagsaver(),
    _redirected(messages),
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
    messages.seek(0)
    return Result(status, messages.read().decode(errors='replace'))


@contextlib.contextmanager
def _redirected(file):
  """Redirects stderr to a file, also that of libraries, and discards stdout."""
  saved = [os.dup(number) for number in (1, 2)]
  with open(os.devnull, 'w') as null:
    os.dup2(null.fileno(), 1)
    os.dup2(file.fileno(), 2)
    try:
      with (
        open(os.dup(2), 'w') as errors,
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(errors),
      ):
        yield
    finally:
      for number, handle in zip((1, 2), saved, strict=True):
        os.dup2(handle, number)
        os.close(handle)


def call(arguments, program=PROGRAM):
  """Runs the program as a user does."""
  return _wait(start(arguments, program))


def start(arguments, program):
  """Starts the program in its own process group."""
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


def find_faults(folder, victim, result):
  """Yields the faults of a run with a broken input."""
  # Without progress bars.
  messages = re.sub(r'[^\r\n]*frame(/s)?\]', '', result.messages)
  lines = re.split(r'[\r\n]+', messages)
  lines = [line for line in lines if line.strip()]
  output = folder / 'out' / 'color.mkv'
  files = set(output.parent.glob('*'))
  if result.status:
    last = lines.pop() if lines else 'no message'
    if result.status != 1 or not last.startswith('error: '):
      yield f'ends with status {result.status}: {last}'
    if files:
      yield f'leaves {files}'
  elif files != {output}:
    yield f'leaves {files}'
  elif victim in FILMS or victim == 'frames':
    counts = [_count(path) for path in (folder / victim, output)]
    if counts[0] != counts[1]:
      yield f'has {counts[1]} frames, not {counts[0]}'
  for line in lines:
    # Messages of libjpeg about repaired pictures cannot be turned off.
    if not line.startswith(('warning: ', 'Corrupt JPEG data')):
      yield f'prints: {line}'


def _count(path):
  with video.VideoReader(path) as reader:
    return sum(1 for _ in reader)


def broken(clips, work, numbers, seed, by_process):
  """Colorizes with broken inputs.

  Args:
    clips: videos from which inputs are made.
    work: an empty folder.
    numbers: of the cases.
    seed: of the random choices.
    by_process: whether the case with this number runs in a new process.

  Yields:
    A description of the case, its `Result`, and a list of its faults.
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
    path = damage(folder, victim, fault, rng)
    weights = (folder if victim == 'weights' else good) / 'weights'
    arguments = [*arguments_for(victim, folder), f'--checkpoint={weights}']
    if by_process(number):
      result = call(arguments)
    else:
      with mock.patch.object(
        VideoColorizer, 'from_checkpoint', from_checkpoint
      ):
        result = call_here(arguments)
    wrong = list(find_faults(folder, victim, result))
    yield f'{number}: {path.relative_to(folder)} {fault}', result, wrong
    if not wrong:
      shutil.rmtree(folder)


# --- Kills ---

# Python's audit events for access to files.
ACCESSES = {
  'open',
  'os.link',
  'os.mkdir',
  'os.remove',
  'os.rename',
  'os.rmdir',
  'shutil.rmtree',
}


def die_at(count):
  """Runs the program, and kills it at its `count`-th access to files.

  Args:
    count: number of accesses to files in the folder of --output before the kill;
      None never kills. At the end, the number of accesses is printed.
  """
  output = next(x for x in sys.argv if x.startswith('--output='))
  folder = str(Path(output.partition('=')[2]).parent)
  accesses = 0

  def hook(event, args):
    nonlocal accesses
    if event not in ACCESSES or not isinstance(args[0], str | Path):
      return
    # Files that are removed with their folder have no path.
    if str(args[0]).startswith(folder) or not os.path.isabs(args[0]):
      if accesses == count:
        os.kill(os.getpid(), signal.SIGKILL)
      accesses += 1

  sys.addaudithook(hook)
  launch.main(parse_flags(sys.argv))
  print(f'accesses: {accesses}', file=sys.stderr)


def kill(clips, work, numbers, seed):
  """Kills runs and resumes them; the first run is not killed.

  Args:
    clips: videos from which a film is made.
    work: an empty folder.
    numbers: of the kills.
    seed: of the random choices.

  Yields:
    A description of the kill, the `Result` of the last run, and a list of faults.
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

  def killed_at(count):
    return '-c', f'import faults; faults.die_at({count})'

  def arguments(out):
    return [
      '--mode=colorize',
      '--nokeep-work',
      f'--video={film}',
      f'--references={stills}',
      f'--checkpoint={work / "weights"}',
      '--config.retrieval.network=vit',
      f'--output={out / "color.mp4"}',
      f'--compare={out / "both"}',
      f'--confidence={out / "sure.mkv"}',
    ]

  whole = work / 'whole'
  began = time.monotonic()
  result = call(arguments(whole), killed_at(None))
  seconds = time.monotonic() - began
  if result.status:
    raise UserError(result.messages)
  accesses = int(re.search(r'accesses: (\d+)', result.messages)[1])
  expected = _contents(whole)
  yield f'uninterrupted: {seconds:.0f} s, {accesses} accesses', result, []

  for number in numbers:
    rng = random.Random(f'{seed} {number}')
    out = work / f'{number:03d}'
    began = time.monotonic()
    if number % 2:
      access = rng.randrange(accesses)
      moment = f'at access {access} of {accesses}'
      process = start(arguments(out), killed_at(access))
    else:
      delay = seconds * rng.random()
      moment = f'after {delay:.1f} s'
      process = start(arguments(out), PROGRAM)
      _kill_after(delay, process)
    result = _wait(process)
    files = sorted(x.name for x in out.iterdir()) if out.exists() else []
    if _contents(out) == expected:
      moment += ', after the end'
      seconds = min(seconds, time.monotonic() - began)
    elif result.status == -signal.SIGKILL:
      result = call(arguments(out))
    wrong = []
    if _contents(out) != expected:
      wrong.append(f'ends with status {result.status} and different outputs')
    yield f'{number}: {moment}; files: {files}', result, wrong
    if not wrong:
      shutil.rmtree(out)


def _kill_after(seconds, process):
  """Kills a process and its children, unless it ends earlier."""
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(seconds)
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)


def _wait(process):
  """Waits for the end of a process; returns its `Result`."""
  messages = process.communicate(timeout=600)[1]
  return Result(process.returncode, messages.decode(errors='replace'))


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
  parser.add_argument('--only', type=int, nargs='*', help='only these cases')
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
      messages = re.findall('(?:error|warning): .*', result.messages)
      print(case, *(messages or ['no messages']), sep='\n  ', flush=True)
      for text in wrong:
        print(f'  FAULT: {text}', flush=True)
  print(f'{len(numbers)} cases: {refused} refused; {bad} with faults')
  sys.exit(bool(bad))


if __name__ == '__main__':
  main()
