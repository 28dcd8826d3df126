"""frame_access: the same frames as those of a full pass."""

import av
import numpy as np
import pytest
from documents import picture

from vitexco_jax.errors import UserError
from vitexco_jax.media import frame_access, video

COUNT = 70


@pytest.fixture(scope='module', params=['.mp4', '.mkv', '.avi', '.mpg', '.ts'])
def film(request, tmp_path_factory):
  """A video with a few key frames, B-frames, and a late start."""
  path = tmp_path_factory.mktemp('film') / f'film{request.param}'
  codec = 'mpeg1video' if request.param == '.mpg' else 'libx264'
  options = {} if request.param == '.mpg' else {'g': '12', 'bf': '2'}
  with av.open(str(path), 'w') as out:
    stream = out.add_stream(codec, rate=25, width=96, height=64)
    stream.pix_fmt, stream.options = 'yuv420p', options
    for number in range(COUNT):
      rgb = np.roll(picture(1), 2 * number, 1)
      frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
      frame.pts = number + 5
      out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
  return path


def _read_all(path):
  with video.VideoReader(path) as reader:
    tick = reader.format.tick
    frames = [*reader]
  first = frames[0].pts
  return [x.rgb for x in frames], [
    float((x.pts - first) * tick) for x in frames
  ]


def test_frames_are_those_of_a_full_pass(film):
  frames, seconds = _read_all(film)
  for number in (0, 1, 30, 50, len(frames) - 3):
    times = seconds[number : number + 3]
    actual = frame_access.read_frames(film, number, times)
    np.testing.assert_array_equal(actual, frames[number : number + 3])


def test_most_formats_are_not_read_from_the_start(film, monkeypatch):
  frames, seconds = _read_all(film)
  opened = []
  monkeypatch.setattr(
    frame_access,
    'VideoReader',
    lambda *x, **y: opened.append(x) or video.VideoReader(*x, **y),
  )
  frame_access.read_frames(film, 60, seconds[60:62])
  # Clocks of a recording may jump; AVI with B-frames has no time stamps.
  assert bool(opened) == (film.suffix in ('.mpg', '.ts', '.avi'))


def test_other_times_are_not_believed(film):
  frames, seconds = _read_all(film)
  times = [x + 0.02 for x in seconds[40:42]]
  actual = frame_access.read_frames(film, 40, times)
  np.testing.assert_array_equal(actual, frames[40:42])


def test_the_end_of_a_video(film):
  frames, seconds = _read_all(film)
  last = len(frames) - 1
  times = [seconds[last], seconds[last] + 0.04]
  assert len(frame_access.read_frames(film, last, times)) == 1
  with pytest.raises(UserError, match=f'has no frame {last + 9}'):
    frame_access.read_frames(film, last + 9, [seconds[last] + 0.36])
