"""Frames on request: any order, stills, shots, and the results of the command."""

import random
from fractions import Fraction

import cv2
import numpy as np
import pytest
from films import lossless, read_frames
from painter import SIZE, Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference import film, frame_server
from vitexco_jax.inference.frame_server import FrameServer
from vitexco_jax.inference.plan import Choice, Plan, Shot
from vitexco_jax.media import video

CUT = 22  # Between two shots of a film of COUNT frames.
COUNT = 38


def _picture(seed, size=SIZE):
  small = np.random.default_rng(seed).integers(40, 220, (6, 8, 3), np.uint8)
  return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def _gray(rgb):
  return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


FRAMES = [
  _gray(np.roll(_picture(number >= CUT), number // 2, 1))
  for number in range(COUNT)
]


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
  """Only two blocks are in memory, so that most requests are a seek."""
  monkeypatch.setattr(frame_server, '_BLOCKS', 2)
  monkeypatch.setattr(frame_server, '_STATES', 2)


def _ask(server, numbers):
  return {
    number: server.colors(number).join(FRAMES[number]) for number in numbers
  }


@pytest.mark.parametrize('dissolves', [[], [range(CUT - 5, CUT)]])
@pytest.mark.parametrize(
  'bound, unbound',
  [
    ({}, []),
    ({}, [5]),
    ({0: 7, CUT: 8}, []),
    ({CUT: 8}, []),
    ({3: 7, 12: 8, 13: 7, CUT + 5: 9}, [5]),
  ],
)
def test_any_order_gives_the_same_colors(bound, unbound, dissolves):
  stills = {number: _picture(seed) for number, seed in bound.items()}
  others = [_picture(seed) for seed in unbound]

  def ask(numbers):
    server = FrameServer(Painter(), FRAMES, stills, others, dissolves=dissolves)
    return {number: server.colors(number).ab for number in numbers}

  in_order, mixed = ask(range(COUNT)), list(range(COUNT))
  random.Random(0).shuffle(mixed)
  for order in (mixed, reversed(range(COUNT)), [COUNT - 1]):
    for number, ab in ask(order).items():
      np.testing.assert_array_equal(ab, in_order[number])


def _run_command(folder, engine, stills, dissolve=0):
  """Returns the frames of the command, with stills by number."""
  path, output = folder / 'film.mkv', folder / 'color.mkv'
  form, coding = video.Format(*SIZE, Fraction(25)), video.Coding('ffv1')
  with video.VideoWriter(path, form, coding=coding) as writer:
    for rgb in FRAMES:
      writer.write(video.Frame(rgb))
  choices = []
  for number, picture in stills.items():
    choices.append(Choice(str(folder / f'{number}.png'), frame=number))
    video.write_image(choices[-1].picture, picture)
  edges = (0, CUT), (CUT, COUNT)
  first, second = (
    Shot(*edge, tuple(x for x in choices if x.frame in range(*edge)))
    for edge in edges
  )
  shots = first._replace(dissolve=dissolve), second
  plan = Plan(str(path), SIZE[1], SIZE[0], COUNT, Fraction(25), shots)
  assert list(film.Film([engine], path, plan, output, options=lossless()).run())
  return read_frames(output)


def test_any_order_gives_the_frames_of_the_command(tmp_path, colorizer):
  stills = {2: _picture(7), 9: _picture(8), CUT + 3: _picture(9)}
  server = FrameServer(colorizer, FRAMES, stills)
  actual = _ask(server, [12, 30, 17, 1, 29, 8, 5, 35, 13])
  expected = _run_command(tmp_path, colorizer, stills)
  for number, rgb in actual.items():
    error = np.abs(np.int16(rgb) - np.int16(expected[number]))
    assert error.max() <= 2  # Rounding of other blocks, and of FFV1's YUV.
    assert np.ptp(np.int16(rgb), -1).max() > 20  # In color.


# In the dissolve, at the first frame of the next shot, or later.
@pytest.mark.parametrize(
  'second', [{CUT - 2: 8, CUT: 9}, {CUT: 9}, {CUT + 6: 9}]
)
def test_a_dissolve_has_the_colors_of_the_command(tmp_path, second):
  stills = {x: _picture(seed) for x, seed in ({2: 7} | second).items()}
  server = FrameServer(
    Painter(), FRAMES, stills, dissolves=[range(CUT - 7, CUT)]
  )
  numbers = [CUT - 1, CUT - 8, CUT + 1, CUT - 7, CUT - 3]
  expected = _run_command(tmp_path, Painter(), stills, dissolve=7)
  for number, rgb in _ask(server, numbers).items():
    assert np.abs(np.int16(rgb) - np.int16(expected[number])).max() <= 2
  cut = FrameServer(Painter(), FRAMES, stills)
  changed = [(server.colors(x).ab != cut.colors(x).ab).any() for x in numbers]
  assert changed == [True, False, False, True, True]


def test_cuts_within_a_dissolve_are_ignored():
  def find_cuts(wanted):
    return [number in (10, 12) for number in wanted]

  server = FrameServer(
    Painter(),
    FRAMES,
    {},
    [_picture(5)],
    find_cuts,
    dissolves=[range(8, 14)],
  )
  assert server._stretch(12).start == 0 and server._stretch(14).start == 14


@pytest.mark.parametrize(
  'dissolves',
  [[range(COUNT - 3, COUNT)], [range(3, 8), range(7, 9)], [range(4, 4)]],
)
def test_dissolves_must_be_within_the_clip_and_in_order(dissolves):
  with pytest.raises(UserError, match='must be within the clip of 38 frames'):
    FrameServer(Painter(), FRAMES, {}, dissolves=dissolves)


def test_the_first_frames_of_a_colored_clip_are_stills():
  colored = [_picture(seed=number) for number in range(COUNT)]
  server = FrameServer(Painter(), FRAMES, {}, colored=colored)
  stills = {0: colored[0], CUT: colored[CUT]}
  expected = FrameServer(Painter(), FRAMES, stills)
  for number in (COUNT - 1, 3, CUT):
    np.testing.assert_array_equal(
      server.colors(number).ab, expected.colors(number).ab
    )


def test_a_shot_without_a_picture_uses_the_nearest_still():
  server = FrameServer(Painter(), FRAMES, {5: _picture(7), 9: _picture(8)})
  other = FrameServer(Painter(), FRAMES, {}, [_picture(8)])
  np.testing.assert_array_equal(
    server.colors(CUT + 3).ab, other.colors(CUT + 3).ab
  )


def test_shots_are_given_or_detected():
  def steps(find_cuts, number):
    """Frames since the start of the shot, which `Painter` counts."""
    painter = Painter()
    server = FrameServer(painter, FRAMES, {}, [_picture(5)], find_cuts)
    colors, first = server.colors(number), server.colors(0)
    return round(float(colors.ab[0, 0, 1] - first.ab[0, 0, 1]))

  assert steps(None, CUT - 1) == CUT - 1
  assert steps(None, CUT + 2) == 2
  assert steps(lambda wanted: [x == 11 for x in wanted], CUT + 2) == CUT - 9


def test_a_seek_starts_at_the_last_still():
  read = set()

  class Frames(list):
    def __getitem__(self, number):
      read.add(number)
      return super().__getitem__(number)

  def find_cuts(wanted):
    return [False] * len(wanted)

  stills = {0: _picture(7), 24: _picture(8)}
  server = FrameServer(Painter(), Frames(FRAMES), stills, find_cuts=find_cuts)
  server.colors(COUNT - 1)
  assert read == set(range(24, COUNT))


def test_a_still_of_another_shape_is_an_error():
  server = FrameServer(Painter(), FRAMES, {4: _picture(7, (64, 64))})
  with pytest.raises(UserError, match='still of frame 4 has 64x64 pixels'):
    server.colors(6)


def test_deep_frames_stay_deep():
  deep = [np.uint16(rgb) * 257 for rgb in FRAMES]
  server = FrameServer(Painter(), deep, {0: _picture(7)})
  actual = server.colors(3).join(deep[3])
  expected = server.colors(3).join(FRAMES[3])
  assert actual.dtype == np.uint16
  assert np.abs(actual / 257 - expected).max() <= 1
