"""Measures how well dissolves and fades are found and colorized.

  PYTHONPATH=. python tests/trials/transitions.py --clips=FOLDER [--every=8] [--colors=FILE,FILE...]

joins the clips of a folder, each a single shot, with known transitions: none, a cut, a
dissolve, or a fade to black or white and back, of 5 to 30 frames. It prints how many of
them are found. Thresholds were chosen on the clips with even numbers; the figures are of
the others, or of each eighth of them. With `--colors`, pairs of the named clips dissolve
in 12 frames and are colorized from the first frame of each clip; it prints the PSNR of
the frames of the dissolve, matched within 192x112.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from vitexco_jax.evaluation import metrics
from vitexco_jax.inference import film
from vitexco_jax.inference.shot_plan import Choice, Plan, Shot
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import dissolves, video

ALONE = 6  # Frames of a clip that always remain without a transition.
BLANK = 6  # Frames between two fades.
LEVELS = {'black': 16, 'white': 240}
COLORED = 12  # Frames of a dissolve that is colorized.


def read(path):
  with video.VideoReader(path) as reader:
    return np.stack([frame.rgb for frame in reader])


def mix(first, second):
  """Dissolves frames [n, ...] into others."""
  n = max(len(first), len(second))
  share = np.arange(1, n + 1).reshape(-1, 1, 1, 1) / (n + 1)
  return np.uint8(np.rint((1 - share) * first + share * second))


def join(kind, first, second, n):
  """Returns frames and the (start, stop) of their transitions."""
  n = min(n, len(first) - ALONE, len(second) - ALONE)
  start, stop = len(first) - n, len(first)
  if kind == 'none':
    return first, []
  if kind == 'cut':
    return np.concatenate([first, second]), []
  if kind == 'dissolve':
    parts = first[:-n], mix(first[-n:], second[:n]), second[n:]
    return np.concatenate(parts), [(start, stop)]
  blank = np.full((BLANK, *first.shape[1:]), LEVELS[kind], np.uint8)
  fades = mix(first[-n:], blank[:1]), blank, mix(blank[:1], second[:n])
  again = stop + BLANK
  truth = [(start, stop), (again, again + n)]
  return np.concatenate([first[:-n], *fades, second[n:]]), truth


def overlap(one, other):
  inner = min(one[1], other[1]) - max(one[0], other[0])
  return inner / (max(one[1], other[1]) - min(one[0], other[0]))


def measure_detection(paths):
  rng = np.random.default_rng(0)
  clips = [small(path) for path in paths]
  totals = np.zeros(3, int)
  for kind in ('none', 'cut', 'dissolve', 'black', 'white'):
    counts, errors = np.zeros(3, int), []
    for clip in clips:
      other = clips[rng.integers(len(clips))]
      frames, truth = join(kind, clip, other, int(rng.integers(5, 31)))
      marked = dissolves.mark_shots(iter(frames))
      found = [x[:2] for _, _, x in marked if x is not None]
      pairs = [(x, y) for x in truth for y in found if overlap(x, y) > 0.5]
      errors += [
        abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True)
      ]
      counts += [len(pairs), len(found) - len(pairs), len(truth)]
    totals += counts
    mean = np.mean(errors) if errors else 0
    print(
      f'{kind}: {counts[0]} of {counts[2]} found in {len(clips)} films, '
      f'{counts[1]} false, mean error of an end {mean:.2f} frames'
    )
  right, false, truth = totals
  print(f'precision {right / (right + false):.3f}, recall {right / truth:.3f}')


def small(path):
  frames = read(path)
  scaled = (
    cv2.resize(x, (160, 90), None, 0, 0, cv2.INTER_AREA) for x in frames
  )
  grays = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in scaled]
  return np.repeat(np.stack(grays)[..., None], 3, -1)


def measure_colors(paths, folder):
  colorizer = VideoColorizer.from_checkpoint(None, {'use.size': (112, 192)})
  rows = []
  for one, other in zip(paths[::2], paths[1::2], strict=True):
    first, second = read(one)[: 2 * COLORED], read(other)[: 2 * COLORED]
    frames, ((start, stop),) = join('dissolve', first, second, COLORED)
    source = folder / 'film.mkv'
    height, width = frames.shape[1:3]
    form, coding = video.Format(height, width), video.Coding('ffv1')
    with video.VideoWriter(source, form, True, coding=coding) as writer:
      for rgb in frames:
        writer.write(video.Frame(rgb))
    stills = []
    for name, rgb in (('a', first[0]), ('b', second[0])):
      stills.append(str(folder / f'{name}.png'))
      video.write_image(Path(stills[-1]), rgb)
    bound, free = (Choice(stills[0], frame=0),), (Choice(stills[1]),)
    count, middle = len(frames), (start + stop) // 2
    plans = {
      'cut in the middle': (
        Shot(0, middle, bound),
        Shot(middle, count, free),
      ),
      'dissolve': (
        Shot(0, stop, bound, dissolve=COLORED),
        Shot(stop, count, free),
      ),
    }
    row = {}
    for name, shots in plans.items():
      plan = Plan(str(source), width, height, count, form.frame_rate, shots)
      options = film.Options(coding)
      output = folder / 'out.mkv'
      job = film.Film([colorizer], source, plan, output, True, options)
      for _ in job.run():
        pass
      colored = read(output)
      row[name] = np.mean(
        [metrics.psnr(colored[i], frames[i]) for i in range(start, stop)]
      )
    rows.append(row)
    print({name: round(float(x), 2) for name, x in row.items()}, flush=True)
  for name in rows[0]:
    print(f'{name}: {np.mean([row[name] for row in rows]):.2f} dB')


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--clips', type=Path)
  parser.add_argument('--every', type=int, default=1)
  parser.add_argument('--colors')
  args = parser.parse_args()
  if args.clips is not None:
    measure_detection(sorted(args.clips.iterdir())[1::2][:: args.every])
  if args.colors is not None:
    with tempfile.TemporaryDirectory() as folder:
      paths = [Path(path) for path in args.colors.split(',')]
      measure_colors(paths, Path(folder))


if __name__ == '__main__':
  main()
