"""video: colors, time stamps, and shapes are kept; bad input is reported."""

import io
import itertools
import struct
import threading
import time
import wave
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import mux, video
from vitexco_jax.media.video import Format, Frame, VideoReader, VideoWriter

HEIGHT, WIDTH = 48, 64

# Red and blue shares of luma, by FFmpeg's number of the matrix.
BT709, BT601, BT2020 = 1, 5, 9
SHARES = {
  BT709: (0.2126, 0.0722),
  BT601: (0.299, 0.114),
  BT2020: (0.2627, 0.0593),
}


def _ycbcr(rgb, matrix, full, bits=8):
  """The recommendations' formulas; float [h, w] of Y, Cb and Cr."""
  red, blue = SHARES[matrix]
  r, g, b = np.moveaxis(rgb / 255, -1, 0)
  y = red * r + (1 - red - blue) * g + blue * b
  cb, cr = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
  unit = 2 ** (bits - 8)
  if full:
    top = 2**bits - 1
    return y * top, cb * top + 128 * unit, cr * top + 128 * unit
  return (
    (16 + 219 * y) * unit,
    (128 + 224 * cb) * unit,
    (128 + 224 * cr) * unit,
  )


def _blocks(height=HEIGHT, width=WIDTH, seed=0):
  """Colored squares of 8x8 pixels."""
  rng = np.random.default_rng(seed)
  squares = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
  return squares.repeat(8, 0).repeat(8, 1)


def _moving(count, height=HEIGHT, width=WIDTH):
  """Smooth colors that change from frame to frame."""
  y, x = np.mgrid[:height, :width]
  for i in range(count):
    yield np.stack(
      [
        255 * x / width,
        255 * y / height,
        128 + 90 * np.sin((x + y) / 30 + i / 4),
      ],
      -1,
    ).astype(np.uint8)


def _save(
  path,
  frames,
  codec='libx264',
  pts=None,
  time_base=Fraction(1, 25),
  pixels='yuv420p',
  **options,
):
  """Writes a video without the code under test."""
  frames = list(frames)
  height, width = frames[0].shape[:2]
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(
      codec,
      rate=25,
      width=width,
      height=height,
      pix_fmt=pixels,
      time_base=time_base,
      options=options or {'preset': 'ultrafast', 'g': '10'},
    )
    for index, rgb in enumerate(frames):
      picture = av.VideoFrame.from_ndarray(rgb, 'rgb24').reformat(format=pixels)
      picture.pts = index if pts is None else pts[index]
      picture.time_base = time_base
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return path


def _save_planes(path, planes, pixels, matrix=None, full=False):
  """Writes one lossless frame of the given planes."""
  height, width = planes[0].shape
  picture = av.VideoFrame(width, height, pixels)
  for plane, values in zip(picture.planes, planes, strict=True):
    wide = '<u2' if pixels.endswith('le') else np.uint8
    rows = np.ascontiguousarray(values.round().astype(wide)).view(np.uint8)
    padded = np.zeros((plane.height, plane.line_size), np.uint8)
    padded[:, : rows.shape[1]] = rows
    plane.update(padded.tobytes())
  picture.pts, picture.time_base = 0, Fraction(1, 25)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(
      'ffv1', rate=25, width=width, height=height, pix_fmt=pixels
    )
    if matrix is not None:
      picture.colorspace = stream.colorspace = matrix
      picture.color_range = stream.color_range = 2 if full else 1
    container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return path


def _read(path):
  with VideoReader(path) as reader:
    return list(reader), reader


def _write(path, frames, form=None, **kwargs):
  frames = [f if isinstance(f, Frame) else Frame(f) for f in frames]
  form = form or Format(*frames[0].rgb.shape[:2])
  with VideoWriter(path, form, **kwargs) as writer:
    for frame in frames:
      writer.write(frame)
  return path


def _threads():
  return [
    thread.name
    for thread in threading.enumerate()
    if thread.name.startswith(('prefetch', 'encode'))
  ]


# Reading: color.


@pytest.mark.parametrize('full', [False, True])
@pytest.mark.parametrize('matrix', SHARES)
@pytest.mark.parametrize('bits', [8, 10, 16])
def test_matrix_range_and_depth_follow_the_tags(tmp_path, bits, matrix, full):
  rgb = _blocks()
  pixels = 'yuv444p' if bits == 8 else f'yuv444p{bits}le'
  planes = _ycbcr(rgb, matrix, full, bits)
  path = _save_planes(tmp_path / 'a.mkv', planes, pixels, matrix, full)
  (frame,), _ = _read(path)
  np.testing.assert_allclose(frame.rgb, rgb.astype(float), atol=1.01)


