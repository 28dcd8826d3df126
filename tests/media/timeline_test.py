"""timeline: clocks that restart are joined."""

import numpy as np
import pytest
from written_recordings import copied, packet_times, record, record_moved


@pytest.mark.parametrize('target', ['.mp4', '.mkv', '.avi'])
@pytest.mark.parametrize('form, sound', [('vob', 'ac3'), ('mpegts', 'mp2')])
def test_joined_recordings_are_continuous(tmp_path, form, sound, target):
  parts = [
    record(tmp_path / f'{i}', count, form=form, sounds=[sound], late=late)
    for i, (count, late) in enumerate([(25, 700), (50, 3), (25, 9000)])
  ]
  source = tmp_path / 'in'
  source.write_bytes(b''.join(x.read_bytes() for x in parts))
  assert not copied(source, tmp_path / f'out{target}')
  times = packet_times(tmp_path / f'out{target}')
  assert len(times['video']) == 100
  gaps = np.diff(times['video'])
  assert gaps.min() > 0.01 and gaps.max() < 0.1
  expected = sum(len(packet_times(part)['audio']) for part in parts)
  assert expected - 6 <= len(times['audio']) <= expected
  assert np.diff(times['audio']).max() < 0.1
  assert abs(times['audio'][-1] - times['video'][-1]) < 0.15


@pytest.mark.parametrize('target', ['.mp4', '.mkv', '.avi'])
def test_audio_whose_clock_restarts_is_joined(tmp_path, target):
  whole = record_moved(tmp_path / 'in', 500)
  assert not copied(tmp_path / 'in', tmp_path / f'out{target}')
  times, before = packet_times(tmp_path / f'out{target}'), packet_times(whole)
  assert len(times['audio']) == len(before['audio'])
  start = before['audio'][0]
  np.testing.assert_allclose(times['audio'], before['audio'] - start, atol=0.1)
