"""mxf: constant rate, sound without gaps, time codes, and refusals."""

from fractions import Fraction

import av
import numpy as np
import pytest
import written_recordings
from written_recordings import RATE, decoded, draw_picture, record
from written_videos import write

from vitexco_jax.errors import UserError
from vitexco_jax.media import mux, mxf, video

_CODING = video.Coding('dnxhr')
_SIZE = (120, 256)  # The smallest that DNxHR supports.


@pytest.fixture(autouse=True)
def large_pictures(monkeypatch):
  monkeypatch.setattr(written_recordings, 'SIZE', _SIZE)


def _copied(source, target, **kwargs):
  """Copies a file with the same pictures as DNxHR in MXF."""
  part = target.with_suffix('.mov')
  with video.VideoReader(source, deep=True) as reader:
    form, frames = reader.format, list(reader)
  plain = [frame._replace(pts=None, duration=None) for frame in frames]
  write(part, plain, form._replace(time_base=None), coding=_CODING)
  end = frames[-1].pts + frames[-1].duration
  segment = mux.Segment(part, [x.pts for x in frames], 0, end)
  mux.join([segment], form, source, target, **kwargs)
  return frames


@pytest.mark.parametrize('after', [0.2, -0.2, 0])
@pytest.mark.parametrize('codec', ['pcm_s16le', 'pcm_s16be', 'pcm_s24le'])
def test_sound_is_padded_and_cut_to_the_pictures(tmp_path, codec, after):
  source = record(tmp_path / 'in.mov', 25, 'libx264', 'mov', [codec], 7, after)
  target = tmp_path / 'out.mxf'
  assert not mux.left_out(source, target)
  _copied(source, target)
  with av.open(str(target)) as container:
    assert container.format.name == 'mxf'
    (stream,) = container.streams.video
    assert stream.codec_context.profile == 'DNXHR HQX'
    assert stream.average_rate == 25
    times = [x.pts * x.time_base for x in container.decode(stream)]
  assert times == [Fraction(i, 25) for i in range(25)]
  before, sound = decoded(source), decoded(target)
  assert len(sound) == 2 * RATE  # Stereo, one second.
  shift = 2 * round(abs(after) * RATE)
  if after >= 0:
    assert not sound[:shift].any()
    np.testing.assert_array_equal(sound[shift:], before[: len(sound) - shift])
  else:  # The sound before the first picture is left out.
    kept = len(before) - shift
    np.testing.assert_array_equal(sound[:kept], before[shift:])
    assert not sound[kept:].any()


def test_pictures_that_are_shown_longer_are_repeated(tmp_path):
  form = video.Format(*_SIZE, Fraction(25), time_code='09:59:59:20')
  stamps = [0, 1, 4, 5]
  frames = [
    video.Frame(draw_picture(10 * i), stamp, duration=2 if i == 3 else None)
    for i, stamp in enumerate(stamps)
  ]
  part = write(tmp_path / 'a.mov', frames, form, coding=_CODING)
  segment = mux.Segment(part, stamps, 0, 7)
  for name in ('a.mxf', 'b.mxf'):
    mux.join([segment], form, None, tmp_path / name)
  assert (tmp_path / 'a.mxf').read_bytes() == (tmp_path / 'b.mxf').read_bytes()
  with video.VideoReader(tmp_path / 'a.mxf') as reader:
    assert reader.format.time_code == '09:59:59:20'
    assert reader.num_frames == 7
    back = [frame.rgb for frame in reader]
  expected = [frames[i].rgb for i in (0, 1, 1, 1, 2, 3, 3)]
  assert np.abs(np.int64(back) - np.int64(expected)).max() < 4


def test_pictures_alone(tmp_path):
  frames = [draw_picture(i) for i in range(3)]
  form = video.Format(*_SIZE, time_code='10:00:00:00')
  path = write(tmp_path / 'a.mxf', frames, form, coding=_CODING)
  with video.VideoReader(path) as reader:
    assert reader.format.time_code == '10:00:00:00'
    assert np.abs(np.int64([x.rgb for x in reader]) - frames).max() < 4


@pytest.mark.parametrize('codec', ['aac', 'pcm_s32le'])
def test_other_sound_is_refused(tmp_path, codec):
  source = record(tmp_path / 'in.mov', 25, 'libx264', 'mov', [codec])
  with pytest.raises(UserError) as error:
    mux.left_out(source, tmp_path / 'out.mxf')
  assert 'MXF holds PCM of 16 or 24 bits and 48 kHz: name the ' in str(
    error.value
  )
  assert '.mov' in str(error.value)
  _copied(source, tmp_path / 'out.mxf', sound=False)
  with av.open(str(tmp_path / 'out.mxf')) as container:
    assert [stream.type for stream in container.streams] == ['video']


def test_subtitles_and_chapters_are_reported(tmp_path):
  source = tmp_path / 'in.mkv'
  with av.open(str(source), 'w') as out:
    track = out.add_stream('libx264', rate=25, width=256, height=120)
    words = out.add_mux_stream('subrip')
    chapter = {'id': 1, 'start': 0, 'end': 80, 'time_base': Fraction(1, 1000)}
    out.set_chapters([chapter | {'metadata': {}}])
    out.mux(track.encode(av.VideoFrame.from_ndarray(draw_picture(0), 'rgb24')))
    out.mux(track.encode(None))
    text = av.Packet(b'word')
    text.stream, text.pts, text.dts, text.duration = words, 0, 0, 40
    text.time_base = Fraction(1, 1000)
    out.mux(text)
  assert mux.left_out(source, tmp_path / 'out.mxf') == [
    'subtitle (srt): MXF holds only pictures and sound',
    'chapters',
  ]


def test_only_rates_of_film_and_television_and_square_pixels():
  ntsc = Fraction(24_000, 1001)
  for rate in (ntsc, Fraction('23.976'), Fraction('23.98')):
    assert mxf.frame_rate(rate) == ntsc
  assert mxf.frame_rate(Fraction(24)) == 24
  for change, words in (
    ({'frame_rate': Fraction(18)}, 'has 23.9.* per second, not 18: name the'),
    ({'pixel_aspect': Fraction(16, 15)}, 'square pixels only, but .* 16/15 as'),
  ):
    form = video.Format(*_SIZE)._replace(**change)
    with pytest.raises(UserError, match=f'a.mxf is impossible: .*{words}'):
      _CODING.check_format('a.mxf', form)
    _CODING.check_format('a.mov', form)