def test_without_tags_high_definition_is_bt709_and_the_rest_bt601(tmp_path):
  for size, matrix in [((48, 64), BT601), ((720, 1280), BT709)]:
    rgb = _blocks(*size)
    planes = _ycbcr(rgb, matrix, full=False)
    path = _save_planes(tmp_path / f'{size[0]}.mkv', planes, 'yuv444p')
    (frame,), _ = _read(path)
    np.testing.assert_allclose(frame.rgb, rgb.astype(float), atol=2.01)


def test_subsampled_chroma_is_neither_biased_nor_shifted(tmp_path):
  (rgb,) = _moving(1)
  y, cb, cr = _ycbcr(rgb, BT601, full=False)
  halves = [
    plane.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    for plane in (cb, cr)
  ]
  path = _save_planes(tmp_path / 'a.mkv', [y, *halves], 'yuv420p', BT601)
  (frame,), _ = _read(path)
  error = (frame.rgb.astype(float) - rgb)[4:-4, 4:-4]
  assert np.abs(error.mean((0, 1))).max() < 0.3
  assert np.abs(error).max() <= 4


@pytest.mark.parametrize('pixels', ['gray', 'gray16le'])
def test_gray_video_gets_three_equal_channels(tmp_path, pixels):
  gray = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
  scale = 257 if pixels == 'gray16le' else 1
  path = _save_planes(tmp_path / 'a.mkv', [gray * scale], pixels)
  (frame,), _ = _read(path)
  expected = np.repeat(gray[..., None], 3, -1)
  np.testing.assert_allclose(frame.rgb, expected.astype(float), atol=1)


def test_alpha_of_a_video_is_dropped(tmp_path):
  rgb = _blocks()
  with av.open(str(tmp_path / 'a.mkv'), 'w') as container:
    stream = container.add_stream(
      'ffv1', rate=25, width=WIDTH, height=HEIGHT, pix_fmt='bgra'
    )
    bgra = np.dstack([rgb[..., ::-1], np.full((HEIGHT, WIDTH), 7, np.uint8)])
    container.mux(stream.encode(av.VideoFrame.from_ndarray(bgra, 'bgra')))
    container.mux(stream.encode(None))
  (frame,), _ = _read(tmp_path / 'a.mkv')
  np.testing.assert_array_equal(frame.rgb, rgb)


# Reading: geometry and time.


@pytest.mark.parametrize(
  'matrix, turned',
  [
    ((1, 0, 0, 1), lambda rgb: rgb),
    ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),  # A quarter clockwise.
    ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    ((0, -1, 1, 0), lambda rgb: np.rot90(rgb, 1)),
    ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
    ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
  ],
)
def test_rotation_metadata_is_applied(tmp_path, matrix, turned):
  plain = _save(tmp_path / 'plain.mp4', _moving(2))
  # QuickTime's track header: (x, y) is shown at (a x + c y, b x + d y).
  a, b, c, d = (value << 16 for value in matrix)
  data = bytearray(plain.read_bytes())
  struct.pack_into(
    '>9i', data, data.index(b'tkhd') + 44, *(a, b, 0, c, d, 0), *(0, 0, 1 << 30)
  )
  path = tmp_path / 'turned.mp4'
  path.write_bytes(data)
  expected = turned(_read(plain)[0][1].rgb)
  frames, reader = _read(path)
  np.testing.assert_array_equal(frames[1].rgb, expected)
  assert (reader.format.height, reader.format.width) == expected.shape[:2]


def test_time_stamps_of_a_variable_rate_come_as_stored(tmp_path):
  pts = [7, 700, 1500, 1501, 4000, 20000]
  path = _save(
    tmp_path / 'a.mkv', _moving(6), pts=pts, time_base=Fraction(1, 1000)
  )
  frames, reader = _read(path)
  assert [frame.pts for frame in frames] == pts
  assert reader.format.time_base == Fraction(1, 1000)


def test_a_stream_without_time_stamps_is_counted_at_its_rate(tmp_path):
  frames, reader = _read(_save(tmp_path / 'a.h264', _moving(5)))
  seconds = [frame.pts * reader.format.time_base for frame in frames]
  assert np.diff(seconds).tolist() == [Fraction(1, 25)] * 4


def test_time_stamps_rise_even_where_stored_twice(tmp_path):
  path = _save(
    tmp_path / 'a.mkv',
    _moving(4),
    pts=[0, 1500, 1501, 3000],  # In milliseconds: 0, 98, 98, 195.
    time_base=Fraction(1, 15360),
  )
  frames, _ = _read(path)
  assert [frame.pts for frame in frames] == [0, 98, 99, 195]


def test_a_title_in_another_alphabet(tmp_path):
  path = tmp_path / 'a.mkv'
  with av.open(str(path), 'w') as container:
    container.metadata['title'] = 'caf# au lait'
    stream = container.add_stream(
      'libx264', rate=25, width=WIDTH, height=HEIGHT
    )
    frame = av.VideoFrame.from_ndarray(_blocks(), 'rgb24')
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  path.write_bytes(path.read_bytes().replace(b'caf# au', b'caf\xe9 au'))
  assert len(_read(path)[0]) == 1


