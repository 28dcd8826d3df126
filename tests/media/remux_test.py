"""remux: streams and packets that a container refuses."""

import itertools

import av
import pytest
from written_recordings import copied, packet_times, record

from vitexco_jax.errors import UserError
from vitexco_jax.media import mux, remux


def test_streams_that_cannot_be_copied_are_reported_with_the_reason(tmp_path):
  source = record(tmp_path / 'in.mkv', 25, 'libx264', sounds=['libopus'])
  with pytest.raises(UserError) as caught:
    mux.left_out(source, tmp_path / 'out.avi')
  message = str(caught.value)
  assert 'out.avi cannot hold the sound' in message and 'opus' in message
  assert '.mkv' in message and '`audio=none`' in message
  assert not copied(source, tmp_path / 'out.avi', sound=False)


def test_packets_that_a_container_refuses(tmp_path, monkeypatch):
  source = record(tmp_path / 'in.mkv', 25, 'libx264', sounds=['mp2'])
  mux_one = remux.mux_one
  numbers = itertools.count()

  def refusing(out, packet):
    if next(numbers) in (3, 4):
      raise av.InvalidDataError(1, 'no', 'x', (16, 'mp4', 'it is broken\n'))
    mux_one(out, packet)

  monkeypatch.setattr(remux, 'mux_one', refusing)
  missing = copied(source, tmp_path / 'out.mp4')
  count = len(packet_times(source)['audio'])
  assert missing == [f'2 packets of {count} of audio (mp2): it is broken']
  assert len(packet_times(tmp_path / 'out.mp4')['audio']) == count - 2
