"""Fixtures of the tests of films and plans."""

from fractions import Fraction

import av
import numpy as np
import pytest
from films import (
  LAST,
  STAMPS,
  gray_frame,
  one_shot,
  tint,
)
from painter import SIZE
from pictures import make_frames, make_picture
from three_shots import LENGTHS, embed, shot_picture

from vitexco_jax.inference import frame_blocks, plan, schedule
from vitexco_jax.inference.plan import Choice
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video


@pytest.fixture(scope='session')
def still(tmp_path_factory):
  """Returns a function of references of two tints: `still('red', frame=3)`."""
  folder = tmp_path_factory.mktemp('stills')
  for name, a in (('red', 20), ('green', -20)):
    video.write_image(folder / f'{name}.png', tint(a))
  return lambda name, **bound: Choice(str(folder / f'{name}.png'), **bound)


@pytest.fixture(scope='session')
def source(tmp_path_factory):
  """A video of 23 frames at a variable rate, with all kinds of streams."""
  path = tmp_path_factory.mktemp('source') / 'film.mkv'
  with av.open(str(path), 'w') as out:
    out.metadata['title'] = 'A film'
    picture = out.add_stream(
      'libx264',
      rate=25,
      width=SIZE[1],
      height=SIZE[0],
      pix_fmt='yuv420p',
      time_base=Fraction(1, 1000),
    )
    picture.codec_context.sample_aspect_ratio = Fraction(16, 15)
    picture.metadata['language'] = 'ger'
    sound = out.add_stream('aac', rate=8000, layout='mono')
    sound.metadata['language'] = 'fra'
    other = out.add_stream('pcm_s16le', rate=8000, layout='mono')
    words = out.add_mux_stream('subrip')
    words.metadata['title'] = 'Words'
    out.add_attachment('font.ttf', 'font/ttf', b'not much of a font')
    out.set_chapters(
      [
        {
          'id': i,
          'start': 400 * i,
          'end': 400 * (i + 1),
          'time_base': Fraction(1, 1000),
          'metadata': {'title': f'part {i}'},
        }
        for i in range(2)
      ]
    )
    packets = []
    for i, stamp in enumerate(STAMPS):
      frame = av.VideoFrame.from_ndarray(gray_frame(i), 'rgb24')
      frame.pts, frame.time_base = stamp, Fraction(1, 1000)
      packets += picture.encode(frame)
    packets += picture.encode(None)
    for packet in packets:
      if packet.pts == STAMPS[-1]:
        packet.duration = LAST
      out.mux(packet)
    rng = np.random.default_rng(0)
    for i in range(8):
      noise = rng.integers(-9000, 9000, (1, 1024)).astype(np.int16)
      for stream, kind in ((sound, 'fltp'), (other, 's16')):
        data = noise / np.float32(32768) if kind == 'fltp' else noise
        frame = av.AudioFrame.from_ndarray(data, kind, 'mono')
        frame.sample_rate, frame.pts = 8000, 1024 * i
        out.mux(stream.encode(frame))
    for stream in (sound, other):
      out.mux(stream.encode(None))
    for i in range(2):
      packet = av.Packet(f'line {i}'.encode())
      packet.pts = packet.dts = 300 * i
      packet.duration, packet.time_base = 250, Fraction(1, 1000)
      packet.stream = words
      out.mux(packet)
  return path


@pytest.fixture
def red(source, still):
  return one_shot(source, still('red'))


@pytest.fixture
def blocks_of_three(monkeypatch):
  """Blocks of the engine of three frames."""
  monkeypatch.setattr(frame_blocks, 'BLOCK', 3)


@pytest.fixture(scope='session')
def colorizer(tiny_weights):
  return VideoColorizer.from_checkpoint(tiny_weights)


@pytest.fixture(scope='session')
def colored(colorizer):
  """Seven frames, colored in one go."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(frame_blocks, 'BLOCK', 3)
    colorizer.set_reference(make_picture())
    return list(colorizer.colorize(make_frames(7)))


@pytest.fixture
def small_blocks(monkeypatch):
  """Blocks of four frames, so that short films have several."""
  monkeypatch.setattr(schedule, 'BLOCK', 4)


@pytest.fixture(scope='session')
def three_shots(tmp_path_factory):
  """A film of three shots, each of one picture."""
  path = tmp_path_factory.mktemp('film') / 'film.mp4'
  with video.VideoWriter(path, video.Format(48, 64, Fraction(10))) as writer:
    for seed, length in enumerate(LENGTHS):
      for _ in range(length):
        writer.write(video.Frame(shot_picture(seed)))
  return path


@pytest.fixture(scope='session')
def surveyed(three_shots):
  return plan.survey(three_shots, embed)


@pytest.fixture
def references(tmp_path):
  folder = tmp_path / 'stills'
  folder.mkdir()
  for name, seed in {'two': 2, 'zero': 0, 'ref_00011': 1, 'other': 9}.items():
    video.write_image(folder / f'{name}.png', shot_picture(seed, (96, 128)))
  return folder
