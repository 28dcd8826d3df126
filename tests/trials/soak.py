"""Colorizes a film of one hour; checks that nothing is lost and memory is constant.

  PYTHONPATH=.:tests/support python tests/trials/soak.py --clips=FOLDER --work=FOLDER [--hours=1]

loops the videos of a folder into a film of 96x64 pixels at 25 frames per second, in
which each video is a shot with its own tone. It colorizes the film as a user would, with
random `:tiny` weights and a picture of each clip as references, and compares the two
films frame by frame and sample by sample. `memory.csv` has the memory of the program
over time. An existing film is used again, and an interrupted run resumes.
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
CODECS = {  # Of video and audio, and the sample format of the audio.
  '.avi': ('mpeg4', 'mp3', 's16p'),
  '.webm': ('libvpx', 'libopus', 'flt'),
}


def write_film(path, clips, frames, stills=None):
  """Loops clips into a film with sound.

  Args:
    path: a video file to write; its suffix selects container and codecs.
    clips: video files.
    frames: number of frames of the film.
    stills: a folder for the middle frame of each clip, or None.

  Returns:
    The first frame of each shot.
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
  """Returns all videos of a folder."""
  return sorted(x for x in folder.iterdir() if x.suffix in video.VIDEO_SUFFIXES)


def _shot(clip):
  with video.VideoReader(clip) as reader:
    return [
      cv2.resize(frame.rgb, SIZE[::-1], interpolation=cv2.INTER_AREA)
      for frame in reader
    ]


def colorize(film, stills, output, weights):
  """Starts the program; returns the process."""
  return subprocess.Popen(
    [
      sys.executable,
      str(ROOT / 'launch.py'),
      '--mode=colorize',
      f'--video={film}',
      f'--references={stills}',
      f'--output={output}',
      f'--checkpoint={weights}',
      '--working-size=64x96',
      '--config.retrieval.network=vit',
    ],
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )


def watch(process, path, output):
  """Logs the memory of a program until it ends: [(seconds, blocks, MB)]."""
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
  """Prints how two films differ in frames, timestamps, and audio."""
  with video.VideoReader(film) as before, video.VideoReader(output) as after:
    ticks = before.format.time_base, after.format.time_base
    frames = missing = late = 0
    worst = 0.0
    for a, b in itertools.zip_longest(
      video.prefetch(before, 32), video.prefetch(after, 32)
    ):
      if a is None or b is None:
        missing += 1
        continue
      frames += 1
      late += a.pts * ticks[0] != b.pts * ticks[1]
      luminance = [
        cv2.cvtColor(x.rgb, cv2.COLOR_RGB2LAB)[..., 0] for x in (a, b)
      ]
      worst = max(worst, cv2.absdiff(*luminance).mean() / 2.55)
  print(
    f'frames: {frames}; missing or too many: {missing}; with another timestamp: '
    f'{late}; mean difference in L of the worst frame: {worst:.2f}'
  )
  (start, sound), (new_start, new_sound) = samples(film), samples(output)
  same = np.array_equal(sound, new_sound)
  print(
    f'samples: {len(sound)} and {len(new_sound)}, '
    f'{"equal" if same else "not equal"}; the first at {float(start)} and '
    f'{float(new_start)} s'
  )


def samples(path):
  """Returns the start of the audio of a film, in seconds, and its samples.

  Raises:
    ValueError: there is a gap.
  """
  with av.open(str(path)) as container:
    start, pieces, expected = None, [], None
    for frame in container.decode(audio=0):
      moment = frame.pts * frame.time_base
      if expected is not None and abs(moment - expected) > frame.time_base:
        raise ValueError(f'{path}: audio at {moment} s, not at {expected} s')
      start = moment if start is None else start
      expected = moment + Fraction(frame.samples, frame.sample_rate)
      pieces.append(frame.to_ndarray()[0])
  return start, np.concatenate(pieces)


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--clips', type=Path, required=True, help='videos')
  parser.add_argument(
    '--work', type=Path, required=True, help='folder of all files'
  )
  parser.add_argument('--hours', type=float, default=1.0)
  args = parser.parse_args()
  args.work.mkdir(parents=True, exist_ok=True)
  film, output = args.work / 'film.mp4', args.work / 'color.mp4'
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
  print(f'colorized in {time.monotonic() - began:.0f} s')
  for tenth in np.array_split(np.array(rows), 10):
    if len(tenth):
      print('  {} s, {} blocks, {} MB'.format(*tenth.max(0)))
  compare(film, output)


if __name__ == '__main__':
  main()
