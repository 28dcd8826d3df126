"""A film of an hour, coloured in one go: is anything lost, does memory grow?

  PYTHONPATH=.:tests/support python tests/trials/soak.py --clips=FOLDER --work=FOLDER [--hours=1]

loops the videos of a folder into a film of 96x64 pixels at 25 frames a second,
with a cut and a tone of its own for each; colours it as a user would, with random
`:tiny` weights and a picture of each clip to choose from; and compares the two
films frame by frame and sample by sample. `memory.csv` tells how much memory the
program took when. A film that is there already is taken as it is, and a run that
was stopped goes on.
"""

import argparse
import csv
import itertools
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import tiny_weights

from vitexco_jax.media import video

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 96)  # Height and width.
RATE = 25
SOUND_RATE = 48_000
CODECS = {  # Of picture and sound, and how the latter takes samples.
  '.avi': ('mpeg4', 'mp3', 's16p'),
  '.webm': ('libvpx', 'libopus', 'flt'),
}


def write_film(path, clips, frames, stills=None):
  """Loops clips into a film with sound.

  Args:
    path: a video file to write; its suffix tells container and codecs.
    clips: video files.
    frames: how many the film is to have.
    stills: a folder to put the middle frame of each clip into, if any.

  Returns:
    The frames that shots begin with.
  """
  shots = [_shot(clip) for clip in clips]
  if stills is not None:
    stills.mkdir(exist_ok=True)
    for clip, shot in zip(clips, shots, strict=True):
      video.write_image(stills / f'{clip.stem}.png', shot[len(shot) // 2])
  codecs = CODECS.get(path.suffix, ('libx264', 'aac', 'fltp'))
  starts, count = [], 0
  with av.open(str(path), 'w') as out:
    height, width = SIZE
    picture = out.add_stream(
      codecs[0], rate=RATE, width=width, height=height, pix_fmt='yuv420p'
    )
    sound = out.add_stream(codecs[1], rate=SOUND_RATE, layout='mono')
    ticks = np.arange(SOUND_RATE // RATE)
    for number, shot in enumerate(itertools.cycle(shots)):
      starts.append(count)
      for rgb in shot[: frames - count]:
        out.mux(picture.encode(av.VideoFrame.from_ndarray(rgb, 'rgb24')))
        pitch = (200 + number * 37 % 2000) * 2 * np.pi / SOUND_RATE
        tone = np.int16(9000 * np.sin(pitch * ticks))
        if codecs[2] != 's16p':
          tone = np.float32(tone / 32768)
        frame = av.AudioFrame.from_ndarray(tone[None], codecs[2], 'mono')
        frame.sample_rate, frame.pts = SOUND_RATE, count * len(ticks)
        out.mux(sound.encode(frame))
        count += 1
      if count == frames:
        break
    out.mux(picture.encode(None))
    out.mux(sound.encode(None))
  return starts


def list_clips(folder):
  """All videos of a folder."""
  return sorted(x for x in folder.iterdir() if x.suffix in video.VIDEO_SUFFIXES)


def _shot(clip):
  with video.VideoReader(clip) as reader:
    return [
      cv2.resize(frame.rgb, SIZE[::-1], interpolation=cv2.INTER_AREA)
      for frame in reader
    ]


def colorize(film, stills, output, weights):
  """Starts the program."""
  return subprocess.Popen(
    [
      *(sys.executable, str(ROOT / 'launch.py'), '--mode=colorize'),
      *(f'--video={film}', f'--references={stills}', f'--output={output}'),
      *(f'--checkpoint={weights}', '--working-size=64x96'),
      '--config.retrieval.network=vit',
    ],
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )


def watch(process, path, output):
  """Notes the memory of a program until it ends: [(seconds, blocks, MB)]."""
  part = output.with_name(f'{output.name}.part')
  began, rows = time.monotonic(), []
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(('seconds', 'blocks', 'megabytes'))
    while process.poll() is None:
      status = Path(f'/proc/{process.pid}/status').read_text()
      if 'VmRSS:' in status:
        kilobytes = int(status.split('VmRSS:')[1].split()[0])
        blocks = sum(1 for _ in part.glob('[0-9]*.json'))
        seconds = round(time.monotonic() - began)
        rows.append((seconds, blocks, kilobytes // 1000))
        writer.writerow(rows[-1])
        file.flush()
      time.sleep(5)
  return rows


def compare(film, output):
  """Prints where two films differ, in frames, times and sound."""
  with video.VideoReader(film) as ours, video.VideoReader(output) as theirs:
    ticks = ours.format.time_base, theirs.format.time_base
    frames = missing = late = 0
    worst = 0.0
    for a, b in itertools.zip_longest(
      video.prefetch(ours, 32), video.prefetch(theirs, 32)
    ):
      if a is None or b is None:
        missing += 1
        continue
      frames += 1
      late += a.pts * ticks[0] != b.pts * ticks[1]
      greys = [cv2.cvtColor(x.rgb, cv2.COLOR_RGB2LAB)[..., 0] for x in (a, b)]
      worst = max(worst, cv2.absdiff(*greys).mean() / 2.55)
  print(
    f'frames: {frames}; missing or too many: {missing}; at another time: '
    f'{late}; mean difference in L, of the worst frame: {worst:.2f}'
  )
  sounds = [samples(path) for path in (film, output)]
  (begins, ours), (again, theirs) = sounds
  same = len(ours) == len(theirs) and bool((ours == theirs).all())
  print(
    f'samples: {len(ours)} and {len(theirs)}, '
    f'{"equal" if same else "not equal"}; the first at {float(begins)} and '
    f'{float(again)} s'
  )


def samples(path):
  """When the sound of a film begins, in seconds, and all of it decoded.

  Raises:
    ValueError: there is a gap in it.
  """
  with av.open(str(path)) as container:
    start, pieces, due = None, [], None
    for frame in container.decode(audio=0):
      at = frame.pts * frame.time_base
      if due is not None and abs(at - due) > frame.time_base:
        raise ValueError(f'{path}: sound is due at {due} and comes at {at}')
      start = at if start is None else start
      due = at + Fraction(frame.samples, frame.sample_rate)
      pieces.append(frame.to_ndarray()[0])
  return start, np.concatenate(pieces)


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--clips', type=Path, required=True, help='videos')
  parser.add_argument('--work', type=Path, required=True, help='what is made')
  parser.add_argument('--hours', type=float, default=1.0)
  args = parser.parse_args()
  args.work.mkdir(parents=True, exist_ok=True)
  film, output = args.work / 'film.mp4', args.work / 'colour.mp4'
  stills, weights = args.work / 'stills', args.work / 'weights'
  clips = list_clips(args.clips)
  if not film.exists():
    frames = round(args.hours * 3600 * RATE)
    partial = args.work / 'film.partial.mp4'
    starts = write_film(partial, clips, frames, stills)
    partial.rename(film)
    print(f'film: {frames} frames, {len(starts)} shots of {len(clips)} clips')
  if not weights.exists():
    tiny_weights.write(weights)
  began = time.monotonic()
  process = colorize(film, stills, output, weights)
  rows = watch(process, args.work / 'memory.csv', output)
  if process.returncode:
    sys.exit(process.returncode)
  print(f'coloured in {time.monotonic() - began:.0f} s')
  for tenth in np.array_split(np.array(rows), 10):
    if len(tenth):
      print('  {} s, {} blocks, {} MB'.format(*tenth.max(0)))
  compare(film, output)


if __name__ == '__main__':
  main()
