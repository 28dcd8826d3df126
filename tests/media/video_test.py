"""video: reading, processing, and writing together."""

from fractions import Fraction

import numpy as np
import pytest
from written_videos import moving, read, save, write

from vitexco_jax.media import video
from vitexco_jax.media.video import VideoReader, VideoWriter


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.mov', '.avi'])
@pytest.mark.parametrize('height, width', [(48, 64), (49, 64), (47, 63)])
def test_video_round_trip(tmp_path, suffix, height, width):
  frames = list(moving(12, height, width))
  path = write(tmp_path / f'a{suffix}', frames)
  back, reader = read(path)
  assert reader.format[:3] == (height, width, 25)
  error = np.stack([frame.rgb for frame in back]) - np.stack(frames).astype(int)
  assert error.shape[0] == 12
  seconds = [frame.pts * reader.format.time_base for frame in back]
  assert np.diff(seconds).tolist() == [Fraction(1, 25)] * 11
  # H.264's own loss; another matrix or range would cost 10 levels.
  assert np.abs(error).mean() < 3
  assert np.abs(error.mean((0, 1, 2))).max() < 2
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_from_video_to_video_with_prefetch(tmp_path):
  path = save(tmp_path / 'in.mkv', moving(40))
  with (
    VideoReader(path) as reader,
    VideoWriter(tmp_path / 'out.mp4', reader.format) as writer,
  ):
    for frame in video.prefetch(reader):
      writer.write(frame._replace(rgb=255 - frame.rgb))
  before, _ = read(path)
  after, reader = read(tmp_path / 'out.mp4')
  assert len(after) == 40
  for a, b in zip(before, after, strict=True):
    assert np.abs(a.rgb.astype(int) + b.rgb - 255).mean() < 3
    assert b.pts * reader.format.time_base == Fraction(a.pts, 1000)
