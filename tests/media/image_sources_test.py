"""image_sources: folders of frames and single images."""

import numpy as np
import pytest
from written_videos import blocks, read

from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.media.video import VideoReader


def test_frames_of_a_folder_are_in_natural_order(tmp_path):
  names = ['frame2.png', 'frame10.png', 'frame100.JPG', 'frame020.bmp']
  for index, name in enumerate(names):
    video.write_image(tmp_path / name, np.full((32, 40, 3), index, np.uint8))
  (tmp_path / 'notes.txt').write_text('not a frame')
  (tmp_path / '._frame3.png').write_bytes(b'nor this')
  frames, reader = read(tmp_path)
  expected = ['frame2.png', 'frame10.png', 'frame020.bmp', 'frame100.JPG']
  assert [frame.name for frame in frames] == expected
  assert [int(frame.rgb.mean()) for frame in frames] == [0, 1, 3, 2]
  assert [frame.pts for frame in frames] == [0, 1, 2, 3]
  assert (reader.kind, reader.num_frames) == ('folder', 4)


def test_a_broken_link_in_a_folder_is_named(tmp_path):
  video.write_image(tmp_path / '1.png', np.zeros((32, 40, 3), np.uint8))
  (tmp_path / '2.png').symlink_to(tmp_path / 'gone.png')
  with pytest.raises(UserError, match=r'2\.png'):
    read(tmp_path)


def test_a_folder_of_mixed_sizes_is_refused_at_once(tmp_path):
  for index, size in enumerate([(32, 40), (32, 40), (32, 48)]):
    video.write_image(tmp_path / f'{index}.png', np.zeros((*size, 3), np.uint8))
  with pytest.raises(UserError, match=r'2\.png is 48x32 .* 0\.png is 40x32'):
    VideoReader(tmp_path)


def test_a_frame_that_exists_twice_is_refused(tmp_path):
  for name in ['a.png', 'a.jpg']:
    video.write_image(tmp_path / name, blocks())
  with pytest.raises(UserError, match=r'a\.jpg and a\.png'):
    VideoReader(tmp_path)
