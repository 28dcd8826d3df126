"""Blocks of frames: their lengths, also of large frames, and their filling."""

import numpy as np
import pytest

from vitexco_jax.inference import frame_blocks


def test_blocks_have_eight_frames_unless_these_are_large():
  small = [np.full((2, 3, 3), i, np.uint8) for i in range(19)]
  blocks = list(frame_blocks.split(iter(small)))
  assert [len(block) for block in blocks] == [8, 8, 3]
  np.testing.assert_array_equal(np.concatenate(blocks), small)
  blocks = list(frame_blocks.split(iter(small), begins=True))
  assert [len(block) for block in blocks] == [1, 8, 8, 2]
  np.testing.assert_array_equal(np.concatenate(blocks), small)
  assert not list(frame_blocks.split([], begins=True))
  assert frame_blocks.length((2160, 3840)) == 1
  assert frame_blocks.length((1080, 1920)) == 4
  assert frame_blocks.length((20000, 20000)) == 1


@pytest.mark.parametrize('lengths', [(), (1,), (3, 3, 2), (1, 3, 1)])
def test_results_are_a_block_delayed_except_a_single_first_one(lengths):
  started = []

  def blocks():
    for length in lengths:
      started.append(length)
      yield [len(started)] * length

  waits = []
  for block in frame_blocks.delayed(blocks()):
    waits.append(len(started) - block)
  assert len(waits) == sum(lengths)
  last = lengths[-1] if len(lengths) > 1 else len(waits)
  first = int(lengths[:1] == (1,))
  assert not any(waits[:first] + waits[len(waits) - last :])
  assert all(wait == 1 for wait in waits[first : len(waits) - last])


def test_ahead_starts_each_block_before_it_yields_the_previous_one():
  started = []

  def blocks():
    for number in range(3):
      started.append(number)
      yield number

  seen = [(block, len(started)) for block in frame_blocks.ahead(blocks())]
  assert seen == [(0, 2), (1, 3), (2, 3)]
  assert not list(frame_blocks.ahead([]))


def test_a_short_block_is_filled_with_zeros():
  actual = frame_blocks.fill(np.ones((1, 2, 5), np.float32), 1, 4)
  np.testing.assert_array_equal(actual[0, :, 0], [1, 1, 0, 0])