def test_a_stream_that_starts_anew_in_another_size(tmp_path):
  first = _save(tmp_path / 'a.ts', _moving(30))
  second = _save(tmp_path / 'b.ts', _moving(30, 64, 96))
  both = tmp_path / 'both.ts'
  both.write_bytes(first.read_bytes() + second.read_bytes())
  frames, _ = _read(both)
  assert len(frames) == 60
  assert {frame.rgb.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
  assert np.diff([frame.pts for frame in frames]).min() > 0


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.webm', '.avi', '.ts'])
def test_what_the_reader_says_of_a_video(tmp_path, suffix):
  codec = {'.webm': 'libvpx', '.avi': 'mpeg4'}.get(suffix, 'libx264')
  path = _save(tmp_path / f'a{suffix}', _moving(30), codec, g='10')
  frames, reader = _read(path)
  assert (reader.kind, len(frames), reader.lost) == ('video', 30, 0)
  assert reader.num_frames == 30
  assert reader.format[:3] == (HEIGHT, WIDTH, 25)


def test_longer_sound_does_not_count_as_frames(tmp_path):
  path = tmp_path / 'a.mkv'
  with av.open(str(path), 'w') as container:
    picture = container.add_stream(
      'libx264', rate=25, width=WIDTH, height=HEIGHT
    )
    sound = container.add_stream('pcm_s16le', rate=8000, layout='mono')
    for rgb in _moving(10):
      frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
      container.mux(picture.encode(frame))
    container.mux(picture.encode(None))
    silence = av.AudioFrame.from_ndarray(
      np.zeros((1, 16_000), np.int16), 's16', 'mono'
    )
    silence.sample_rate, silence.pts = 8000, 0
    container.mux(sound.encode(silence))
    container.mux(sound.encode(None))
  frames, reader = _read(path)
  assert (len(frames), reader.num_frames, reader.lost) == (10, 10, 0)


# Reading: broken and unfit files.


def test_a_cut_file_gives_what_is_there_and_counts_the_rest(tmp_path, capfd):
  path = _save(tmp_path / 'a.mkv', _moving(60), g='10')
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  frames, reader = _read(path)
  assert 10 < len(frames) < 50
  assert abs(len(frames) + reader.lost - 60) <= 1
  assert reader.damaged[-1] == len(frames)
  assert capfd.readouterr() == ('', '')


def test_a_cut_mp4_with_its_index_ahead(tmp_path):
  path = tmp_path / 'a.mp4'
  with av.open(str(path), 'w', options={'movflags': 'faststart'}) as container:
    stream = container.add_stream(
      'libx264', rate=25, width=WIDTH, height=HEIGHT, options={'g': '10'}
    )
    for rgb in _moving(60):
      frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 2 // 3])
  frames, reader = _read(path)
  assert 10 < len(frames) < 60
  assert len(frames) + reader.lost == reader.num_frames == 60


def test_damage_in_the_middle(tmp_path):
  path = _save(tmp_path / 'a.mp4', _moving(60), g='10')
  data = bytearray(path.read_bytes())
  middle = slice(len(data) // 3, len(data) // 2)
  data[middle] = bytes(len(data[middle]))
  path.write_bytes(data)
  frames, reader = _read(path)
  assert 30 < len(frames) < 60
  assert len(frames) + reader.lost == 60
  assert min(reader.damaged) > 10 and max(reader.damaged) < 40


def test_a_photograph_that_is_called_a_video(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(_blocks()).save(tmp_path / 'a.jpg', exif=exif)
  frames, _ = _read((tmp_path / 'a.jpg').rename(tmp_path / 'a.mp4'))
  assert len(frames) == 1


@pytest.mark.parametrize(
  'name, flipped', [('a.png', 99), ('a.png', 0), ('a.tiff', 0), ('a.jpg', 0)]
)
def test_of_a_broken_picture_libraries_say_nothing(
  tmp_path, capfd, name, flipped
):
  path = tmp_path / name
  video.write_image(path, _blocks())
  data = bytearray(path.read_bytes())
  if flipped:
    data[flipped] ^= 1
  else:
    del data[len(data) // 2 :]
  path.write_bytes(data)
  with pytest.raises(UserError, match=f'{name} is not .* damaged or cut short'):
    video.read_image(path)
  assert capfd.readouterr() == ('', '')


def test_a_large_png_is_not_called_broken(tmp_path, monkeypatch):
  video.write_image(tmp_path / 'a.png', _blocks())
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', HEIGHT * WIDTH - 1)
  np.testing.assert_array_equal(video.read_image(tmp_path / 'a.png'), _blocks())
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 99)
  with pytest.raises(UserError, match=r'a\.png has more than .* too large'):
    video.read_image(tmp_path / 'a.png')


def _sound(path):
  with wave.open(str(path), 'wb') as file:
    file.setparams((1, 2, 8000, 0, 'NONE', ''))
    file.writeframes(bytes(16_000))


def _cut_head(path):
  data = _save(path, _moving(10)).read_bytes()
  path.write_bytes(data[: len(data) // 2])


def _garbage(path):
  path.write_bytes(np.random.default_rng(0).bytes(5000))


@pytest.mark.parametrize(
  'name, make, words',
  [
    ('a.mp4', lambda path: None, 'does not exist'),
    ('a.mp4', lambda path: path.touch(), 'is empty'),
    ('a.png', lambda path: path.touch(), 'is empty'),
    ('a.mp4', _garbage, 'is not a video'),
    ('a.png', _garbage, 'is not an image'),
    ('a.txt', lambda path: path.write_text('words ' * 99), 'not a video'),
    ('a.mp4', lambda path: path.write_text('words ' * 99), 'not a video'),
    ('a.mp4', _cut_head, 'cut short'),
    ('a.wav', _sound, 'sound alone'),
    ('a.mp4', lambda path: _save(path, _moving(2, 30, 64)), '64x30 .* small'),
    ('folder', lambda path: path.mkdir(), 'holds no frames'),
  ],
)
def test_unfit_input_is_named_in_a_sentence(tmp_path, capfd, name, make, words):
  path = tmp_path / name
  make(path)
  with pytest.raises(UserError, match=words) as caught:
    VideoReader(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)
  assert capfd.readouterr() == ('', '')


# Images and folders.


def test_16_bit_image_is_rounded(tmp_path):
  values = np.arange(0, 65536, 21, np.uint16)[: 48 * 64].reshape(48, 64)
  path = tmp_path / 'a.png'
  cv2.imwrite(str(path), np.dstack([values] * 3))
  expected = np.round(values / 257)
  np.testing.assert_array_equal(video.read_image(path)[..., 1], expected)
  cv2.imwrite(str(path), values)
  np.testing.assert_array_equal(video.read_image(path)[..., 2], expected)


def test_alpha_of_an_image_is_dropped(tmp_path):
  rgb = _blocks()
  alpha = np.ones((HEIGHT, WIDTH), np.uint8)
  path = str(tmp_path / 'a.png')
  cv2.imwrite(path, np.dstack([rgb[..., ::-1], alpha]))
  np.testing.assert_array_equal(video.read_image(path), rgb)


def test_orientation_of_an_image_is_applied(tmp_path):
  rgb = _blocks()
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned a quarter clockwise.
  Image.fromarray(rgb).save(tmp_path / 'a.png', exif=exif)
  expected = np.rot90(rgb, -1)
  np.testing.assert_array_equal(video.read_image(tmp_path / 'a.png'), expected)
  (frame,), reader = _read(tmp_path / 'a.png')
  np.testing.assert_array_equal(frame.rgb, expected)
  assert reader.kind == 'image'
  assert reader.format[:2] == (WIDTH, HEIGHT)


def test_image_round_trip_under_any_name(tmp_path):
  path = tmp_path / 'größe 東京.png'
  video.write_image(path, _blocks()[:, ::-1])
  np.testing.assert_array_equal(video.read_image(path), _blocks()[:, ::-1])
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_unfit_images_are_refused(tmp_path):
  path = tmp_path / 'a.png'
  cv2.imwrite(str(path), np.zeros((31, 500, 3), np.uint8))
  with pytest.raises(UserError, match=r'a\.png is 500x31 .* too small'):
    video.read_image(path)
  cv2.imwrite(str(path), np.zeros((32, 16_385, 3), np.uint8))
  with pytest.raises(UserError, match='too large'):
    video.read_image(path)
  cv2.imwrite(str(tmp_path / 'a.tif'), np.zeros((40, 40, 3), np.float32))
  with pytest.raises(UserError, match='float32'):
    video.read_image(tmp_path / 'a.tif')
  with pytest.raises(UserError, match=r'b\.png'):
    video.read_image(tmp_path / 'b.png')
  with pytest.raises(UserError, match='end its name'):
    video.write_image(tmp_path / 'a.doc', _blocks())
  with pytest.raises(UserError, match=r'cannot write .*x\.png'):
    video.write_image(tmp_path / 'missing' / 'x.png', _blocks())


def test_frames_of_a_folder_come_in_natural_order(tmp_path):
  names = ['frame2.png', 'frame10.png', 'frame100.JPG', 'frame020.bmp']
  for index, name in enumerate(names):
    video.write_image(tmp_path / name, np.full((32, 40, 3), index, np.uint8))
  (tmp_path / 'notes.txt').write_text('not a frame')
  (tmp_path / '._frame3.png').write_bytes(b'nor this')
  frames, reader = _read(tmp_path)
  expected = ['frame2.png', 'frame10.png', 'frame020.bmp', 'frame100.JPG']
  assert [frame.name for frame in frames] == expected
  assert [int(frame.rgb.mean()) for frame in frames] == [0, 1, 3, 2]
  assert [frame.pts for frame in frames] == [0, 1, 2, 3]
  assert (reader.kind, reader.num_frames) == ('folder', 4)


def test_case_does_not_matter_to_the_order(tmp_path):
  names = ['a1.png', 'B2.png', 'b02.PNG', 'b3.png', 'B10.png', 'C.png', 'c.png']
  for name in names[::-1]:
    (tmp_path / name).touch()
  found = [path.name for path in video.image_files(tmp_path)]
  assert found == ['a1.png', 'B2.png', 'b02.PNG', *names[3:]]


def test_a_broken_link_in_a_folder_is_named(tmp_path):
  video.write_image(tmp_path / '1.png', np.zeros((32, 40, 3), np.uint8))
  (tmp_path / '2.png').symlink_to(tmp_path / 'gone.png')
  with pytest.raises(UserError, match=r'2\.png'):
    _read(tmp_path)


def test_a_folder_of_mixed_sizes_is_refused_at_once(tmp_path):
  for index, size in enumerate([(32, 40), (32, 40), (32, 48)]):
    video.write_image(tmp_path / f'{index}.png', np.zeros((*size, 3), np.uint8))
  with pytest.raises(UserError, match=r'2\.png is 48x32 .* 0\.png is 40x32'):
    VideoReader(tmp_path)


def test_a_frame_that_is_there_twice_is_refused(tmp_path):
  for name in ['a.png', 'a.jpg']:
    video.write_image(tmp_path / name, _blocks())
  with pytest.raises(UserError, match=r'a\.jpg and a\.png'):
    VideoReader(tmp_path)


# Writing.


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.mov', '.avi'])
@pytest.mark.parametrize('height, width', [(48, 64), (49, 64), (47, 63)])
def test_video_round_trip(tmp_path, suffix, height, width):
  frames = list(_moving(12, height, width))
  path = _write(tmp_path / f'a{suffix}', frames)
  back, reader = _read(path)
  assert reader.format[:3] == (height, width, 25)
  error = np.stack([frame.rgb for frame in back]) - np.stack(frames).astype(int)
  assert error.shape[0] == 12
  seconds = [frame.pts * reader.format.time_base for frame in back]
  assert np.diff(seconds).tolist() == [Fraction(1, 25)] * 11
  # H.264's own loss; another matrix or range would cost 10 levels.
  assert np.abs(error).mean() < 3
  assert np.abs(error.mean((0, 1, 2))).max() < 2
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_written_video_is_bt709_limited_and_says_so(tmp_path):
  (rgb,) = _moving(1)
  _write(tmp_path / 'a.mp4', [rgb])
  with av.open(str(tmp_path / 'a.mp4')) as container:
    (picture,) = container.decode(video=0)
    assert picture.format.name == 'yuv420p'
    tags = (
      *(picture.colorspace, picture.color_range),
      *(picture.color_primaries, picture.color_trc),
    )
    plane = picture.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(HEIGHT, -1)[:, :WIDTH]
  assert tags == (1, 1, 1, 1)
  expected = _ycbcr(rgb, BT709, full=False)[0]
  assert np.abs(luma - expected).mean() < 1
  assert abs((luma - expected).mean()) < 0.2


@pytest.mark.parametrize('codec', video.CODECS)
@pytest.mark.parametrize('height, width', [(48, 64), (47, 63)])
@pytest.mark.parametrize('bits', [8, 10, 16])
def test_codecs_and_depths(tmp_path, codec, bits, height, width):
  coding = video.Coding(codec, bits)
  path = tmp_path / ('a.mov' if codec == 'prores' else 'a.mkv')
  if bits not in video._CODECS[codec].pixels:
    with pytest.raises(UserError, match=f'--bits={bits} is not known'):
      VideoWriter(path, Format(height, width), coding=coding)
    return
  # A ramp far finer than 8 bits.
  ramp = np.linspace(20_000, 24_000, height * width).reshape(height, width)
  rgb = np.repeat(np.uint16(ramp)[..., None], 3, -1)
  frame = rgb if coding.deep else np.uint8(np.round(rgb / 257))
  _write(path, [frame] * 3, coding=coding)
  with VideoReader(path, deep=True) as reader:
    found = [frame.rgb for frame in reader]
  assert len(found) == 3 and found[0].dtype == np.uint16
  error = np.abs(np.float64(found) - rgb).mean()
  if codec == 'ffv1' and bits == 16:
    assert error == 0
  else:
    assert error < (160 if bits == 8 else 50)  # By rounding, twice.
  with av.open(str(path)) as container:
    (stream,) = container.streams.video
    assert stream.codec_context.name == codec
    assert stream.format.components[0].bits == bits
    assert next(container.decode(stream)).color_primaries == 1


def test_lossless_is_lossless(tmp_path):
  coding = video.Coding('ffv1')
  frames = [_blocks(seed=i) for i in range(3)]
  back, _ = _read(_write(tmp_path / 'a.mkv', frames, coding=coding))
  np.testing.assert_array_equal([frame.rgb for frame in back], frames)


def test_quality_is_followed(tmp_path):
  sizes = []
  for quality in (10, 40):
    path = tmp_path / f'{quality}.mp4'
    _write(path, _moving(10), coding=video.Coding(quality=quality))
    sizes.append(path.stat().st_size)
  assert sizes[0] > 1.5 * sizes[1]


@pytest.mark.parametrize(
  'name, coding, sentence',
  [
    ('a.mp4', ('h265',), '--codec=h265 is unknown; known are h264, hevc'),
    ('a.mp4', ('ffv1',), '--codec=ffv1 does not go into .*: name it .mkv'),
    ('a.mp4', ('prores',), 'name it .mov or .mkv'),
    ('a.mkv', ('ffv1', 8, 3), '--codec=ffv1 is without loss'),
    ('a.mkv', ('h264', 8, 52), '--quality=52 must be from 0 to 51'),
    ('frames', ('ffv1',), 'frames is no video: leave out --codec'),
    ('frames', ('h264', 10), '--bits=10 is not known for .*frames'),
    ('a.jpg', ('h264', 16), '--bits=16 is not known for .*jpg'),
  ],
)
def test_codings_that_do_not_go_are_refused(tmp_path, name, coding, sentence):
  with pytest.raises(UserError, match=sentence):
    VideoWriter(tmp_path / name, Format(48, 64), coding=video.Coding(*coding))
  assert not list(tmp_path.iterdir())


def test_16_bit_frames_to_files_and_back(tmp_path):
  rng = np.random.default_rng(0)
  rgb = rng.integers(0, 1 << 16, (48, 64, 3), np.uint16)
  _write(tmp_path / 'out', [rgb, rgb + 1], coding=video.Coding(bits=16))
  with VideoReader(tmp_path / 'out', deep=True) as reader:
    found = [frame.rgb for frame in reader]
  np.testing.assert_array_equal(found, [rgb, rgb + 1])


def test_10_bit_video_is_read_finer_than_8(tmp_path):
  y = np.linspace(400, 440, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).round()
  planes = [y, np.full_like(y, 512), np.full_like(y, 512)]
  path = _save_planes(tmp_path / 'a.mkv', planes, 'yuv444p10le', BT709)
  with VideoReader(path, deep=True) as reader:
    rgb = next(reader).rgb
  expected = (y - 64) / 876 * 65535
  np.testing.assert_allclose(rgb[..., 1], expected, atol=8)
  assert len(np.unique(rgb)) >= 40  # 8 bits would have 12 levels.


@pytest.mark.parametrize('count', [0, 1, 7, 39])
def test_skipped_frames_are_as_if_read(tmp_path, count):
  path = _save(tmp_path / 'a.mkv', _moving(40))
  whole, _ = _read(path)
  with VideoReader(path) as reader:
    reader.skip(count)
    rest = list(reader)
  assert [frame.pts for frame in rest] == [frame.pts for frame in whole[count:]]
  np.testing.assert_array_equal(rest[0].rgb, whole[count].rgb)


def test_tags_and_pixel_aspect_are_handed_on(tmp_path):
  form = Format(
    HEIGHT,
    WIDTH,
    pixel_aspect=Fraction(16, 15),
    primaries=6,
    transfer=6,
    matrix=6,
  )
  path = _write(tmp_path / 'a.mp4', _moving(2), form)
  _, reader = _read(path)
  assert reader.format[4:8] == (Fraction(16, 15), 6, 6, 6)


@pytest.mark.parametrize('start', [0, 777, -40])
def test_time_stamps_count_from_the_first_frame_exactly(tmp_path, start):
  time_base = Fraction(1, 15360)
  times = [0, 700, 1500, 1501, 4000, 4400, 9000, 9001, 12345, 20000]
  frames = [
    Frame(rgb, start + pts) for rgb, pts in zip(_moving(10), times, strict=True)
  ]
  form = Format(HEIGHT, WIDTH, Fraction(10), time_base)
  for suffix in ['.mp4', '.mov']:
    back, reader = _read(_write(tmp_path / f'a{suffix}', frames, form))
    ratio = reader.format.time_base / time_base
    assert [frame.pts * ratio for frame in back] == times
  # Matroska counts milliseconds; two frames must not fall into one.
  path = _write(tmp_path / 'a.mkv', frames, form)
  with av.open(str(path)) as container:
    written = [frame.pts for frame in container.decode(video=0)]
  exact = [float(1000 * pts * time_base) for pts in times]
  np.testing.assert_allclose(written, exact, atol=1.5, rtol=0)
  assert np.diff(written).min() > 0


@pytest.mark.parametrize('suffix', ['.mp4', '.mov', '.mkv'])
def test_the_last_frame_keeps_its_duration(tmp_path, suffix):
  frames = [
    Frame(rgb, pts, duration=2000 if pts == 500 else None)
    for rgb, pts in zip(_moving(5), [0, 40, 120, 160, 500], strict=True)
  ]
  form = Format(HEIGHT, WIDTH, Fraction(25), Fraction(1, 1000))
  path = _write(tmp_path / f'a{suffix}', frames, form)
  again = _write(tmp_path / f'b{suffix}', *_with_format(path))
  for one in (path, again):
    back, reader = _read(one)
    last = back[-1].pts + back[-1].duration
    assert last * reader.format.time_base == Fraction(5, 2)
    between = [b.pts - a.pts for a, b in itertools.pairwise(back)]
    assert [frame.duration for frame in back[:-1]] == between


def _with_format(path):
  frames, reader = _read(path)
  return frames, reader.format


def test_an_avi_of_a_clock_that_starts_late(tmp_path):
  frames = [Frame(rgb, 900_000 + i) for i, rgb in enumerate(_moving(5))]
  back, _ = _read(_write(tmp_path / 'a.avi', frames))
  assert len(back) == 5


def test_folder_round_trip_keeps_names(tmp_path):
  frames = [Frame(_blocks(seed=i), name=f'shot{i}.jpg') for i in range(3)]
  _write(tmp_path / 'out', frames)
  back, _ = _read(tmp_path / 'out')
  assert [frame.name for frame in back] == [f'shot{i}.png' for i in range(3)]
  for ours, frame in zip(frames, back, strict=True):
    np.testing.assert_array_equal(frame.rgb, ours.rgb)
  _write(tmp_path / 'numbered', [frame.rgb for frame in frames])
  assert _read(tmp_path / 'numbered')[0][2].name == '000002.png'


def test_one_image_is_one_frame(tmp_path):
  _write(tmp_path / 'a.png', [_blocks()])
  np.testing.assert_array_equal(video.read_image(tmp_path / 'a.png'), _blocks())
  with (
    pytest.raises(UserError, match=r'b\.png is one image'),
    VideoWriter(tmp_path / 'b.png', Format(HEIGHT, WIDTH)) as writer,
  ):
    for _ in range(50):
      writer.write(Frame(_blocks()))
    raise AssertionError('told only at the end')
  assert [p.name for p in tmp_path.iterdir()] == ['a.png']


@pytest.mark.parametrize('name', ['a.mp4', 'a.png', 'folder'])
def test_existing_output_is_refused_unless_it_may_go(tmp_path, name):
  path = _write(tmp_path / name, [_blocks()])
  with pytest.raises(UserError, match=f'{name} .*--overwrite'):
    VideoWriter(path, Format(HEIGHT, WIDTH))
  _write(path, [_blocks(32, 32)], overwrite=True)
  assert _read(path)[0][0].rgb.shape == (32, 32, 3)
  assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_empty_folder_is_no_obstacle_and_another_is_not_deleted(tmp_path):
  folder = tmp_path / 'out'
  folder.mkdir()
  _write(folder, [_blocks()])
  (folder / 'thesis.tex').write_text('years of work')
  with pytest.raises(UserError, match=r'thesis\.tex'):
    VideoWriter(folder, Format(HEIGHT, WIDTH), overwrite=True)


def test_output_of_no_known_kind_is_refused(tmp_path):
  with pytest.raises(UserError, match=r'a\.xyz cannot be written'):
    VideoWriter(tmp_path / 'a.xyz', Format(HEIGHT, WIDTH))
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='is a file'):
    VideoWriter(tmp_path / 'file', Format(HEIGHT, WIDTH), overwrite=True)
  with pytest.raises(UserError, match=r'cannot write .*a\.mp4'):
    VideoWriter(tmp_path / 'file' / 'a.mp4', Format(HEIGHT, WIDTH))
  assert [p.name for p in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('name', ['a.mp4', 'a.png', 'folder'])
def test_a_failed_run_leaves_the_target_as_it_was(tmp_path, name):
  path = _write(tmp_path / name, [_blocks()])
  with (
    pytest.raises(RuntimeError, match='the network'),
    VideoWriter(path, Format(HEIGHT, WIDTH), overwrite=True) as writer,
  ):
    writer.write(Frame(_blocks(seed=1)))
    raise RuntimeError('the network fell over')
  assert [p.name for p in tmp_path.iterdir()] == [name]
  error = _read(path)[0][0].rgb.astype(int) - _blocks()
  assert np.abs(error[4::8, 4::8]).mean() < 5  # Still seed 0.
  assert not _threads()


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'folder'])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, name):
  resource = pytest.importorskip('resource')
  noise = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), np.uint8)
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # Of one file.
  try:
    with pytest.raises(UserError, match=f'cannot write .*{name}: File too'):
      _write(tmp_path / name, noise)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not list(tmp_path.iterdir())
  assert not _threads()


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
  (tmp_path / '.a.partial.mp4').write_bytes(b'half a video')
  (tmp_path / '.out.partial').mkdir()
  (tmp_path / '.out.partial' / '000007.png').write_bytes(b'half a frame')
  _write(tmp_path / 'a.mp4', _moving(3))
  _write(tmp_path / 'out', _moving(3))
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.mp4', 'out']
  assert len(_read(tmp_path / 'out')[0]) == 3


