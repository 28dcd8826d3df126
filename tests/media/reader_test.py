"""reader: errors for unsupported input, skipping, and closing."""

import wave

import numpy as np
import pytest
from written_videos import moving, read, save, threads

from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.media.video import VideoReader


def _sound(path):
  with wave.open(str(path), 'wb') as file:
    file.setparams((1, 2, 8000, 0, 'NONE', ''))
    file.writeframes(bytes(16_000))


def _cut_head(path):
  data = save(path, moving(10)).read_bytes()
  path.write_bytes(data[: len(data) // 2])


def _garbage(path):
  path.write_bytes(np.random.default_rng(0).bytes(5000))


@pytest.mark.parametrize(
  'name, make, words',
  [
    ('a.mp4', lambda path: None, 'does not exist'),
    ('a.mp4', lambda path: path.touch(), 'is empty'),
    ('a.png', lambda path: path.touch(), 'is empty'),
    ('a.mp4', _garbage, 'is not a video'),
    ('a.png', _garbage, 'is not an image'),
    ('a.txt', lambda path: path.write_text('words ' * 99), 'not a video'),
    ('a.mp4', lambda path: path.write_text('words ' * 99), 'not a video'),
    ('a.mp4', _cut_head, 'cut short'),
    ('a.wav', _sound, 'perhaps only audio'),
    ('a.mp4', lambda path: save(path, moving(2, 30, 64)), '64x30 .* small'),
    ('folder', lambda path: path.mkdir(), 'holds no frames'),
  ],
)
def test_unsupported_input_is_named_in_a_sentence(
  tmp_path, capfd, name, make, words
):
  path = tmp_path / name
  make(path)
  with pytest.raises(UserError, match=words) as caught:
    VideoReader(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)
  assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('count', [0, 1, 7, 39])
def test_skipping_equals_reading(tmp_path, count):
  path = save(tmp_path / 'a.mkv', moving(40))
  whole, _ = read(path)
  with VideoReader(path) as reader:
    reader.skip(count)
    rest = list(reader)
  assert [frame.pts for frame in rest] == [frame.pts for frame in whole[count:]]
  np.testing.assert_array_equal(rest[0].rgb, whole[count].rgb)


def test_the_reader_can_be_closed_during_prefetch(tmp_path):
  path = save(tmp_path / 'a.mp4', moving(60))
  with VideoReader(path) as reader:
    ahead = video.prefetch(reader)
    next(ahead)
  assert len(list(ahead)) < 60
  assert not threads()
