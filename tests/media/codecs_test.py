"""codecs: depths, quality, and combinations that are refused."""

import av
import numpy as np
import pytest
from written_videos import blocks, moving, read, write

from vitexco_jax.errors import UserError
from vitexco_jax.media import codecs
from vitexco_jax.media.video import Format, VideoReader, VideoWriter


@pytest.mark.parametrize('codec', codecs.CODECS)
@pytest.mark.parametrize('odd', [0, 1])
@pytest.mark.parametrize('bits', [8, 10, 16])
def test_codecs_and_depths(tmp_path, codec, bits, odd):
  coding = codecs.Coding(codec, bits)
  path = tmp_path / ('a.mkv' if codec in ('h264', 'hevc', 'ffv1') else 'a.mov')
  height, width = np.subtract((122, 258) if codec == 'dnxhr' else (48, 64), odd)
  if bits not in coding.settings.pixels:
    with pytest.raises(UserError, match=f'`bits={bits}` is not known'):
      VideoWriter(path, Format(height, width), coding=coding)
    return
  # A ramp far finer than 8 bits.
  ramp = np.linspace(20_000, 24_000, height * width).reshape(height, width)
  rgb = np.repeat(np.uint16(ramp)[..., None], 3, -1)
  frame = rgb if coding.deep else np.uint8(np.round(rgb / 257))
  write(path, [frame] * 3, coding=coding)
  with VideoReader(path, deep=True) as reader:
    actual = [frame.rgb for frame in reader]
  assert len(actual) == 3 and actual[0].dtype == np.uint16
  error = np.abs(np.float64(actual) - rgb).mean()
  if codec == 'ffv1' and bits == 16:
    assert error == 0
  else:
    assert error < (160 if bits == 8 else 50)  # By rounding, twice.
  with av.open(str(path)) as container:
    (stream,) = container.streams.video
    name = {'prores4444': 'prores', 'dnxhr': 'dnxhd'}.get(codec, codec)
    assert stream.codec_context.name == name
    # FFmpeg decodes ProRes 4444 to 12 bits.
    stored = 12 if codec == 'prores4444' else bits
    assert stream.format.components[0].bits == stored
    assert next(container.decode(stream)).color_primaries == 1


def test_lossless_is_lossless(tmp_path):
  coding = codecs.Coding('ffv1')
  frames = [blocks(seed=i) for i in range(3)]
  back, _ = read(write(tmp_path / 'a.mkv', frames, coding=coding))
  np.testing.assert_array_equal([frame.rgb for frame in back], frames)


def test_quality_is_followed(tmp_path):
  sizes = []
  for quality in (10, 40):
    path = tmp_path / f'{quality}.mp4'
    write(path, moving(10), coding=codecs.Coding(quality=quality))
    sizes.append(path.stat().st_size)
  assert sizes[0] > 1.5 * sizes[1]


@pytest.mark.parametrize(
  'name, coding, sentence',
  [
    ('a.mp4', ('h265',), '`codec=h265` is unknown; known are h264, hevc'),
    (
      'a.mp4',
      ('ffv1',),
      '`codec=ffv1` does not go into .*: name it .mkv, or use '
      r'`codec=h264\|hevc`',
    ),
    ('a.mxf', (), r'name it .mp4 or .*, or use `codec=dnxhr`'),
    ('a.mp4', ('prores',), 'name it .mov or .mkv'),
    ('a.mkv', ('ffv1', 8, 3), '`codec=ffv1` has one quality'),
    (
      'a.mkv',
      ('dnxhr',),
      '`codec=dnxhr` does not go into .*: name it .mov or .mxf',
    ),
    ('a.mov', ('dnxhr',), '`codec=dnxhr` needs at least 256x120 pixels'),
    ('a.mov', ('prores',), '`codec=prores` would spoil the last column'),
    ('a.mov', ('dnxhr', 8), '`bits=8` is not known .*: choose from 10'),
    ('a.mp4', ('prores4444',), 'name it .mov or .mkv'),
    ('a.mkv', ('h264', 8, 52), '`quality=52` must be from 0 to 51'),
    ('frames', ('ffv1',), r'frames is not a video: .*`codec=png\|tiff\|dpx'),
    ('a.mov', ('dpx',), 'writes a folder of images, and .*a.mov is not the'),
    ('a.png', ('dpx',), 'writes a folder of images, and .*a.png is not the'),
    ('frames', ('dpx', 8), '`bits=8` is not known .*: choose from 10, 16'),
    ('frames', ('exr', 10), '`bits=10` is not known .*: choose from 16'),
    ('frames', ('exr', 16, 3), '`codec=exr` has one quality'),
    ('frames', ('h264', 10), '`bits=10` is not known for .*frames'),
    ('a.jpg', ('h264', 16), '`bits=16` is not known for .*jpg'),
  ],
)
def test_unsupported_codings_are_refused(tmp_path, name, coding, sentence):
  with pytest.raises(UserError, match=sentence):
    VideoWriter(tmp_path / name, Format(48, 65), coding=codecs.Coding(*coding))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'codec, chroma, profile',
  [
    ('prores', 2, 'HQ'),
    ('prores4444', 1, '4444'),
    ('dnxhr', 2, 'DNXHR HQX'),
  ],
)
def test_masters_keep_colors_tags_and_ten_bits(
  tmp_path, codec, chroma, profile
):
  height, width = 128, 256
  y, x = np.mgrid[:height, :width] / 255
  rgb = np.stack([0.2 + 0.6 * x, 0.7 - 0.4 * y, 0.3 + 0.2 * (x + y)], -1)
  deep = np.uint16(np.round(65535 * rgb))
  path = write(tmp_path / 'a.mov', [deep] * 2, coding=codecs.Coding(codec, 10))
  with VideoReader(path, deep=True) as reader:
    for frame in reader:
      # Well below a level of 8 bits, 257; a wrong range or matrix is far above.
      assert np.abs(np.int64(frame.rgb) - deep).mean() < 64
  with av.open(str(path)) as container:
    (stream,) = container.streams.video
    assert stream.codec_context.profile == profile
    assert stream.format.chroma_width(width) == width // chroma
    picture = next(container.decode(stream))
    assert picture.colorspace == picture.color_trc == 1
    assert picture.color_primaries == picture.color_range == 1  # Limited.
