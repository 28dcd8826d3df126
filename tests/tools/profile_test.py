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


def test_the_config_of_the_paper_has_no_video(tmp_path):
  with pytest.raises(UserError, match='config=configs/vitexco.py:small'):
    profile.profile(get_config('paper'), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
