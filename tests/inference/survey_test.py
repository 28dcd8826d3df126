"""Surveys: shots, borders, times, and damage of a video."""

from fractions import Fraction

import av
import numpy as np
import pytest
from three_shots import LENGTHS, embed, shot_picture

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan, survey
from vitexco_jax.inference.plan import Choice
from vitexco_jax.media import video
from vitexco_jax.media.borders import NONE, Borders


def test_a_survey_finds_shots_and_their_embeddings(surveyed):
  shots = surveyed.plan.shots
  assert [(shot.start, shot.stop) for shot in shots] == [
    (0, 9),
    (9, 21),
    (21, 28),
  ]
  assert surveyed.plan[1:5] == (64, 48, 28, 10)
  assert surveyed.seconds == pytest.approx([i / 10 for i in range(28)])
  for seed, (seen, thumbnail) in enumerate(
    zip(surveyed.embeddings, surveyed.thumbnails, strict=True)
  ):
    assert len(seen) == 3
    scores = seen @ embed([shot_picture(s) for s in range(3)]).T
    assert (scores.argmax(1) == seed).all()
    assert video.decode_image(thumbnail, '').shape == (180, 240, 3)


def test_a_fade_divides_shots_and_the_black_one_stays_as_it_is(tmp_path):
  path = tmp_path / 'film.mkv'
  form, coding = video.Format(48, 64, Fraction(10)), video.Coding('ffv1')
  gains = np.repeat([1.0, 0.0, 1.0], (24, 8, 20))
  gains[12:24] = 1 - np.arange(1, 13) / 13
  with video.VideoWriter(path, form, coding=coding) as writer:
    for i, gain in enumerate(gains):
      rgb = np.uint8(gain * shot_picture(0 if i < 30 else 1))
      rgb[20:24, 20:24] |= 8  # `embed` needs some structure.
      writer.write(video.Frame(rgb))
  surveyed = plan.survey(path, embed)
  shots = surveyed.plan.shots
  assert [(x.start, x.stop, x.dissolve) for x in shots] == [
    (0, 24, 12),
    (24, 32, 0),
    (32, 52, 0),
  ]
  assert surveyed.blank == {1}
  # Frames that show two shots are not compared.
  expected = embed([shot_picture(0)])
  assert (surveyed.embeddings[0] @ expected.T > 0.999).all()
  film_plan = plan.same_for_all(surveyed, ['still.png'])
  assert [x.skipped for x in film_plan.shots] == [False, True, False]


def test_each_shot_has_borders_which_are_not_compared(tmp_path):
  path = tmp_path / 'film.mkv'
  form, coding = video.Format(68, 64, Fraction(10)), video.Coding('ffv1')
  with video.VideoWriter(path, form, coding=coding) as writer:
    for seed, length in enumerate(LENGTHS):
      bar = 10 if seed != 2 else 0
      rgb = np.zeros((68, 64, 3), np.uint8)
      rgb[bar : 68 - bar] = shot_picture(seed, (68 - 2 * bar, 64))
      for _ in range(length):
        writer.write(video.Frame(rgb))
  surveyed = plan.survey(path, embed)
  actual = [shot.borders for shot in surveyed.plan.shots]
  assert actual == [Borders(10, 10), Borders(10, 10), NONE]
  expected = embed([shot_picture(0)])
  assert (surveyed.embeddings[0] @ expected.T > 0.999).all()

  # A reference with borders of its own is compared without them.
  boxed = np.full((96, 64, 3), 255, np.uint8)
  boxed[24:72] = shot_picture(1)
  video.write_image(tmp_path / 'boxed.png', boxed)
  choices = [Choice(str(tmp_path / 'boxed.png'))]
  scored = plan.scores(surveyed, choices, embed)
  assert scored[1][0].score > 0.999

  film_plan = plan.same_for_all(surveyed, [str(tmp_path / 'boxed.png')])
  plan.write(tmp_path / 'plan.json', film_plan)
  assert plan.read(tmp_path / 'plan.json').shots == film_plan.shots


@pytest.mark.parametrize('count', [1, 2, 3, 16, 17, 200, 1000])
def test_moments_are_the_middles_of_thirds(count):
  moments = survey._Moments()
  for i in range(count):
    moments.add(np.full((32, 32, 3), (i // 256, i % 256, 0), np.uint8))
  assert len(moments._frames) <= survey._MAX_FRAMES
  middles = [(2 * i + 1) * count / 6 for i in range(3)]
  actual = [
    256 * int(x[0, 0, 0]) + int(x[0, 0, 1]) for x in moments.crops(NONE)
  ]
  assert len(actual) == min(count, 3)
  for middle, place in zip(middles, actual, strict=False):
    assert abs(place - middle) <= max(1, count / 8)


@pytest.mark.parametrize('late', [0, 36_000])
def test_times_count_from_the_beginning_of_the_film(tmp_path, references, late):
  path = tmp_path / 'in.ts'
  with av.open(str(path), 'w') as out:
    stream = out.add_stream('mpeg2video', rate=25, width=64, height=48)
    packets = []
    for i in range(12):
      frame = av.VideoFrame.from_ndarray(shot_picture(0), 'rgb24')
      frame.pts, frame.time_base = i, Fraction(1, 25)
      packets += stream.encode(frame)
    for packet in packets + stream.encode(None):
      packet.pts += late * 25
      packet.dts += late * 25
      out.mux(packet)
  surveyed = plan.survey(path)
  assert surveyed.seconds[0] == 0
  text = 'file,time\ntwo.png,0.2\ntwo.png,0:00:00.0'
  (references / 'times.csv').write_text(text)
  actual = plan.list_references(references / 'times.csv', surveyed)
  assert [choice.frame for choice in actual] == [5, 0]
  (references / 'times.csv').write_text('file,time\ntwo.png,36000.2')
  with pytest.raises(UserError, match='nothing is shown at 36000.2 s'):
    plan.list_references(references / 'times.csv', surveyed)


def test_a_folder_of_frames_has_the_given_rate(tmp_path):
  for i in range(6):
    video.write_image(tmp_path / f'{i}.png', shot_picture(i))
  rate = Fraction(24_000, 1001)
  surveyed = plan.survey(tmp_path, frame_rate=rate)
  assert surveyed.plan.frame_rate == rate
  np.testing.assert_allclose(surveyed.seconds, np.arange(6) / float(rate))
  assert plan.survey(tmp_path).plan.frame_rate == 25
  with pytest.raises(UserError, match='`frame_rate` is for a folder'):
    plan.survey(tmp_path / '0.png', frame_rate=rate)


def test_damage_of_a_video_is_located(
  three_shots, surveyed, monkeypatch, caplog
):
  monkeypatch.setattr(survey, '_PLACES', 2)
  config, pictures = None, [plan.FIRST_FRAME]
  for damaged, lost, words in (
    ([3, 4, 9], 2, '0:00:00.3: 2 frames could not be read, and are left out'),
    ([14, 0, 28], 0, '0:00:00.0, 0:00:01.4 and 1 more places: see how its'),
    ([28], 0, '0:00:02.7: the file is cut short there'),
  ):
    actual = surveyed._replace(damaged=damaged, lost=lost)
    monkeypatch.setattr(plan, 'survey', lambda *_, actual=actual: actual)
    plan.make_plan(config, three_shots, pictures)
    assert f'film.mp4 is broken at {words}' in caplog.text
