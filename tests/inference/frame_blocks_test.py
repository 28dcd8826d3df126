"""Blocks of frames: their lengths, also of large frames, and their filling."""

import numpy as np

from vitexco_jax.inference import frame_blocks


def test_blocks_have_eight_frames_unless_these_are_large():
  small = [np.full((2, 3, 3), i, np.uint8) for i in range(19)]
  blocks = list(frame_blocks.split(iter(small)))
  assert [len(block) for block in blocks] == [8, 8, 3]
  np.testing.assert_array_equal(np.concatenate(blocks), small)
  assert frame_blocks.length((2160, 3840)) == 1
  assert frame_blocks.length((1080, 1920)) == 4
  assert frame_blocks.length((20000, 20000)) == 1


def test_a_short_block_is_filled_with_zeros():
  actual = frame_blocks.fill(np.ones((1, 2, 5), np.float32), 1, 4)
  np.testing.assert_array_equal(actual[0, :, 0], [1, 1, 0, 0])
