"""stream_copy: overlapping audio, conversion to PCM, and chapters."""

import itertools

import av
import numpy as np
import pytest
from written_recordings import (
  copied,
  decoded,
  packet_times,
  record,
  record_moved,
)


@pytest.mark.parametrize('target', ['.mp4', '.mkv'])
def test_overlapping_audio_is_dropped_and_reported(tmp_path, target):
  record_moved(tmp_path / 'in', 90)
  missing = copied(tmp_path / 'in', tmp_path / f'out{target}')
  assert missing == ['0.05 s of audio (mp3float) that overlap with others']
  gaps = np.diff(packet_times(tmp_path / f'out{target}')['audio'])
  assert gaps.min() > 0 and gaps.max() < 0.06


def test_audio_with_a_late_format(tmp_path):
  source = record(
    tmp_path / 'in.vob', 375, form='vob', sounds=['ac3'], after=14
  )
  with av.open(str(source)) as container:  # By itself FFmpeg gives up.
    assert not container.streams.audio[0].rate
  assert not copied(source, tmp_path / 'out.mkv')
  times, before = packet_times(tmp_path / 'out.mkv'), packet_times(source)
  assert len(times['audio']) == len(before['audio'])
  assert abs(times['audio'][0] - 14) < 0.1


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
def test_audio_of_discs_is_converted_without_loss(
  tmp_path, codec, form, target
):
  name = 'in.m2ts' if codec == 'pcm_bluray' else 'in'
  late = 0 if form == 'avi' else 3
  source = record(tmp_path / name, form=form, sounds=[codec], late=late)
  assert not copied(source, tmp_path / f'out{target}')
  actual = decoded(tmp_path / f'out{target}')
  np.testing.assert_array_equal(actual, decoded(source))
  assert actual.any()
  times, before = packet_times(tmp_path / f'out{target}'), packet_times(source)
  apart = [x['audio'][0] - x['video'][0] for x in (times, before)]
  assert abs(apart[0] - apart[1]) < 0.05


def test_several_audio_tracks(tmp_path):
  source = record(tmp_path / 'in.ts', sounds=['mp2', 'ac3', 'aac'], late=77)
  assert not copied(source, tmp_path / 'out.mkv')
  with av.open(str(tmp_path / 'out.mkv')) as container:
    names = [x.codec_context.codec.name for x in container.streams.audio]
    assert len(names) == 3
    starts = [x.start_time * x.time_base for x in container.streams.audio]
  with av.open(str(source)) as container:
    before = [x.start_time * x.time_base for x in container.streams.audio]
  for a, b in itertools.pairwise(zip(starts, before, strict=True)):
    assert abs((a[0] - b[0]) - (a[1] - b[1])) < 0.002
