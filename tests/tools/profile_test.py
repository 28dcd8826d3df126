"""The profile of coloring a video, at toy size."""

import pytest

from configs.vitexco import get_config
from vitexco_jax import stages
from vitexco_jax.errors import UserError
from vitexco_jax.tools import profile


def test_a_trace_has_every_stage_of_every_block(tmp_path, caplog):
  path = profile.profile(get_config('tiny'), tmp_path, 24, (32, 48))
  assert path.is_relative_to(tmp_path)
  calls = {
    line.partition('  ')[0]: int(line.split()[-2])
    for line in caplog.messages
    if line.endswith(' calls')
  }
  frames, blocks = 24, 4  # The first block is one frame.
  assert calls == {
    stages.DECODE: frames,
    stages.SHRINK: blocks,
    stages.FLOW: blocks,
    stages.NETWORK: blocks,
    stages.JOIN: blocks,
    stages.WAIT: frames,
    stages.ENCODE: frames,
  }
  assert f'Wrote {path}' in caplog.text
  assert 'From the second block on, the device was idle for' in caplog.text


def test_the_device_is_idle_between_operations_from_the_second_block_on():
  def event(name, start, end, **args):
    return {
      'ph': 'X',
      'name': name,
      'ts': start * 1e6,
      'dur': (end - start) * 1e6,
      'args': args,
    }

  events = [
    {'ph': 'M', 'name': 'process_name'},
    event(stages.NETWORK, 20, 21),
    event('convolution', 23, 26, hlo_op='convolution.1'),
    event('add', 24, 25, hlo_op='add.2'),  # On another core.
    event(stages.NETWORK, 1, 2),
    event(stages.NETWORK, 10, 11),
    event('convolution', 2, 4, hlo_op='convolution.1'),
    event('convolution', 9, 18, hlo_op='convolution.1'),
    event('flow on the host', 18, 23),
  ]
  assert profile.measure_idle(events) == (5.0, 16.0)


def test_the_config_of_the_paper_has_no_video(tmp_path):
  with pytest.raises(UserError, match='config=configs/vitexco.py:small'):
    profile.profile(get_config('paper'), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
