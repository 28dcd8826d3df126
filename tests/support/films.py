"""Helpers for tests of films: frames, plans, and runs with a `Painter`."""

import contextlib
from fractions import Fraction

import av
import numpy as np
from painter import SIZE, Painter
from skimage import color as skcolor

from vitexco_jax.inference import film
from vitexco_jax.inference.plan import Plan, Shot
from vitexco_jax.media import video

COUNT = 23


def tint(a, size=SIZE):
  lab = np.broadcast_to(np.float32([60, a, 0]), (*size, 3))
  return np.uint8(np.round(skcolor.lab2rgb(lab) * 255))


def mean_ab(rgb):
  return skcolor.rgb2lab(rgb)[..., 1:].mean((0, 1))


def gray_frame(i):
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  shade = np.uint8(110 + 25 * np.sin((x + 2 * y) / 9 + i / 3))
  return np.repeat(shade[..., None], 3, -1)


LAST = 500  # Milliseconds that the last frame is shown.


STAMPS = [0, 40, 80, 130, 170, 300, 310, *range(340, 980, 40)]


def make_plan(source, *shots):
  return Plan(str(source), SIZE[1], SIZE[0], COUNT, Fraction(25), shots)


def one_shot(source, *references):
  return make_plan(source, Shot(0, COUNT, references))


def run_film(source, made, output, stop=None, painter=None, **kwargs):
  """Colorizes a film up to step `stop`; returns the steps and the `Film`."""
  painters = painter if isinstance(painter, list) else [painter or Painter()]
  job = film.Film(painters, source, made, output, **kwargs)
  steps = []
  with contextlib.closing(job.run()) as run:
    for step in run:
      steps.append(step)
      if stop is not None and len(steps) == stop:
        break
  return steps, job


def packets(path, kind):
  with av.open(str(path)) as container:
    stream = next(s for s in container.streams if s.type == kind)
    return [
      (packet.pts * packet.time_base, bytes(packet))
      for packet in container.demux(stream)
      if packet.size
    ]


def lossless(**kwargs):
  return film.Options(video.Coding('ffv1'), **kwargs)


def read_frames(path):
  with video.VideoReader(path) as reader:
    return [frame.rgb for frame in reader]


def contents(path):
  paths = sorted(path.iterdir()) if path.is_dir() else [path]
  return [(x.name, x.read_bytes()) for x in paths]
