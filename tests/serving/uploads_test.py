"""Uploads: accepted files, and refused claims."""

import contextlib

import av
import numpy as np
import pytest
from documents import picture, write_video
from page_inputs import COUNT, encoded, write_film
from PIL import Image

from vitexco_jax.errors import UserError
from vitexco_jax.media import containers, video
from vitexco_jax.serving import uploads


@pytest.fixture(scope='module')
def film(tmp_path_factory):
  """Two gray shots."""
  path = tmp_path_factory.mktemp('film') / 'film.mp4'
  write_film(path)
  return path


def test_a_playlist_opens_no_other_file(tmp_path, film):
  """FFmpeg would follow the first, and the second if its name ends in .m3u8."""
  for text in (
    f'ffconcat version 1.0\nfile {film.name}\n',
    f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{film}\n#EXT-X-ENDLIST\n',
  ):
    path = film.with_name('given')
    path.write_text(text)
    with pytest.raises(UserError, match='not a supported video'):
      uploads.check_video(path)


@pytest.mark.parametrize(
  'content',
  [b'', b'words', b'\x89PNG\r\n\x1a\n' + bytes(99), encoded(picture(1))],
)
def test_files_that_are_not_videos_are_refused(tmp_path, content):
  (tmp_path / 'given').write_bytes(content)
  with pytest.raises(
    UserError, match='given is (damaged or not a supported video|empty)'
  ):
    uploads.check_video(tmp_path / 'given')


def test_animations_are_refused(tmp_path):
  pictures = [Image.fromarray(picture(seed)) for seed in (1, 2)]
  path = tmp_path / 'given'
  pictures[0].save(path, 'GIF', save_all=True, append_images=pictures[1:])
  with pytest.raises(
    UserError, match='given is damaged or not a supported video'
  ):
    uploads.check_video(path)


def test_limits_of_videos(tmp_path, film, monkeypatch):
  monkeypatch.setattr(uploads, 'MAX_FRAMES', 2 * COUNT - 1)
  with pytest.raises(UserError, match=f'has {2 * COUNT} frames, but at most'):
    uploads.check_video(film)
  monkeypatch.undo()
  large = tmp_path / 'large.mkv'
  write_video(large, [np.zeros((4100, 2306, 3), np.uint8)])
  with pytest.raises(UserError, match='2306x4100 pixels: too large'):
    uploads.check_video(large)
  write_video(tmp_path / 'narrow.mp4', [np.zeros((32, 256, 3), np.uint8)])
  with pytest.raises(UserError, match='256x32 pixels: one side may be at most'):
    uploads.check_video(tmp_path / 'narrow.mp4')


def test_pictures_that_grow_when_decoded_are_refused(tmp_path, monkeypatch):
  """A stream may switch to larger frames in the middle."""
  with open(tmp_path / 'given', 'wb') as joined:
    for size in ((64, 96), (640, 960), (64, 96)):
      path = tmp_path / 'part.ts'
      _write_ts(path, [picture(1, size)] * 20)
      joined.write(path.read_bytes())
  monkeypatch.setattr(containers, '_bounds', None)  # Restored afterwards.
  video.bound(video.Bounds(pixels=640 * 960))
  assert len(_shapes(tmp_path / 'given')) == 60
  video.bound(video.Bounds(pixels=640 * 960 - 1))
  assert 20 <= len(_shapes(tmp_path / 'given')) <= 40


def _write_ts(path, pictures):
  with av.open(str(path), 'w') as out:
    stream = out.add_stream('libx264', rate=25)
    stream.height, stream.width = pictures[0].shape[:2]
    stream.pix_fmt = 'yuv420p'
    for rgb in pictures:
      out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, 'rgb24')))
    out.mux(stream.encode(None))


def _shapes(path):
  with contextlib.closing(video.VideoReader(path)) as reader:
    return [frame.rgb.shape for frame in reader]
