"""VapourSynth filters, with the real VapourSynth, which needs Python 3.12."""

import random

import cv2
import numpy as np
import pytest

from vitexco_jax import FrameServer, UserError, write_image
from vitexco_jax.inference import frame_server

vs = pytest.importorskip('vapoursynth')  # Has no wheels for Python 3.11.

import vsvitexco  # noqa: E402
from vsvitexco import clips, filters  # noqa: E402

SIZE = (48, 64)
CUT, COUNT = 12, 20  # A film of two shots.


def _picture(seed, size=SIZE):
  small = np.random.default_rng(seed).integers(40, 220, (6, 8, 3), np.uint8)
  return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def _gray(number):
  rgb = np.roll(_picture(number >= CUT), number // 2, 1)
  return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


GRAYS = [_gray(number) for number in range(COUNT)]


def _clip(pictures, marks=None):
  """An RGB24 clip; `marks` has properties of frames."""
  height, width = pictures[0].shape[:2]
  blank = vs.core.std.BlankClip(
    format=vs.RGB24, width=width, height=height, length=len(pictures)
  )

  def draw(n, f):
    frame = f.copy()
    clips.fill(frame, pictures[n])
    for name, frames in (marks or {}).items():
      frame.props[name] = int(n in frames)
    return frame

  return vs.core.std.ModifyFrame(blank, blank, draw)


def _read(clip, numbers=None):
  rgb = clip.resize.Bicubic(format=vs.RGB24)
  frames = clips.ClipFrames(rgb)
  return [
    frames[x] for x in (range(len(frames)) if numbers is None else numbers)
  ]


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
  monkeypatch.setattr(frame_server, '_BLOCKS', 1)
  monkeypatch.setattr(frame_server, '_STATES', 1)


@pytest.fixture
def stills(tmp_path):
  folder = tmp_path / 'stills'
  folder.mkdir()
  write_image(folder / 'ref_000003.png', _picture(7))
  write_image(folder / f'ref_{CUT:06d}.png', _picture(8))
  return folder


@pytest.fixture(scope='module')
def colorizer(tiny_weights):
  """That of the filters, so that programs are compiled once."""
  return filters._load(tiny_weights, None)


@pytest.fixture(scope='module')
def expected(colorizer):
  """The frames that the engine gives for `stills`."""
  bound = {3: _picture(7), CUT: _picture(8)}
  server = FrameServer(colorizer, GRAYS, bound)
  return [server.colors(n).join(GRAYS[n]) for n in range(COUNT)]


@pytest.mark.parametrize('threads', [1, 4])
def test_requests_in_any_order_give_the_frames_of_the_engine(
  tiny_weights, stills, expected, threads, monkeypatch
):
  monkeypatch.setattr(vs.core, 'num_threads', threads)
  colored = vsvitexco.vs_vitexco(
    _clip(GRAYS), ref_framedir=stills, weights=tiny_weights
  )
  assert colored.format.id == vs.RGB24 and colored.num_frames == COUNT
  numbers = list(range(COUNT))
  random.Random(threads).shuffle(numbers)
  pending = {n: colored.get_frame_async(n) for n in numbers}
  for number, future in pending.items():
    with future.result() as frame:
      np.testing.assert_array_equal(clips.to_array(frame), expected[number])
      assert -1 <= frame.props['VitexcoConfidence'] <= 1
  assert np.ptp(np.int16(expected), -1).max() > 20  # In color.


@pytest.mark.parametrize(
  'name, matrix',
  [('RGBS', None), ('YUV444P16', 6), ('YUV444P16', 1)],
)
def test_the_format_of_the_clip_is_kept(
  tiny_weights, stills, expected, name, matrix
):
  form = getattr(vs, name)
  given = {} if matrix is None else {'matrix': matrix}
  clip = _clip(GRAYS).resize.Bicubic(format=form, **given)
  if matrix == 6:  # As most sources, without a matrix.
    clip = clip.std.RemoveFrameProps(['_Matrix'])
  colored = vsvitexco.vs_vitexco(
    clip, ref_framedir=stills, weights=tiny_weights
  )
  assert colored.format.id == form
  back = {} if matrix is None else {'matrix_in': matrix}
  wanted = _clip(expected).resize.Bicubic(format=form, **given)
  for number in (0, 7, COUNT - 1):
    actual, converted = (
      _read(x.resize.Bicubic(format=vs.RGB24, **back), [number])[0]
      for x in (colored, wanted)
    )
    assert np.abs(np.int16(actual) - converted).mean() < 1


@pytest.mark.parametrize('full', [0, 1])
@pytest.mark.parametrize('name', ['YUV420P8', 'YUV422P10', 'YUV444P16'])
def test_matrix_and_range_are_kept(name, full):
  color = np.full((*SIZE, 3), (200, 60, 30), np.uint8)
  clip = _clip([color]).resize.Bicubic(
    format=getattr(vs, name), matrix=9, range=full
  )
  rgb = clips.to_rgb(clip, 'clip')
  top = 255 if name.endswith('8') else 65535
  actual = clips.ClipFrames(rgb)[0][0, 0] * (255 / top)
  np.testing.assert_allclose(actual, (200, 60, 30), atol=2)
  back = clips.from_rgb(rgb, clip)
  for plane in range(3):
    before, after = (
      np.asarray(x.get_frame(0)[plane]).astype(float) for x in (clip, back)
    )
    np.testing.assert_allclose(after, before, atol=2)
  before, after = (x.get_frame(0).props for x in (clip, back))
  assert (after['_Matrix'], after['_Range']) == (
    before['_Matrix'],
    before['_Range'],
  )


def test_marked_cuts_are_followed_and_others_detected(tiny_weights, colorizer):
  clip_ref = _clip([_picture(seed) for seed in range(COUNT)])

  def expect(cut, number):
    start = cut if number >= cut else 0
    server = FrameServer(
      colorizer,
      GRAYS[start:],
      {0: _picture(start)},
      (),
      lambda x: [False] * len(x),
    )
    return server.colors(number - start).join(GRAYS[number])

  marks = [
    None,
    {'_SceneChangePrev': [5], '_SceneChangeNext': [4]},
    {'_SceneChangePrev': [], '_SceneChangeNext': [4]},
  ]
  for cut, marked in zip((CUT, 5, 5), marks, strict=True):
    colored = vsvitexco.vs_vitexco(
      _clip(GRAYS, marked), clip_ref, weights=tiny_weights
    )
    for number in (cut + 2, cut - 1):
      (actual,) = _read(colored, [number])
      # Blocks of other lengths round differently.
      np.testing.assert_allclose(actual, expect(cut, number), atol=1)


def test_recolors_a_range(tiny_weights, stills, expected):
  gray, finished = _clip(GRAYS), _clip([_picture(9)] * COUNT)
  write_image(stills / 'ref_000001.png', _picture(7))
  with pytest.raises(
    UserError, match='ref_000001.png is named after a frame out'
  ):
    vsvitexco.vs_recolor(gray, finished, CUT, 17, ref_framedir=stills)
  (stills / 'ref_000001.png').unlink()
  (stills / 'ref_000003.png').unlink()
  actual = _read(
    vsvitexco.vs_recolor(
      gray, finished, CUT, 17, ref_framedir=stills, weights=tiny_weights
    )
  )
  assert len(actual) == COUNT
  for number, rgb in enumerate(actual):
    changed = CUT <= number <= 17
    wanted = expected[number] if changed else _picture(9)
    np.testing.assert_allclose(rgb, wanted, atol=int(changed))


def test_dissolves_have_the_colors_of_both_shots(
  tiny_weights, stills, colorizer
):
  bound = {3: _picture(7), CUT: _picture(8)}
  dissolve = range(CUT - 4, CUT)
  server = FrameServer(colorizer, GRAYS, bound, dissolves=[dissolve])
  gray, given = _clip(GRAYS), {'ref_framedir': stills, 'weights': tiny_weights}
  ends = [(dissolve[0], dissolve[-1])]
  colored = vsvitexco.vs_vitexco(gray, dissolves=ends, **given)
  again = vsvitexco.vs_recolor(
    gray, gray, 3, COUNT - 1, dissolves=ends, **given
  )
  for number in (CUT - 2, CUT):
    expected = server.colors(number).join(GRAYS[number])
    for actual in _read(colored, [number]) + _read(again, [number]):
      np.testing.assert_allclose(actual, expected, atol=1)
  with pytest.raises(UserError, match='frames 16 to 19 must be within the'):
    vsvitexco.vs_vitexco(gray, dissolves=[(16, 19)], **given)


def test_a_clip_of_another_length_has_references_for_all_shots(
  tiny_weights, colorizer
):
  references = [_picture(7, (40, 60)), _picture(8, (40, 60))]
  colored = vsvitexco.vs_vitexco(
    _clip(GRAYS), _clip(references), weights=tiny_weights
  )
  server = FrameServer(colorizer, GRAYS, {}, references)
  (actual,) = _read(colored, [CUT])
  np.testing.assert_array_equal(actual, server.colors(CUT).join(GRAYS[CUT]))


def test_wrong_arguments_are_explained(tmp_path, stills, tiny_weights):
  gray = _clip(GRAYS)

  def refuse(message, *args, **kwargs):
    with pytest.raises(UserError, match=message):
      vsvitexco.vs_vitexco(*args, **kwargs)

  refuse('not both', gray, gray, stills)
  single = gray.resize.Bicubic(format=vs.GRAY8, matrix=6)
  refuse('`clip` is Gray8, which cannot hold colors', single)
  refuse('not a folder', gray, ref_framedir=tmp_path / 'none')
  refuse('more than 16', gray, _clip([_picture(0)] * 17))
  refuse('no checkpoint', gray, weights=tmp_path / 'none')
  write_image(stills / 'ref_3.png', _picture(1))
  refuse('named after the same frame', gray, ref_framedir=stills)
  with pytest.raises(UserError, match='frames from 0 to 19'):
    vsvitexco.vs_recolor(gray, gray, 5, 20)
  with pytest.raises(UserError, match='length, size, and format'):
    vsvitexco.vs_recolor(gray, gray[:5], 5, 6)
  write_image(stills / 'ref_000005.png', _picture(1, (64, 64)))
  (stills / 'ref_3.png').unlink()
  colored = vsvitexco.vs_vitexco(
    gray, ref_framedir=stills, weights=tiny_weights
  )
  with pytest.raises(vs.Error, match='still of frame 5 has 64x64 pixels'):
    colored.get_frame(5)
