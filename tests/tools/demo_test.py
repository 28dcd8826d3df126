"""The demo with fake colorizers with known results."""

import cv2
import numpy as np
import pytest
from skimage import color as skcolor
from skimage import metrics as skmetrics

from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.tools import demo


class _Tinter:
  """Reddens each frame, two frames later, and records its inputs."""

  def __init__(self):
    self.given = []

  def set_reference(self, rgb, first_frame=False):
    assert first_frame
    self.reference = rgb

  def colorize(self, frames):
    waiting = []
    for rgb in frames:
      self.given.append(rgb)
      waiting.append(_tint(rgb))
      if len(waiting) > 2:
        yield waiting.pop(0)
    yield from waiting


def _tint(rgb):
  return np.stack([rgb[..., 0] // 2 + 100, rgb[..., 1], rgb[..., 2]], -1)


@pytest.fixture
def clip(tmp_path):
  """A folder of colorful lossless frames, and the frames."""
  rng = np.random.default_rng(0)
  frames = []
  (tmp_path / 'clip').mkdir()
  for i in range(7):
    small = rng.integers(20, 220, (3, 4, 3), np.uint8)
    frames.append(cv2.resize(small, (64, 48), interpolation=cv2.INTER_LINEAR))
    video.write_image(tmp_path / 'clip' / f'{i}.png', frames[-1])
  return tmp_path / 'clip', frames


def test_only_the_first_frame_gives_its_colors(clip, tmp_path):
  path, frames = clip
  tinter = _Tinter()
  demo.demo(tinter, path, tmp_path / 'out')
  np.testing.assert_array_equal(tinter.reference, frames[0])
  assert len(tinter.given) == len(frames)
  for gray, rgb in zip(tinter.given, frames, strict=True):
    assert (gray == gray[..., :1]).all()
    lightness = [skcolor.rgb2lab(image)[..., 0] for image in (gray, rgb)]
    assert abs(lightness[0] - lightness[1]).max() < 0.3  # Half a level of 255.


def test_psnr_is_of_the_frames_after_the_first(clip, tmp_path, capsys):
  path, frames = clip
  tinter = _Tinter()
  means = demo.demo(tinter, path, tmp_path / 'out')

  def mean(images):
    values = [
      skmetrics.peak_signal_noise_ratio(rgb, image, data_range=255)
      for rgb, image in zip(frames[1:], images[1:], strict=True)
    ]
    return np.mean(values)

  assert means['gray'] == pytest.approx(mean(tinter.given))
  colored = [_tint(gray) for gray in tinter.given]
  assert means['colored'] == pytest.approx(mean(colored))
  printed = capsys.readouterr().out
  assert f'{means["colored"]:.2f} dB' in printed
  assert 'frames 1 to 6' in printed


def test_writes_both_videos_and_a_strip_over_old_ones(clip, tmp_path):
  path, frames = clip
  tinter = _Tinter()
  out = tmp_path / 'out'
  out.mkdir()
  for name in ('clip_gray.mp4', 'clip_color.mp4', 'strip.jpg'):
    (out / name).write_text('old')
  demo.demo(tinter, path, out)
  assert len(list(out.iterdir())) == 3
  for name, images in (
    ('clip_gray.mp4', tinter.given),
    ('clip_color.mp4', [_tint(gray) for gray in tinter.given]),
  ):
    with video.VideoReader(out / name) as reader:
      written = [frame.rgb for frame in reader]
    error = np.abs(np.float32(written) - np.float32(images)).mean()
    assert len(written) == len(frames)
    assert error < 6  # Loss of H.264 with subsampled chroma.
  assert video.read_image(out / 'strip.jpg').shape[1] > 4 * 240


def test_the_strip_of_a_busy_video_is_small(tmp_path):
  rng = np.random.default_rng(0)
  (tmp_path / 'clip').mkdir()
  for i in range(5):
    small = rng.integers(0, 256, (34, 60, 3), np.uint8)
    rgb = cv2.resize(small, (480, 272), interpolation=cv2.INTER_CUBIC)
    video.write_image(tmp_path / f'clip/{i}.png', rgb)
  demo.demo(_Tinter(), tmp_path / 'clip', tmp_path / 'out')
  assert (tmp_path / 'out/strip.jpg').stat().st_size < 250_000


def test_refuses_a_single_picture(tmp_path):
  rgb = np.full((48, 64, 3), 80, np.uint8)
  video.write_image(tmp_path / 'one.png', rgb)
  with pytest.raises(UserError, match=r'one\.png has a single frame'):
    demo.demo(_Tinter(), tmp_path / 'one.png', tmp_path / 'out')
  assert not list((tmp_path / 'out').iterdir())


def test_a_truncated_video_is_refused(tmp_path):
  path = tmp_path / 'film.mkv'
  rng = np.random.default_rng(0)  # Noise, so that frames fill the file.
  with video.VideoWriter(path, video.Format(48, 64)) as writer:
    for _ in range(12):
      rgb = rng.integers(0, 256, (48, 64, 3), np.uint8)
      writer.write(video.Frame(rgb))
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 2 // 3])
  with pytest.raises(UserError, match=r'film\.mkv is damaged or cut short \('):
    demo.demo(_Tinter(), path, tmp_path / 'out')
  assert not list((tmp_path / 'out').iterdir())
