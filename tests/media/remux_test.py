"""remux: copied streams are repaired, converted, and tried in advance."""

import io
import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.media import mux, remux, video

SIZE = (64, 96)
RATE = 48_000


def _picture(i):
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  shade = np.uint8(110 + 60 * np.sin((x + 2 * y) / 9 + i / 3))
  return np.repeat(shade[..., None], 3, -1)


def _noise(seed, samples, bits):
  rng = np.random.default_rng(seed)
  kind = np.int16 if bits == 16 else np.int32
  noise = rng.integers(-(2**14), 2**14, (1, 2 * samples)).astype(kind)
  return noise if bits == 16 else noise << 8


def _save(
  path, count=25, codec='mpeg2video', form=None, sounds=(), late=0, after=0
):
  """A recording with sound of several codecs.

  Args:
    path: where.
    count: frames, of 25 a second, and sound of that length.
    codec: of the pictures.
    form: FFmpeg's name of the container.
    sounds: codecs.
    late: seconds, when the clock begins.
    after: seconds, by which sound begins later than pictures.
  """
  with av.open(str(path), 'w', format=form) as out:
    picture = out.add_stream(
      codec, rate=25, width=SIZE[1], height=SIZE[0], pix_fmt='yuv420p'
    )
    tracks = [out.add_stream(x, rate=RATE, layout='stereo') for x in sounds]
    out.start_encoding()
    packets = []
    for i in range(count):
      frame = av.VideoFrame.from_ndarray(_picture(i), 'rgb24')
      frame.pts, frame.time_base = i, Fraction(1, 25)
      packets += picture.encode(frame)
    packets += picture.encode(None)
    for number, track in enumerate(tracks):
      context = track.codec_context
      samples = context.frame_size or 960
      bits = 32 if context.format.name == 's32' else 16
      for i in range(count * RATE // 25 // samples):
        frame = av.AudioFrame.from_ndarray(
          _noise((number, i), samples, bits), f's{bits}', 'stereo'
        )
        frame.sample_rate, frame.pts = RATE, samples * i
        frame.time_base = Fraction(1, RATE)
        packets += track.encode(frame)
      packets += track.encode(None)
    for packet in packets:
      shift = late + (after if packet.stream in tracks else 0)
      packet.pts += round(shift / packet.time_base)
      packet.dts += round(shift / packet.time_base)
    for packet in sorted(packets, key=lambda x: x.dts * x.time_base):
      out.mux(packet)
  return path


def _copied(source, target, **kwargs):
  """Copies a file with the same pictures; returns descriptions of losses."""
  missing = mux.left_out(source, target, **kwargs)
  part = target.with_name('part.mkv')
  with video.VideoReader(source) as reader:
    form = reader.format
    frames = list(reader)
  plain = form._replace(time_base=None)
  reordered = target.suffix != '.avi'
  with video.VideoWriter(
    part, plain, overwrite=True, reordered=reordered
  ) as writer:
    for frame in frames:
      writer.write(video.Frame(frame.rgb))
  end = frames[-1].pts + frames[-1].duration
  segment = mux.Segment(part, [x.pts for x in frames], mux.delay(part), end)
  mux.join([segment], form, source, target, **kwargs)
  part.unlink()
  return missing


def _times(path):
  """When the packets of each stream are shown, in seconds, in order."""
  times = {}
  with av.open(str(path)) as container:
    for packet in container.demux():
      if packet.size:
        seconds = float(packet.pts * packet.time_base)
        times.setdefault(packet.stream.type, []).append(seconds)
  return {kind: np.sort(found) for kind, found in times.items()}


@pytest.mark.parametrize('target', ['.mp4', '.mkv', '.mov', '.avi'])
@pytest.mark.parametrize(
  'late', [36_000, -1, 2**33 / 90_000 - 0.5], ids=['late', 'below', 'wrapped']
)
def test_an_output_begins_at_zero(tmp_path, target, late):
  form = 'matroska' if late < 0 else 'mpegts'
  codec = 'libx264' if late < 0 else 'mpeg2video'
  source = _save(tmp_path / 'in', 25, codec, form, ['mp2'], late, 0.3)
  output = tmp_path / f'out{target}'
  missing = _copied(source, output)
  times, before = _times(output), _times(source)
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
  plain = _save(tmp_path / 'plain.mkv', late=5)
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
  _copied(source, tmp_path / 'out.mkv')
  with av.open(str(tmp_path / 'out.mkv')) as container:
    seconds = [
      [float(x[name] * x['time_base']) for name in ('start', 'end')]
      for x in container.chapters()
    ]
  assert seconds == [[0, 0.5], [0.5, 1]]


@pytest.mark.parametrize('target', ['.mp4', '.mkv', '.avi'])
@pytest.mark.parametrize('form, sound', [('vob', 'ac3'), ('mpegts', 'mp2')])
def test_joined_recordings_are_continuous(tmp_path, form, sound, target):
  parts = [
    _save(tmp_path / f'{i}', count, form=form, sounds=[sound], late=late)
    for i, (count, late) in enumerate([(25, 700), (50, 3), (25, 9000)])
  ]
  source = tmp_path / 'in'
  source.write_bytes(b''.join(x.read_bytes() for x in parts))
  assert not _copied(source, tmp_path / f'out{target}')
  times = _times(tmp_path / f'out{target}')
  assert len(times['video']) == 100
  gaps = np.diff(times['video'])
  assert gaps.min() > 0.01 and gaps.max() < 0.1
  expected = sum(len(_times(part)['audio']) for part in parts)
  assert expected - 6 <= len(times['audio']) <= expected
  assert np.diff(times['audio']).max() < 0.1
  assert abs(times['audio'][-1] - times['video'][-1]) < 0.15


def _save_moved(path, by):
  """A recording whose sound falls back in the middle, `by` milliseconds."""
  whole = _save(path.with_name('whole'), 50, 'flv', 'flv', ['libmp3lame'])
  data = bytearray(whole.read_bytes())
  place = 13
  while place < len(data):  # Type, size, time stamp in milliseconds, 0, data.
    time = int.from_bytes(data[place + 4 : place + 7])
    if data[place] == 8 and time > 1000:
      data[place + 4 : place + 7] = (time - by).to_bytes(3)
    place += 15 + int.from_bytes(data[place + 1 : place + 4])
  path.write_bytes(data)
  return whole


@pytest.mark.parametrize('target', ['.mp4', '.mkv', '.avi'])
def test_audio_whose_clock_restarts_is_joined(tmp_path, target):
  whole = _save_moved(tmp_path / 'in', 500)
  assert not _copied(tmp_path / 'in', tmp_path / f'out{target}')
  times, before = _times(tmp_path / f'out{target}'), _times(whole)
  assert len(times['audio']) == len(before['audio'])
  start = before['audio'][0]
  np.testing.assert_allclose(times['audio'], before['audio'] - start, atol=0.1)


@pytest.mark.parametrize('target', ['.mp4', '.mkv'])
def test_overlapping_audio_is_dropped_and_reported(tmp_path, target):
  _save_moved(tmp_path / 'in', 90)
  missing = _copied(tmp_path / 'in', tmp_path / f'out{target}')
  assert missing == ['0.05 s of audio (mp3float) that overlap with others']
  gaps = np.diff(_times(tmp_path / f'out{target}')['audio'])
  assert gaps.min() > 0 and gaps.max() < 0.06


def test_audio_whose_format_is_known_late(tmp_path):
  source = _save(tmp_path / 'in.vob', 375, form='vob', sounds=['ac3'], after=14)
  with av.open(str(source)) as container:  # By itself FFmpeg gives up.
    assert not container.streams.audio[0].rate
  assert not _copied(source, tmp_path / 'out.mkv')
  times, before = _times(tmp_path / 'out.mkv'), _times(source)
  assert len(times['audio']) == len(before['audio'])
  assert abs(times['audio'][0] - 14) < 0.1


def _decoded(path, index=0):
  """Samples of a track of sound, [2 n], int32."""
  with av.open(str(path)) as container:
    frames = [
      np.int64(x.to_ndarray()[0])
      << (16 if x.format.packed.name == 's16' else 0)
      for x in container.decode(audio=index)
    ]
  return np.concatenate(frames)


@pytest.mark.parametrize('target', ['.mp4', '.mkv', '.mov', '.avi'])
@pytest.mark.parametrize(
  'codec, form',
  [
    ('pcm_dvd', 'vob'),
    ('pcm_bluray', 'mpegts'),
    ('pcm_s24be', 'mov'),
    ('pcm_s16le', 'avi'),
  ],
)
def test_sound_of_discs_is_converted_without_loss(
  tmp_path, codec, form, target
):
  name = 'in.m2ts' if codec == 'pcm_bluray' else 'in'
  late = 0 if form == 'avi' else 3
  source = _save(tmp_path / name, form=form, sounds=[codec], late=late)
  assert not _copied(source, tmp_path / f'out{target}')
  found = _decoded(tmp_path / f'out{target}')
  np.testing.assert_array_equal(found, _decoded(source))
  assert found.any()
  times, before = _times(tmp_path / f'out{target}'), _times(source)
  apart = [x['audio'][0] - x['video'][0] for x in (times, before)]
  assert abs(apart[0] - apart[1]) < 0.05


def test_several_tracks_of_sound(tmp_path):
  source = _save(tmp_path / 'in.ts', sounds=['mp2', 'ac3', 'aac'], late=77)
  assert not _copied(source, tmp_path / 'out.mkv')
  with av.open(str(tmp_path / 'out.mkv')) as container:
    names = [x.codec_context.codec.name for x in container.streams.audio]
    assert len(names) == 3
    starts = [x.start_time * x.time_base for x in container.streams.audio]
  with av.open(str(source)) as container:
    before = [x.start_time * x.time_base for x in container.streams.audio]
  for a, b in itertools.pairwise(zip(starts, before, strict=True)):
    assert abs((a[0] - b[0]) - (a[1] - b[1])) < 0.002


def test_without_sound(tmp_path):
  source = _save(tmp_path / 'in.ts', sounds=['mp2'], late=77, after=-0.5)
  assert not _copied(source, tmp_path / 'out.mp4', sound=False)
  times = _times(tmp_path / 'out.mp4')
  assert set(times) == {'video'} and times['video'][0] == 0


def test_streams_that_cannot_be_copied_are_reported_with_the_reason(tmp_path):
  source = _save(tmp_path / 'in.mkv', 25, 'libx264', sounds=['libopus'])
  with pytest.raises(UserError) as caught:
    mux.left_out(source, tmp_path / 'out.avi')
  message = str(caught.value)
  assert 'out.avi cannot hold the sound' in message and 'opus' in message
  assert '.mkv' in message and '`audio=none`' in message
  assert not _copied(source, tmp_path / 'out.avi', sound=False)


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


def test_packets_that_a_container_refuses(tmp_path, monkeypatch):
  source = _save(tmp_path / 'in.mkv', 25, 'libx264', sounds=['mp2'])
  mux_one = remux.mux_one
  numbers = itertools.count()

  def refusing(out, packet):
    if next(numbers) in (3, 4):
      raise av.InvalidDataError(1, 'no', 'x', (16, 'mp4', 'it is broken\n'))
    mux_one(out, packet)

  monkeypatch.setattr(remux, 'mux_one', refusing)
  missing = _copied(source, tmp_path / 'out.mp4')
  count = len(_times(source)['audio'])
  assert missing == [f'2 packets of {count} of audio (mp2): it is broken']
  assert len(_times(tmp_path / 'out.mp4')['audio']) == count - 2


def test_the_reason_of_ffmpeg_is_reported():
  with av.open(io.BytesIO(), 'w', format='mp4') as out:
    stream = out.add_stream('pcm_s16le', rate=RATE, layout='stereo')
    out.start_encoding()

    packets = [av.Packet(bytes(16)) for _ in range(2)]
    for stamp, packet in zip((100, 50), packets, strict=True):
      packet.pts = packet.dts = stamp
      packet.stream, packet.time_base = stream, stream.time_base
    out.mux_one(packets[0])
    with (
      pytest.raises(UserError, match='non monotonically increasing dts'),
      video.explained('write', 'out.mp4'),
    ):
      remux.mux_one(out, packets[1])


def test_matroska_stores_the_duration_of_each_frame(tmp_path):
  # 12.5 frames per second, in a file that names 25.
  form = video.Format(*SIZE, Fraction(25), Fraction(1, 1000))
  source, target = tmp_path / 'slow.mkv', tmp_path / 'out.mkv'
  lengths = [80] * 11 + [2000]
  with video.VideoWriter(source, form) as writer:
    for i, length in enumerate(lengths):
      writer.write(video.Frame(_picture(i), 80 * i, duration=length))
  _copied(source, target)
  for path in (source, target):
    with av.open(str(path)) as container:
      packets = [x for x in container.demux(video=0) if x.size]
    packets.sort(key=lambda x: x.pts)
    assert [x.duration for x in packets] == lengths
