"""tone_mapping: HDR and wide-gamut video is read as BT.709, and tagged so."""

import av
import numpy as np
import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.media import video

BT2020, BT709 = 9, 1
PQ, HLG, SDR_2020 = 16, 18, 14
NITS = np.array([0, 1, 10, 50, 100, 203, 400, 1000])


def _pq(nits):
  """SMPTE ST 2084's code, 0 to 1."""
  y = (nits / 10_000) ** 0.1593017578125
  return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def _save(path, codes, transfer, primaries=BT2020, matrix=BT2020, light=None):
  """Writes gray bars of these codes, 10 bits of limited range."""
  gray = np.round(4 * (16 + 219 * codes)).repeat(16)[None].repeat(48, 0)
  picture = av.VideoFrame(gray.shape[1], 48, 'yuv420p10le')
  chroma = np.full((24, gray.shape[1] // 2), 512)
  for plane, values in zip(picture.planes, (gray, chroma, chroma), strict=True):
    rows = np.ascontiguousarray(values.astype('<u2')).view(np.uint8)
    padded = np.zeros((plane.height, plane.line_size), np.uint8)
    padded[:, : rows.shape[1]] = rows
    plane.update(padded.tobytes())
  options = {'x265-params': 'log-level=none:lossless=1' + (light or '')}
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx265', rate=25, options=options)
    stream.width, stream.height = picture.width, 48
    stream.pix_fmt = 'yuv420p10le'
    stream.color_primaries, stream.color_trc = primaries, transfer
    stream.colorspace, stream.color_range = matrix, 1
    container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return path


def _read(path, deep=False):
  """The bars' levels, and the reader."""
  with video.VideoReader(path, deep) as reader:
    (frame,) = reader
  assert np.ptp(frame.rgb[24, 8::16], -1).max() <= (16 if deep else 1)
  return frame.rgb[24, 8::16, 1], reader


def test_pq_is_mapped_to_standard_brightness(tmp_path):
  light = ':hdr10=1:max-cll=1000,400:master-display=G(13250,34500)B(7500,3000)'
  light += 'R(34000,16000)WP(15635,16450)L(10000000,1)'
  path = _save(tmp_path / 'a.mkv', _pq(NITS), PQ, light=light)
  levels, reader = _read(path)
  # Black, then brighter and brighter up to white at the peak.
  assert levels[0] == 0
  assert (np.diff(levels.astype(int)) > 5).all()
  assert levels[-1] >= 253
  # White paper, 203 nits, is bright; skin, about 50, is where it is in SDR.
  assert 150 < levels[5] < 235
  assert 70 < levels[3] < 140
  form = reader.format
  assert (form.primaries, form.transfer, form.matrix) == (BT709, BT709, BT709)
  with video.VideoWriter(tmp_path / 'b.mp4', form) as writer:
    writer.write(video.Frame(np.zeros((48, 128, 3), np.uint8)))
  with av.open(str(tmp_path / 'b.mp4')) as container:
    picture = next(container.decode(video=0))
  assert (picture.color_primaries, picture.color_trc) == (BT709, BT709)
  assert picture.colorspace == BT709


def test_hlg_in_16_bits(tmp_path):
  levels, _ = _read(_save(tmp_path / 'a.mkv', np.linspace(0, 1, 8), HLG), True)
  assert levels.dtype == np.uint16
  assert levels[0] < 257
  assert (np.diff(levels.astype(int)) > 2000).all()
  assert levels[-1] > 64_000


def test_wide_gamut_without_hdr_keeps_grays(tmp_path):
  codes = np.linspace(0, 1, 8)
  path = _save(tmp_path / 'a.mkv', codes, SDR_2020)
  levels, reader = _read(path)
  np.testing.assert_allclose(levels, 255 * codes, atol=1.5)
  assert reader.format.primaries == reader.format.matrix == BT709


def test_the_matrix_of_dolby_vision_is_refused(tmp_path):
  path = _save(tmp_path / 'a.mkv', _pq(NITS), PQ, matrix=14)
  with pytest.raises(
    UserError, match=r'a\.mkv is HDR video whose colors are ICt'
  ):
    video.VideoReader(path)
