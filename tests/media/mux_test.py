"""mux: time zero, chapters, durations, and other video tracks."""

from fractions import Fraction

import av
import numpy as np
import pytest
from written_recordings import SIZE, copied, draw_picture, packet_times, record

from vitexco_jax.media import mux, video


@pytest.mark.parametrize('target', ['.mp4', '.mkv', '.mov', '.avi'])
@pytest.mark.parametrize(
  'late', [36_000, -1, 2**33 / 90_000 - 0.5], ids=['late', 'below', 'wrapped']
)
def test_an_output_begins_at_zero(tmp_path, target, late):
  form = 'matroska' if late < 0 else 'mpegts'
  codec = 'libx264' if late < 0 else 'mpeg2video'
  source = record(tmp_path / 'in', 25, codec, form, ['mp2'], late, 0.3)
  output = tmp_path / f'out{target}'
  missing = copied(source, output)
  times, before = packet_times(output), packet_times(source)
  assert len(times['video']) == 25
  np.testing.assert_allclose(np.diff(times['video']), 0.04, atol=0.0011)
  if target == '.avi':  # Which has no time stamps.
    assert len(missing) == 1
    assert 's between the starts of audio and picture' in missing[0]
    return
  assert not missing
  assert min(times['video'][0], times['audio'][0]) == 0
  apart = [x['audio'][0] - x['video'][0] for x in (times, before)]
  assert abs(apart[0] - apart[1]) < 0.002


def test_chapters_move_with_the_clock(tmp_path):
  plain = record(tmp_path / 'plain.mkv', late=5)
  source = tmp_path / 'in.mkv'
  with av.open(str(plain)) as container, av.open(str(source), 'w') as out:
    stream = out.add_stream_from_template(container.streams.video[0])
    chapter = {'time_base': Fraction(1, 1000), 'metadata': {}}
    out.set_chapters(
      [
        {'id': 1, 'start': 0, 'end': 5000, **chapter},
        {'id': 2, 'start': 5000, 'end': 5500, **chapter},
        {'id': 3, 'start': 5500, 'end': 6000, **chapter},
      ]
    )
    for packet in container.demux(video=0):
      if packet.size:
        packet.stream = stream
        out.mux(packet)
  copied(source, tmp_path / 'out.mkv')
  with av.open(str(tmp_path / 'out.mkv')) as container:
    seconds = [
      [float(x[name] * x['time_base']) for name in ('start', 'end')]
      for x in container.chapters()
    ]
  assert seconds == [[0, 0.5], [0.5, 1]]


def test_without_sound(tmp_path):
  source = record(tmp_path / 'in.ts', sounds=['mp2'], late=77, after=-0.5)
  assert not copied(source, tmp_path / 'out.mp4', sound=False)
  times = packet_times(tmp_path / 'out.mp4')
  assert set(times) == {'video'} and times['video'][0] == 0


def test_a_second_video_track_is_reported_but_not_a_cover(tmp_path):
  source = tmp_path / 'in.mp4'
  with av.open(str(source), 'w') as out:
    tracks = [
      out.add_stream(codec, rate=25, width=96, height=64, pix_fmt=pixels)
      for codec, pixels in (
        ('mpeg4', 'yuv420p'),
        ('libx264', 'yuv420p'),
        ('mjpeg', 'yuvj420p'),
      )
    ]
    tracks[2].disposition = av.stream.Disposition.attached_pic
    gray = np.full((64, 96, 3), 128, np.uint8)
    for track in tracks:
      for _ in range(1 if track is tracks[2] else 3):
        out.mux(track.encode(av.VideoFrame.from_ndarray(gray, 'rgb24')))
      out.mux(track.encode(None))
  named = ['video track 1 (h264, 96x64)']
  with video.VideoReader(source) as reader:
    assert reader.other_tracks == named
  assert mux.left_out(source, tmp_path / 'out.mp4') == named


def test_matroska_stores_the_duration_of_each_frame(tmp_path):
  # 12.5 frames per second, in a file that names 25.
  form = video.Format(*SIZE, Fraction(25), Fraction(1, 1000))
  source, target = tmp_path / 'slow.mkv', tmp_path / 'out.mkv'
  lengths = [80] * 11 + [2000]
  with video.VideoWriter(source, form) as writer:
    for i, length in enumerate(lengths):
      writer.write(video.Frame(draw_picture(i), 80 * i, duration=length))
  copied(source, target)
  for path in (source, target):
    with av.open(str(path)) as container:
      packets = [x for x in container.demux(video=0) if x.size]
    packets.sort(key=lambda x: x.pts)
    assert [x.duration for x in packets] == lengths


@pytest.mark.parametrize('first', ['.mov', '.mp4', '.mkv'])
@pytest.mark.parametrize('target', ['.mov', '.mp4', '.mkv'])
def test_the_time_code_is_kept(tmp_path, first, target):
  source = tmp_path / f'in{first}'
  with av.open(str(source), 'w') as out:
    track = out.add_stream('libx264', rate=25, width=96, height=64)
    track.metadata['timecode'] = '09:59:58:20'
    for i in range(3):
      picture = av.VideoFrame.from_ndarray(draw_picture(i), 'rgb24')
      out.mux(track.encode(picture))
    out.mux(track.encode(None))
  assert not copied(source, tmp_path / f'out{target}')
  # FFmpeg's names: those of the stream, and of MOV's track of time codes.
  with av.open(str(tmp_path / f'out{target}')) as container:
    for stream in container.streams:
      tags = {name.lower(): text for name, text in stream.metadata.items()}
      assert tags['timecode'] == '09:59:58:20'
    kinds = [stream.type for stream in container.streams]
    assert kinds == ['video'] + ['data'] * (target != '.mkv')
    assert container.metadata.keys() & {'timecode', 'TIMECODE'} == set()
  with video.VideoReader(tmp_path / f'out{target}') as reader:
    assert reader.format.time_code == '09:59:58:20'
