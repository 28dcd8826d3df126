"""Recordings with audio, and copies of them, for tests of muxing."""

from fractions import Fraction

import av
import numpy as np

from vitexco_jax.media import mux, video

SIZE = (64, 96)
RATE = 48_000


def draw_picture(i):
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  shade = np.uint8(110 + 60 * np.sin((x + 2 * y) / 9 + i / 3))
  return np.repeat(shade[..., None], 3, -1)


def noise(seed, samples, bits):
  rng = np.random.default_rng(seed)
  kind = np.int16 if bits == 16 else np.int32
  noise = rng.integers(-(2**14), 2**14, (1, 2 * samples)).astype(kind)
  return noise if bits == 16 else noise << 8


def record(
  path, count=25, codec='mpeg2video', form=None, sounds=(), late=0, after=0
):
  """Writes a recording with audio of several codecs.

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
      frame = av.VideoFrame.from_ndarray(draw_picture(i), 'rgb24')
      frame.pts, frame.time_base = i, Fraction(1, 25)
      packets += picture.encode(frame)
    packets += picture.encode(None)
    for number, track in enumerate(tracks):
      context = track.codec_context
      samples = context.frame_size or 960
      bits = 32 if context.format.name == 's32' else 16
      for i in range(count * RATE // 25 // samples):
        frame = av.AudioFrame.from_ndarray(
          noise((number, i), samples, bits), f's{bits}', 'stereo'
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


def copied(source, target, **kwargs):
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


def packet_times(path):
  """Returns the sorted presentation times of each stream, in seconds."""
  times = {}
  with av.open(str(path)) as container:
    for packet in container.demux():
      if packet.size:
        seconds = float(packet.pts * packet.time_base)
        times.setdefault(packet.stream.type, []).append(seconds)
  return {kind: np.sort(actual) for kind, actual in times.items()}


def record_moved(path, by):
  """Writes a recording whose audio clock jumps back by `by` milliseconds."""
  whole = record(path.with_name('whole'), 50, 'flv', 'flv', ['libmp3lame'])
  data = bytearray(whole.read_bytes())
  place = 13
  while place < len(data):  # Type, size, time stamp in milliseconds, 0, data.
    time = int.from_bytes(data[place + 4 : place + 7])
    if data[place] == 8 and time > 1000:
      data[place + 4 : place + 7] = (time - by).to_bytes(3)
    place += 15 + int.from_bytes(data[place + 1 : place + 4])
  path.write_bytes(data)
  return whole


def decoded(path, index=0):
  """Returns the samples of an audio track, [2 n], int32."""
  with av.open(str(path)) as container:
    frames = [
      np.int64(x.to_ndarray()[0])
      << (16 if x.format.packed.name == 's16' else 0)
      for x in container.decode(audio=index)
    ]
  return np.concatenate(frames)
