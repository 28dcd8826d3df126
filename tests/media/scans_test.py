"""scans: DPX and OpenEXR round trips, colors, and time codes."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from written_videos import read, write

from vitexco_jax.media import scans, video

_RATE = Fraction(24)


def _noise(height=47, width=63):
  rgb = np.random.default_rng(0).integers(
    0, 1 << 16, (height, width, 3), np.uint16
  )
  rgb[0, :2] = [[0], [65535]]
  return rgb


@pytest.mark.parametrize(
  'codec, bits, bound',
  [
    ('png', 16, 0),
    ('tiff', 16, 0),
    ('dpx', 16, 0),
    ('dpx', None, 65535 / 1023 / 2 + 1),
    ('exr', None, 80),  # Half floats: 11 bits of linear light.
  ],
)
def test_folder_round_trip(tmp_path, codec, bits, bound):
  frames = [_noise(), _noise()[::-1].copy()]
  coding = video.Coding(codec, bits)
  assert coding.deep
  form = video.Format(47, 63, _RATE, time_code='00:59:59:23')
  write(tmp_path / 'out', frames, form, coding=coding)
  suffix = {'tiff': 'tif'}.get(codec, codec)
  names = [f'{i:06d}.{suffix}' for i in range(2)]
  assert sorted(x.name for x in (tmp_path / 'out').iterdir()) == names
  with video.VideoReader(tmp_path / 'out', deep=True) as reader:
    back = [frame.rgb for frame in reader]
    code = reader.format.time_code
  assert np.abs(np.int64(back) - np.int64(frames)).max() <= bound
  assert code == ('00:59:59:23' if codec in ('dpx', 'exr') else '')
  if code:
    later = (tmp_path / 'out' / names[1]).read_bytes()
    assert scans.time_code(later) == '01:00:00:00'
  write(tmp_path / 'out', frames[:1], form, coding=coding, overwrite=True)
  assert len(list((tmp_path / 'out').iterdir())) == 1


def test_eight_bits_are_written_as_more(tmp_path):
  rgb = np.uint8(_noise() >> 8)
  write(tmp_path / 'out', [rgb], coding=video.Coding('dpx'))
  np.testing.assert_array_equal(read(tmp_path / 'out')[0][0].rgb, rgb)


def test_ten_bits_of_dpx_are_exact():
  levels = np.arange(1024, dtype=np.float64).reshape(32, 32, 1).repeat(3, -1)
  rgb = np.uint16(np.round(levels * 65535 / 1023))
  data = scans.encode('.dpx', rgb, 10, '', _RATE)
  np.testing.assert_array_equal(
    np.round(scans.decode(data, {}) / 65535 * 1023), levels
  )
  # Written by hand from the standard: places in the header of SMPTE 268M.
  assert data[:4] == b'SDPX' and data[801:804] == bytes([6, 6, 10])
  assert int.from_bytes(data[4:8]) == 2048  # Where the picture begins.
  assert int.from_bytes(data[16:20]) == len(data) == 2048 + 4 * 32 * 32
  assert data[1920:1924] == b'\xff' * 4  # No time code.
  words = np.frombuffer(data[2048:], '>u4').reshape(32, 32)
  np.testing.assert_array_equal(words >> 22, levels[..., 0])


def test_openexr_holds_linear_light():
  rgb = np.full((32, 32, 3), 32768, np.uint16)
  rgb[:16] = 65535
  data = scans.encode('.exr', rgb, 16, '01:02:03:04', _RATE)
  with av.open(io.BytesIO(data), 'r', format='exr_pipe') as container:
    picture = next(container.decode(video=0))
    linear = picture.to_ndarray(format='gbrpf32le')
  np.testing.assert_allclose(linear[:16], 1, atol=1e-3)
  np.testing.assert_allclose(linear[16:], 0.2140, atol=2e-4)


@pytest.mark.parametrize('suffix', scans.SUFFIXES)
@pytest.mark.parametrize('code', ['10:59:48:23', '01:02:03;29', ''])
def test_time_codes(suffix, code):
  data = scans.encode(suffix, _noise(), 16, code, _RATE)
  assert scans.time_code(data) == code
  for end in (*range(0, 400), 1000, 2047):  # Of a file that is cut short.
    assert scans.time_code(data[:end]) in ('', code)


def test_little_endian_dpx_and_short_headers():
  data = bytearray(scans.encode('.dpx', _noise(), 16, '10:59:48:23', _RATE))
  short = data.copy()
  short[4:8] = (1664).to_bytes(4)  # The picture begins before the time code.
  assert scans.time_code(bytes(short)) == ''
  for place in (4, 1920):
    data[place : place + 4] = data[place : place + 4][::-1]
  data[:4] = b'XPDS'
  assert scans.time_code(bytes(data)) == '10:59:48:23'
