"""Clips on several devices."""

import jax
import numpy as np
import pytest
from pictures import SIZE, make_picture

from vitexco_jax.inference.device_pool import Clip, colorize_clips
from vitexco_jax.inference.video_colorizer import VideoColorizer

pytestmark = pytest.mark.usefixtures('blocks_of_three')


def test_clips_on_two_devices_equal_those_on_one(tiny_weights):
  lengths = 4, 2, 3
  clips = [
    Clip(
      [make_picture(seed=10 * i + j) for j in range(length)],
      [make_picture(seed=i)],
    )
    for i, length in enumerate(lengths)
  ]
  devices = jax.local_devices()
  assert len(devices) == 2
  colorizer = VideoColorizer.from_checkpoint(tiny_weights)
  on_each = [colorizer.on(device) for device in devices]
  on_one = list(colorize_clips(on_each[:1], clips))
  on_two = list(colorize_clips(on_each, clips))
  assert [x.shape for x in on_two] == [(n, *SIZE, 3) for n in lengths]
  for one, two, clip in zip(on_one, on_two, clips, strict=True):
    np.testing.assert_array_equal(one, two)
    on_each[0].set_reference(*clip.references)
    alone = np.stack(list(on_each[0].colorize(clip.frames)))
    np.testing.assert_array_equal(one, alone)
  for device, colorizer in zip(devices, on_each, strict=True):
    assert colorizer.state.previous.devices() == {device}


def test_a_bad_clip_raises_at_the_position_of_its_frames(colorizer):
  good = Clip([make_picture()], [make_picture()])
  clips = [good, good._replace(references=[make_picture() / 255.0]), good]
  colored = colorize_clips([colorizer], clips)
  assert next(colored).shape == (1, *SIZE, 3)
  with pytest.raises(ValueError, match='expected .* uint8'):
    next(colored)
