"""The worker: borders, references, and options of the colors."""

import numpy as np
import pytest
from films import (
  COUNT,
  gray_frame,
  lossless,
  make_plan,
  mean_ab,
  one_shot,
  read_frames,
  run_film,
  tint,
)
from painter import SIZE, Painter
from skimage import color as skcolor

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan
from vitexco_jax.inference.outputs import Options
from vitexco_jax.inference.plan import Choice, Shot
from vitexco_jax.media import video
from vitexco_jax.media.borders import Borders

pytestmark = pytest.mark.usefixtures('small_blocks')


def boxed(rgb, box):
  """A frame with noisy dark borders, as it comes from a scan."""
  frame = np.random.default_rng(0).integers(0, 9, rgb.shape, np.uint8)
  box.crop(frame)[:] = box.crop(rgb)
  return frame


@pytest.mark.parametrize('references', ['bound', 'cropped', 'free'])
def test_borders_are_unchanged(tmp_path, references):
  box, inner_size = Borders(6, 4, 8, 12), (38, 44)
  source, output = tmp_path / 'in.mkv', tmp_path / 'out.mkv'
  frames = [boxed(gray_frame(i), box) for i in range(COUNT)]
  form = video.Format(*SIZE)
  with video.VideoWriter(source, form, coding=video.Coding('ffv1')) as writer:
    for rgb in frames:
      writer.write(video.Frame(rgb))
  red = tint(20, inner_size if references == 'cropped' else (384, 512))
  if references == 'bound':  # What is outside is not looked at.
    big = box.scaled(8)
    red = boxed(red, big)
  picture = tmp_path / 'red.png'
  video.write_image(picture, red)
  bound = [Choice(str(picture))]
  if references != 'free':
    bound = [Choice(str(picture), frame=i) for i in (0, 12)]
  film_plan = make_plan(source, Shot(0, COUNT, tuple(bound), box))
  painter = Painter(size=(19, 22), frame_size=inner_size)
  options = lossless(confidence=tmp_path / 'sure')
  for stop in (7 if references == 'free' else 20, None):
    _, job = run_film(
      source, film_plan, output, stop, painter=painter, options=options
    )
  assert painter.sizes <= {inner_size, (19, 22)}
  for frame, actual in zip(frames, read_frames(output), strict=True):
    kept = np.array(actual)
    box.crop(kept)[:] = box.crop(frame)
    np.testing.assert_array_equal(kept, frame)
    assert mean_ab(box.crop(actual))[0] == pytest.approx(20, abs=1)
  sure = read_frames(tmp_path / 'sure')[0]
  assert box.crop(sure).min() > 0 and sure.sum() == box.crop(sure).sum()


def test_a_bound_reference_of_another_shape_is_refused(tmp_path, source, still):
  video.write_image(tmp_path / 'tall.png', tint(20, (64, 48)))
  film_plan = one_shot(source, Choice(str(tmp_path / 'tall.png'), frame=0))
  with pytest.raises(
    UserError, match=r'tall.png is bound to frame 0 but .*48x64'
  ):
    run_film(source, film_plan, tmp_path / 'out.mkv')
  assert not list(tmp_path.glob('out*'))


def test_a_still_that_differs_from_its_frame_is_fitted(
  tmp_path, source, caplog
):
  class Looking(Painter):
    def set_reference(self, *rgb, first_frame=False):
      looked.append(rgb[0])
      super().set_reference(*rgb, first_frame=first_frame)

  looked = []
  lab = skcolor.rgb2lab(gray_frame(12))
  lab[..., 0] = 1.3 * lab[..., 0] + 5
  lab[..., 1] = 20
  for name, turn in (('brighter', 1), ('upside_down', -1)):
    rgb = np.uint8(np.round(255 * skcolor.lab2rgb(lab[::turn])))
    path = tmp_path / f'{name}.png'
    video.write_image(path, rgb)
    film_plan = one_shot(source, Choice(str(path), frame=12))
    painter = Looking(size=SIZE)
    run_film(source, film_plan, tmp_path / f'{name}.mkv', painter=painter)
    assert ('upside_down.png: only' in caplog.text) == (turn == -1)
    assert 'brighter.png' not in caplog.text
  # First backwards from the still, then forwards.
  assert len(looked) == 4
  for rgb in looked:
    assert mean_ab(rgb)[0] == pytest.approx(20, abs=1)
    lightness = skcolor.rgb2lab(rgb)[..., 0]
    expected = skcolor.rgb2lab(gray_frame(12))[..., 0]
    assert abs(lightness.mean() - expected.mean()) < 1


# Options.


def test_saturation_multiplies_colors(tmp_path, source, red):
  means = []
  for saturation in (0, 1, 1.5):
    output = tmp_path / f'{saturation}.mkv'
    run_film(source, red, output, options=lossless(saturation=saturation))
    means.append(np.mean([mean_ab(rgb)[0] for rgb in read_frames(output)]))
  np.testing.assert_allclose(means, [0, 20, 30], atol=1.0)


def test_depths_above_8_bits_are_preserved(tmp_path, still):
  source = tmp_path / 'in'
  rng = np.random.default_rng(0)
  ramp = np.linspace(20_000, 30_000, SIZE[0] * SIZE[1]).reshape(SIZE)
  frames = [np.uint16(ramp + rng.integers(0, 99))[..., None] for _ in range(3)]
  with video.VideoWriter(
    source, video.Format(*SIZE), coding=video.Coding(bits=16)
  ) as writer:
    for gray in frames:
      writer.write(video.Frame(np.repeat(gray, 3, -1)))
  film_plan = make_plan(source, Shot(0, 3, (still('red'),)))._replace(frames=3)
  options = Options(video.Coding(bits=16))
  run_film(source, film_plan, tmp_path / 'out', options=options)
  with video.VideoReader(tmp_path / 'out', deep=True) as reader:
    actual = [frame.rgb for frame in reader]
  for gray, rgb in zip(frames, actual, strict=True):
    lightness = [
      skcolor.rgb2lab(x / 65535)[..., 0] for x in (np.repeat(gray, 3, -1), rgb)
    ]
    assert np.abs(lightness[0] - lightness[1]).max() < 0.02  # 8 bits: 0.2.
    assert np.abs(mean_ab(rgb / 65535)[0] - 20) < 0.5


def test_side_by_side_and_confidence(tmp_path, source, red):
  names = 'out.mkv', 'compare.mp4', 'sure.mp4'
  output, compare, sure = (tmp_path / name for name in names)
  options = lossless(compare=compare, confidence=sure)
  run_film(source, red, output, stop=9, options=options)
  run_film(source, red, output, options=options)
  assert sorted(x.name for x in tmp_path.iterdir()) == sorted(names)
  for i, (a, b, c) in enumerate(
    zip(
      read_frames(output), read_frames(compare), read_frames(sure), strict=True
    )
  ):
    assert b.shape == (48, 128, 3)
    assert np.abs(b[:, :64].astype(int) - gray_frame(i)).mean() < 3
    assert np.abs(mean_ab(b[:, 64:]) - mean_ab(a)).max() < 1.5
    assert abs(c.mean() - 0.8 * 255) < 2


def test_first_frame_is_that_of_the_video(tmp_path, source):
  surveyed = plan.survey(source)
  film_plan = plan.same_for_all(surveyed, [plan.FIRST_FRAME])
  painter = Painter()
  steps, _ = run_film(source, film_plan, tmp_path / 'out.mkv', painter=painter)
  assert painter.references == [(1, True)]
  assert np.abs(mean_ab(steps[0].rgb)).max() < 1.0  # Which is gray.
