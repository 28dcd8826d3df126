"""Interlaced video: recognized, made progressive, and written as it was."""

from fractions import Fraction

import av
import numpy as np
import pytest

from vitexco_jax.media import interlacing, mux, video

H, W = 64, 96


def _moment(i):
  """A bright bar that moves by 2 pixels, 50 times a second; [H, W] uint8."""
  gray = np.full((H, W), 60, np.uint8)
  gray[:, 2 * i + 10 : 2 * i + 30] = 180
  return gray


def _woven(i, order):
  """A frame of two moments, [H, W] uint8."""
  first, second = _moment(2 * i), _moment(2 * i + 1)
  frame = first.copy()
  rows = slice(1, None, 2) if order == 'tt' else slice(0, None, 2)
  frame[rows] = second[rows]
  return frame


def _write(path, order, count=6, codec='mpeg2video', marked=True):
  """An interlaced recording, by FFmpeg's own means."""
  flags = {'flags': '+ilme+ildct', 'qscale': '1'} if marked else {'qscale': '1'}
  with av.open(str(path), 'w') as out:
    stream = out.add_stream(
      codec, rate=25, width=W, height=H, pix_fmt='yuv420p', options=flags
    )
    graph = interlacing.Graph(
      ('format', 'yuv420p'),
      ('setfield', f'{order[0]}ff' if marked else 'prog'),
    )
    for i in range(count):
      picture = av.VideoFrame.from_ndarray(_woven(i, order), 'gray')
      (picture,) = graph.push(picture)
      picture.pts, picture.time_base = i, Fraction(1, 25)
      out.mux(stream.encode(picture))
    out.mux(stream.encode(None))
  return path


def _orders(path):
  """Field order that the stream says, and the orders of its frames."""
  with av.open(str(path)) as container:
    stream = container.streams.video[0]
    orders = {interlacing.field_order(x) for x in container.decode(stream)}
    return stream.codec_context.field_order, orders


def _combs(rgb):
  """How much rows differ from the rows between which they lie."""
  gray = np.float32(rgb[..., 1])
  return np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean()


@pytest.mark.parametrize('order', ['tt', 'bb'])
def test_the_field_order_is_read(tmp_path, order):
  with video.VideoReader(_write(tmp_path / 'in.mpg', order)) as reader:
    assert reader.format.field_order == order
    assert len(list(reader)) == reader.interlaced == 6


def test_progressive_video_has_no_field_order(tmp_path):
  path = _write(tmp_path / 'in.mpg', 'tt', marked=False)
  with video.VideoReader(path) as reader:
    assert reader.format.field_order == ''
    assert len(list(reader)) == 6 and not reader.interlaced


@pytest.mark.parametrize('order', ['tt', 'bb'])
@pytest.mark.parametrize('count', [1, 2, 6])
def test_deinterlacing_shows_each_frame_at_its_first_field(
  tmp_path, order, count
):
  path = _write(tmp_path / 'in.mpg', order, count)
  with video.VideoReader(path) as reader:
    before = list(reader)
  with video.VideoReader(path, deinterlace=True) as reader:
    assert reader.format.field_order == ''
    after = list(reader)
    assert reader.interlaced == count
  assert [x.pts for x in after] == [x.pts for x in before]
  assert [x.duration for x in after] == [x.duration for x in before]
  if count == 1:
    return  # FFmpeg cannot detect the motion.
  for i, (frame, combed) in enumerate(zip(after, before, strict=True)):
    assert _combs(frame.rgb) < 0.2 * _combs(combed.rgb)
    error = np.abs(frame.rgb[..., 1] - np.float32(_moment(2 * i))).mean()
    assert error < 2


def test_unmarked_video_is_deinterlaced_on_request(tmp_path):
  path = _write(tmp_path / 'in.mpg', 'tt', marked=False)
  with video.VideoReader(path, deinterlace=True) as reader:
    frames = list(reader)
  assert len(frames) == 6
  assert max(_combs(frame.rgb) for frame in frames) < 1


@pytest.mark.parametrize('order', ['tt', 'bb'])
@pytest.mark.parametrize(
  'name, coding',
  [
    ('out.mp4', video.Coding()),
    ('out.mkv', video.Coding(bits=10)),
    ('out.avi', video.Coding()),
    ('out.mkv', video.Coding('ffv1')),
    ('out.mkv', video.Coding('ffv1', 16)),
    ('out.mov', video.Coding('prores')),
  ],
  ids=lambda x: x if isinstance(x, str) else f'{x.codec}-{x.bits}',
)
def test_the_field_order_is_written_and_survives_joining(
  tmp_path, order, name, coding
):
  form = video.Format(H, W, field_order=order)
  part, path = tmp_path / 'part.mkv', tmp_path / name
  frames = [np.repeat(_woven(i, order)[..., None], 3, -1) for i in range(6)]
  reordered = path.suffix != '.avi'
  with video.VideoWriter(
    part, form, coding=coding, reordered=reordered
  ) as writer:
    for rgb in frames:
      deep = np.uint16(rgb) * np.uint16(257)
      writer.write(video.Frame(deep if coding.deep else rgb))
  segment = mux.Segment(part, range(6), mux.delay(part))
  mux.join([segment], form, None, path)
  number, orders = _orders(path)
  assert orders == {order}
  if path.suffix != '.avi':  # It has no place for it.
    assert number == {'tt': 2, 'bb': 3}[order]
  with video.VideoReader(path) as reader:
    for rgb, actual in zip(frames, reader, strict=True):
      assert np.abs(np.float32(actual.rgb) - rgb).mean() < 1.5


def test_fields_keep_separate_colors(tmp_path):
  rgb = np.zeros((H, W, 3), np.uint8)
  rgb[::2], rgb[1::2] = (200, 60, 60), (60, 60, 200)
  form = video.Format(H, W, field_order='tt')
  with video.VideoWriter(tmp_path / 'out.mp4', form) as writer:
    for _ in range(3):
      writer.write(video.Frame(rgb))
  with av.open(str(tmp_path / 'out.mp4')) as container:
    planes = next(container.decode(video=0)).to_ndarray()
  u, v = planes[H:].reshape(2, H // 2, W // 2).astype(int)
  assert (v[::2] > 150).all() and (v[1::2] < 130).all()
  assert (u[::2] < 130).all() and (u[1::2] > 150).all()


def test_marking_changes_no_level(tmp_path):
  rgb = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
  rgb = np.repeat(np.repeat(rgb[::8, ::8], 8, 0), 8, 1)
  actual = []
  for order in '', 'tt':
    path = tmp_path / f'out{order}.mov'
    form = video.Format(H, W, matrix=6, field_order=order)
    coding = video.Coding('prores')
    with video.VideoWriter(path, form, coding=coding) as writer:
      writer.write(video.Frame(rgb * np.uint16(257)))
    with video.VideoReader(path) as reader:
      assert reader.format.matrix == 6
      actual.append(np.float32(next(reader).rgb))
  assert np.abs(actual[0] - actual[1]).mean() < 1.5


def test_a_stream_that_changes_its_size_is_deinterlaced():
  def picture(size):
    return av.VideoFrame.from_ndarray(np.zeros(size, np.uint8), 'gray')

  sizes = [(H, W)] * 3 + [(32, 48)] * 2
  result = interlacing.deinterlaced(map(picture, sizes), only_marked=False)
  assert [(x.height, x.width) for x in result] == sizes
