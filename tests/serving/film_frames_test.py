"""film_frames: frames are read in child processes, a few at once."""

import pytest
from page_inputs import COUNT

from vitexco_jax.errors import UserError
from vitexco_jax.inference import survey
from vitexco_jax.media import sandbox, video
from vitexco_jax.serving import drawings, film_frames


@pytest.fixture
def frames(tmp_path, film):
  path = tmp_path / 'video.mp4'
  path.write_bytes(film)
  return film_frames.FilmFrames(path), survey.survey(path)


def test_frames_are_read_in_advance(frames, monkeypatch):
  frames, surveyed = frames
  calls = []
  call = sandbox.Sandbox.call
  monkeypatch.setattr(
    sandbox.Sandbox, 'call', lambda *x, **y: calls.append(x) or call(*x, **y)
  )
  pictures = [frames.read(surveyed, COUNT - 2 + x) for x in range(6)]
  assert len(calls) == 1
  with video.VideoReader(frames.path) as reader:
    reader.skip(COUNT - 2)
    expected = [drawings.preview(next(reader).rgb) for _ in range(6)]
  assert pictures == expected
  frames.forget()
  frames.read(surveyed, COUNT)
  assert len(calls) == 2


def test_few_frames_stay_in_memory(frames, monkeypatch):
  frames, surveyed = frames
  monkeypatch.setattr(film_frames, '_CACHED', 8)
  monkeypatch.setattr(
    sandbox.Sandbox, 'call', lambda *x, about: [b''] * len(x[4])
  )
  for number in range(0, 2 * COUNT, 6):
    frames.read(surveyed, number)
  assert len(frames._cache) == 8


def test_frames_outside_the_video(frames):
  frames, surveyed = frames
  for number in (-1, 2 * COUNT):
    with pytest.raises(UserError, match=f'there is no frame {number}'):
      frames.read(surveyed, number)
