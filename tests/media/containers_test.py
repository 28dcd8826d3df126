"""containers: limits on the streams and pictures of a file."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import containers, mux
from vitexco_jax.media.video import VideoReader


def _many_streams(path, count, side=64):
  """A video with a few silent soundtracks, or with pictures of a size."""
  with av.open(str(path), 'w') as out:
    pictures = out.add_stream('mpeg4', rate=25, width=side, height=side)
    pictures.pix_fmt = 'yuv420p'
    sounds = [out.add_stream('mp2', rate=48_000) for _ in range(count - 1)]
    gray = np.zeros((side, side), np.uint8)
    out.mux(pictures.encode(av.VideoFrame.from_ndarray(gray, 'gray')))
    out.mux(pictures.encode(None))
    for sound in sounds:
      silence = np.zeros((1, 2 * 1152), np.int16)
      frame = av.AudioFrame.from_ndarray(silence, 's16', 'stereo')
      frame.sample_rate, frame.pts = 48_000, 0
      out.mux(sound.encode(frame))
      out.mux(sound.encode(None))


@pytest.mark.parametrize('suffix', ['.mkv', '.mov', '.ts'])
def test_the_number_of_streams_is_limited(tmp_path, suffix, monkeypatch):
  monkeypatch.setattr(containers, '_bounds', containers.Bounds(streams=3))
  for count in (3, 4):
    _many_streams(tmp_path / f'{count}{suffix}', count)
  with VideoReader(tmp_path / f'3{suffix}') as reader:
    assert len([*reader]) == 1
  with pytest.raises(UserError, match='has more than 3 streams'):
    VideoReader(tmp_path / f'4{suffix}')
  with pytest.raises(UserError, match='has more than 3 streams'):
    mux.left_out(tmp_path / f'4{suffix}', tmp_path / 'out.mkv')


def test_opening_a_file_does_not_decode_a_large_frame(tmp_path, monkeypatch):
  """Its head may say that it is small."""
  path = tmp_path / 'film.mov'
  with av.open(str(path), 'w') as out:
    stream = out.add_stream('png', rate=25, width=64, height=64)
    stream.pix_fmt = 'rgb24'
    out.start_encoding()
    large = Image.fromarray(np.zeros((640, 640, 3), np.uint8))
    file = io.BytesIO()
    large.save(file, 'PNG')
    packet = av.Packet(file.getvalue())
    packet.stream, packet.pts, packet.dts = stream, 0, 0
    out.mux(packet)
  assert containers.open_input(path).streams.video[0].width == 640
  monkeypatch.setattr(
    containers, '_bounds', containers.Bounds(pixels=640 * 640 - 1)
  )
  assert containers.open_input(path).streams.video[0].width == 0