def test_an_output_without_frames_is_not_written(tmp_path):
  with pytest.raises(UserError, match='no frame'):
    _write(tmp_path / 'a.mp4', [], Format(HEIGHT, WIDTH))
  assert not list(tmp_path.iterdir())


def test_arrays_of_another_kind_are_refused(tmp_path):
  with VideoWriter(tmp_path / 'a.mp4', Format(HEIGHT, WIDTH)) as writer:
    writer.write(Frame(_blocks()))
    with pytest.raises(TypeError, match='float64'):
      writer.write(Frame(_blocks() / 255))
    with pytest.raises(ValueError, match='output of'):
      writer.write(Frame(_blocks(64, 64)))


# Side by side.


def test_prefetch_gives_the_same_and_runs_ahead_no_further_than_told():
  made = []

  def source():
    for i in range(20):
      made.append(i)
      yield i

  ahead = video.prefetch(source(), size=3)
  assert next(ahead) == 0
  deadline = time.monotonic() + 5
  while len(made) < 4 and time.monotonic() < deadline:
    time.sleep(0.01)
  time.sleep(0.05)
  assert made == [0, 1, 2, 3]
  assert list(ahead) == list(range(1, 20))
  assert not _threads()


def test_prefetch_hands_on_an_exception_in_its_place():
  def source():
    yield 1
    raise UserError('no more')

  ahead = video.prefetch(source())
  assert next(ahead) == 1
  with pytest.raises(UserError, match='no more'):
    next(ahead)
  assert not _threads()


