"""cut_files: a file that ends too early is recognized, and no other is."""

import struct

import av
import numpy as np
import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.media import cut_files, video

FRAMES = 36
NAMES = ('a.mp4', 'a.mov', 'a.mkv', 'a.webm', 'a.avi', 'a.ts', 'fragments.mp4')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Files of all containers, their index in front, by name."""
  folder = tmp_path_factory.mktemp('whole')
  rng = np.random.default_rng(0)
  for name in NAMES:
    flags = {'movflags': 'faststart'} if name.endswith(('mp4', 'mov')) else {}
    if name == 'fragments.mp4':
      flags = {'movflags': 'frag_keyframe+empty_moov'}
    with av.open(str(folder / name), 'w', options=flags) as container:
      codec, options = 'libx264', {'g': '12', 'bf': '0'}
      if name == 'a.webm':
        codec, options = 'libvpx-vp9', {'g': '12', 'deadline': 'realtime'}
      stream = container.add_stream(codec, rate=25, options=options)
      stream.width, stream.height = 96, 64
      for _ in range(FRAMES):
        gray = rng.integers(0, 256, (64, 96), np.uint8)
        frame = av.VideoFrame.from_ndarray(gray, 'gray')
        container.mux(stream.encode(frame))
      container.mux(stream.encode(None))
  return folder


def _read(path):
  with video.VideoReader(path) as reader:
    return sum(1 for _ in reader), reader


@pytest.mark.parametrize('name', NAMES)
def test_a_complete_file_is_not_truncated(whole, name):
  count, reader = _read(whole / name)
  assert (count, reader.lost, reader.damaged) == (FRAMES, 0, [])


@pytest.mark.parametrize('name', NAMES)
def test_truncation_at_any_position_is_detected(tmp_path, whole, name):
  data = (whole / name).read_bytes()
  path = tmp_path / name
  for share in (0.6, 0.8, 0.9, 0.95, 0.98):
    path.write_bytes(data[: int(share * len(data))])
    count, reader = _read(path)
    assert count > 4
    if count < FRAMES:
      assert reader.damaged
      if name not in ('a.ts', 'fragments.mp4'):  # They do not say their length.
        assert abs(count + reader.lost - FRAMES) <= 1


def test_truncation_in_the_last_bytes_is_detected(tmp_path, whole):
  for name in NAMES[:5]:
    data = (whole / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-1])
    _, reader = _read(tmp_path / name)
    assert reader.damaged[-1] >= FRAMES - 1


def test_a_truncated_index_is_named(tmp_path):
  head = b'\0\0\0\x14ftypisom\0\0\0\0isom'
  (tmp_path / 'a.mp4').write_bytes(head + b'\0\0\xff\xffmdat' + bytes(500))
  with pytest.raises(
    UserError, match=r'a\.mp4 is cut short or damaged: the index'
  ):
    video.VideoReader(tmp_path / 'a.mp4')


@pytest.mark.parametrize(
  ('container', 'data', 'cut'),
  [
    ('mov,mp4,m4a,3gp,3g2,mj2', b'\0\0\0\0mdat' + bytes(40), False),
    ('mov,mp4,m4a,3gp,3g2,mj2', b'\0\0\0\1mdat' + struct.pack('>Q', 99), True),
    ('mov,mp4,m4a,3gp,3g2,mj2', b'\0\0\0\x08mdat' + b'rubbish', False),
    ('mov,mp4,m4a,3gp,3g2,mj2', b'\0\0\0\x08mdat\0\0', False),
    # A live recording: the segment's length is unknown.
    ('matroska,webm', b'\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff', False),
    ('matroska,webm', b'\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x40\x02x', True),
    ('matroska,webm', b'\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x40\x01x', False),
    ('matroska,webm', b'\x1a\x45\xdf\xa3\0', False),
    ('avi', b'RIFF\x04\0\0\0AVI RIFF\x04\0\0\0AVIX', False),
    ('avi', b'RIFF\x04\0\0\0AVI RIFF\x05\0\0\0AVIX', True),
    ('mpegts', bytes(10 * 192), False),
    ('mpegts', bytes(10 * 192 + 1), True),
    ('flv', b'FLV', False),
  ],
)
def test_sizes_stored_in_containers(tmp_path, container, data, cut):
  (tmp_path / 'a').write_bytes(data)
  assert cut_files.is_cut(tmp_path / 'a', container) == cut
