"""video_source: time stamps, frame counts, and damaged files."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from written_videos import HEIGHT, WIDTH, blocks, moving, read, save


def test_timestamps_of_a_variable_rate_are_preserved(tmp_path):
  pts = [7, 700, 1500, 1501, 4000, 20000]
  path = save(
    tmp_path / 'a.mkv', moving(6), pts=pts, time_base=Fraction(1, 1000)
  )
  frames, reader = read(path)
  assert [frame.pts for frame in frames] == pts
  assert reader.format.time_base == Fraction(1, 1000)


def test_missing_time_stamps_follow_the_frame_rate(tmp_path):
  frames, reader = read(save(tmp_path / 'a.h264', moving(5)))
  seconds = [frame.pts * reader.format.time_base for frame in frames]
  assert np.diff(seconds).tolist() == [Fraction(1, 25)] * 4


def test_repeated_time_stamps_are_separated(tmp_path):
  path = save(
    tmp_path / 'a.mkv',
    moving(4),
    pts=[0, 1500, 1501, 3000],  # In milliseconds: 0, 98, 98, 195.
    time_base=Fraction(1, 15360),
  )
  frames, _ = read(path)
  assert [frame.pts for frame in frames] == [0, 98, 99, 195]


def test_a_title_in_another_alphabet(tmp_path):
  path = tmp_path / 'a.mkv'
  with av.open(str(path), 'w') as container:
    container.metadata['title'] = 'caf# au lait'
    stream = container.add_stream(
      'libx264', rate=25, width=WIDTH, height=HEIGHT
    )
    frame = av.VideoFrame.from_ndarray(blocks(), 'rgb24')
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  path.write_bytes(path.read_bytes().replace(b'caf# au', b'caf\xe9 au'))
  assert len(read(path)[0]) == 1


def test_a_stream_that_changes_its_size_is_scaled(tmp_path):
  first = save(tmp_path / 'a.ts', moving(30))
  second = save(tmp_path / 'b.ts', moving(30, 64, 96))
  both = tmp_path / 'both.ts'
  both.write_bytes(first.read_bytes() + second.read_bytes())
  frames, _ = read(both)
  assert len(frames) == 60
  assert {frame.rgb.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
  assert np.diff([frame.pts for frame in frames]).min() > 0


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.webm', '.avi', '.ts'])
def test_properties_of_a_video_are_read(tmp_path, suffix):
  codec = {'.webm': 'libvpx', '.avi': 'mpeg4'}.get(suffix, 'libx264')
  path = save(tmp_path / f'a{suffix}', moving(30), codec, g='10')
  frames, reader = read(path)
  assert (reader.kind, len(frames), reader.lost) == ('video', 30, 0)
  assert reader.num_frames == 30
  assert reader.format[:3] == (HEIGHT, WIDTH, 25)


def test_longer_audio_does_not_count_as_frames(tmp_path):
  path = tmp_path / 'a.mkv'
  with av.open(str(path), 'w') as container:
    picture = container.add_stream(
      'libx264', rate=25, width=WIDTH, height=HEIGHT
    )
    sound = container.add_stream('pcm_s16le', rate=8000, layout='mono')
    for rgb in moving(10):
      frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
      container.mux(picture.encode(frame))
    container.mux(picture.encode(None))
    silence = av.AudioFrame.from_ndarray(
      np.zeros((1, 16_000), np.int16), 's16', 'mono'
    )
    silence.sample_rate, silence.pts = 8000, 0
    container.mux(sound.encode(silence))
    container.mux(sound.encode(None))
  frames, reader = read(path)
  assert (len(frames), reader.num_frames, reader.lost) == (10, 10, 0)


def test_a_truncated_file_yields_its_frames_and_counts_the_lost(
  tmp_path, capfd
):
  path = save(tmp_path / 'a.mkv', moving(60), g='10')
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  frames, reader = read(path)
  assert 10 < len(frames) < 50
  assert abs(len(frames) + reader.lost - 60) <= 1
  assert reader.damaged[-1] == len(frames)
  assert capfd.readouterr() == ('', '')


def test_a_truncated_mp4_with_its_index_first(tmp_path):
  path = tmp_path / 'a.mp4'
  with av.open(str(path), 'w', options={'movflags': 'faststart'}) as container:
    stream = container.add_stream(
      'libx264', rate=25, width=WIDTH, height=HEIGHT, options={'g': '10'}
    )
    for rgb in moving(60):
      frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 2 // 3])
  frames, reader = read(path)
  assert 10 < len(frames) < 60
  assert len(frames) + reader.lost == reader.num_frames == 60


def test_damage_in_the_middle(tmp_path):
  path = save(tmp_path / 'a.mp4', moving(60), g='10')
  data = bytearray(path.read_bytes())
  middle = slice(len(data) // 3, len(data) // 2)
  data[middle] = bytes(len(data[middle]))
  path.write_bytes(data)
  frames, reader = read(path)
  assert 30 < len(frames) < 60
  assert len(frames) + reader.lost == 60
  assert min(reader.damaged) > 10 and max(reader.damaged) < 40


def test_a_photograph_named_like_a_video(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(blocks()).save(tmp_path / 'a.jpg', exif=exif)
  frames, _ = read((tmp_path / 'a.jpg').rename(tmp_path / 'a.mp4'))
  assert len(frames) == 1