def test_prefetch_that_is_closed_or_dropped_leaves_no_thread():
  ahead = video.prefetch(itertools.count())
  next(ahead)
  ahead.close()
  assert not _threads()
  ahead = video.prefetch(itertools.count())
  next(ahead)
  del ahead
  assert not _threads()


def test_reader_may_be_closed_while_frames_are_fetched(tmp_path):
  path = _save(tmp_path / 'a.mp4', _moving(60))
  with VideoReader(path) as reader:
    ahead = video.prefetch(reader)
    next(ahead)
  assert len(list(ahead)) < 60
  assert not _threads()


def test_a_whole_pass_from_video_to_video(tmp_path):
  path = _save(tmp_path / 'in.mkv', _moving(40))
  with (
    VideoReader(path) as reader,
    VideoWriter(tmp_path / 'out.mp4', reader.format) as writer,
  ):
    for frame in video.prefetch(reader):
      writer.write(frame._replace(rgb=255 - frame.rgb))
  before, _ = _read(path)
  after, reader = _read(tmp_path / 'out.mp4')
  assert len(after) == 40
  for a, b in zip(before, after, strict=True):
    assert np.abs(a.rgb.astype(int) + b.rgb - 255).mean() < 3
    assert b.pts * reader.format.time_base == Fraction(a.pts, 1000)


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
def test_a_file_has_only_so_many_streams(tmp_path, suffix, monkeypatch):
  monkeypatch.setattr(video, '_bounds', video.Bounds(streams=3))
  for count in (3, 4):
    _many_streams(tmp_path / f'{count}{suffix}', count)
  with video.VideoReader(tmp_path / f'3{suffix}') as reader:
    assert len([*reader]) == 1
  with pytest.raises(UserError, match='has more than 3 streams'):
    video.VideoReader(tmp_path / f'4{suffix}')
  with pytest.raises(UserError, match='has more than 3 streams'):
    mux.left_out(tmp_path / f'4{suffix}', tmp_path / 'out.mkv')


def test_a_frame_that_is_too_large_is_not_decoded_to_open_a_file(
  tmp_path, monkeypatch
):
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
  assert video.open_input(path).streams.video[0].width == 640
  monkeypatch.setattr(video, '_bounds', video.Bounds(pixels=640 * 640 - 1))
  assert video.open_input(path).streams.video[0].width == 0


@pytest.mark.parametrize('bits', [8, 10])
def test_colors_of_420_are_the_same_in_16_bits(tmp_path, bits):
  coding = video.Coding(bits=bits)
  rgb = np.full((48, 64, 3), (192, 150, 94), np.uint8)
  frame = rgb * np.uint16(257) if coding.deep else rgb
  path = _write(tmp_path / 'a.mp4', [frame], coding=coding)
  with VideoReader(path, deep=True) as reader:
    found = next(reader).rgb / 257
  assert np.abs(found - rgb).max() < 3
