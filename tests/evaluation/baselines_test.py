"""Baselines on pictures with known colors."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import color as skcolor

from vitexco_jax import color
from vitexco_jax.evaluation import baselines
from vitexco_jax.structs import Given

SIZE = (64, 96)
ALL = (
  baselines.gray,
  baselines.chained_flow,
  baselines.color_transfer,
  baselines.match_vgg16,
)


def _noise(size, sigma, seed):
  """A smooth array with unit standard deviation."""
  noise = np.random.default_rng(seed).standard_normal(size)
  smooth = ndimage.gaussian_filter(noise, sigma)
  return smooth / smooth.std()


def _picture(size=SIZE, seed=0):
  """Fine luminance with independent smooth colors; uint8."""
  lab = np.stack(
    [
      50 + 10 * _noise(size, 2, 3 * seed),
      12 * _noise(size, 8, 3 * seed + 1),
      12 * _noise(size, 8, 3 * seed + 2),
    ],
    -1,
  )
  rgb = skcolor.lab2rgb(np.clip(lab, [20, -30, -30], [80, 30, 30]))
  return np.uint8(np.round(255 * rgb))


def _moving(count=5, step=3):
  """A scene that moves to the left by `step` pixels per frame."""
  height, width = SIZE
  scene = _picture((height, width + step * (count - 1)))
  return [scene[:, step * t : step * t + width] for t in range(count)]


def _run(function, frames, references, size=SIZE):
  actual = list(function(lambda: iter(frames), references, size))
  assert len(actual) == len(frames)
  for rgb, frame in zip(actual, frames, strict=True):
    assert rgb.shape == frame.shape and rgb.dtype == np.uint8
  return actual


def _ab_error(actual, expected):
  """Distance of the colors at each pixel."""
  actual, expected = (
    skcolor.rgb2lab(rgb)[..., 1:] for rgb in (actual, expected)
  )
  return np.linalg.norm(actual - expected, axis=-1)


def test_gray_has_only_lightness():
  frames = _moving(2)
  for actual, frame in zip(
    _run(baselines.gray, frames, []), frames, strict=True
  ):
    np.testing.assert_array_equal(actual, color.gray(frame))


@pytest.mark.parametrize('function', ALL)
@pytest.mark.parametrize(
  'size, bound', [((64, 96), (32, 48)), ((90, 61), SIZE)]
)
def test_keeps_size_and_lightness(function, size, bound):
  frames = [_picture(size, seed) for seed in (0, 1)]
  actual = _run(function, frames, [Given(frames[0], 0)], bound)
  for rgb, frame in zip(actual, frames, strict=True):
    lightness = [skcolor.rgb2lab(x)[..., 0] for x in (rgb, frame)]
    assert np.abs(lightness[0] - lightness[1]).mean() < 0.3


@pytest.mark.parametrize('function', ALL)
def test_uses_only_lightness(function):
  frames = _moving(3)
  grays = [np.asarray(color.gray(rgb)) for rgb in frames]
  references = [Given(frames[0], 0)]
  actual = np.float32(_run(function, grays, references))
  expected = np.float32(_run(function, frames, references))
  # Grays are rounded, so L differs slightly.
  assert np.abs(actual - expected).mean() < 1


@pytest.mark.parametrize('index', [0, 2, 4])
def test_chained_flow_follows_motion(index):
  frames = _moving()
  actual = _run(baselines.chained_flow, frames, [Given(frames[index], index)])
  for t, (rgb, frame) in enumerate(zip(actual, frames, strict=True)):
    # Except where the reference ends.
    gone = 8 + 3 * abs(t - index)
    inner = (slice(8, -8), slice(gone, -gone))
    assert _ab_error(rgb, frame)[inner].mean() < 1.5
    if abs(t - index) > 2:
      assert _ab_error(frames[index], frame)[inner].mean() > 4


def _tinted(rgb, ab):
  """A picture's L with a single color."""
  lab = skcolor.rgb2lab(rgb) * [1, 0, 0] + [0, *ab]
  return np.uint8(np.round(255 * skcolor.lab2rgb(lab)))


def test_chained_flow_uses_the_nearest_reference():
  frames = [_picture()] * 8
  red, blue = _tinted(frames[0], (20, 10)), _tinted(frames[0], (0, -20))
  references = [Given(blue, 6), Given(red, 2)]
  actual = _run(baselines.chained_flow, frames, references)
  for t, rgb in enumerate(actual):  # Frame 4 is equally near to both.
    assert _ab_error(rgb, red if t <= 4 else blue).mean() < 1


@pytest.mark.parametrize('index', [None, -1, 3])
def test_chained_flow_refuses_references_outside_the_clip(index):
  frames = _moving(3)
  with pytest.raises(ValueError, match=str(index)):
    _run(baselines.chained_flow, frames, [Given(frames[0], index)])


def _patchwork(dark, bright, across):
  """Two tones side by side, or one `across` the other."""
  lab = np.empty((*SIZE, 3))
  lab[:] = bright
  if across:
    lab[: SIZE[0] // 2] = dark
  else:
    lab[:, : SIZE[1] // 2] = dark
  return np.uint8(np.round(255 * skcolor.lab2rgb(lab)))


def test_color_transfer_depends_on_luminance():
  reference = _patchwork((30, 20, 10), (70, -10, 25), across=False)
  # The same tones at other positions, darker and closer to each other.
  frame = _patchwork((25, 20, 10), (45, -10, 25), across=True)
  (actual,) = _run(baselines.color_transfer, [frame], [Given(reference, None)])
  error = _ab_error(
    actual, frame
  )  # Except at the seam, which has another texture.
  assert error[:28].mean() < 1 and error[-28:].mean() < 1


def test_color_transfer_depends_on_texture():
  ramp = np.tile(np.linspace(-20, 20, 48), (64, 1))
  shuffled = np.random.default_rng(0).permuted(ramp)  # The same luminances.
  luminance = 50 + np.hstack([ramp, shuffled])
  a = np.where(np.arange(96) < 48, 20, -20) + 0 * luminance
  lab = np.stack([luminance, a, 0 * a], -1)
  reference = np.uint8(np.round(255 * skcolor.lab2rgb(lab)))
  frame = reference[::-1, ::-1]
  (actual,) = _run(baselines.color_transfer, [frame], [Given(reference, None)])
  error = _ab_error(actual, frame)
  assert error[:, :44].mean() < 1 and error[:, 52:].mean() < 3


def test_color_transfer_takes_the_mean_of_several_references():
  frame = _patchwork((30, 20, 10), (70, -10, 25), across=False)
  references = [
    Given(_patchwork((30, 20, 10), (70, 0, 0), across=False), 0),
    Given(_patchwork((30, 0, 0), (70, -10, 25), across=True), None),
  ]
  (actual,) = _run(baselines.color_transfer, [frame], references)
  halved = _patchwork((30, 10, 5), (70, -5, 12.5), across=False)
  error = _ab_error(actual, halved)
  assert error[:, :44].mean() < 1 and error[:, 52:].mean() < 1


def test_color_transfer_of_a_flat_picture():
  frame = np.full((*SIZE, 3), 90, np.uint8)
  reference = _tinted(frame, (10, 10))
  (actual,) = _run(baselines.color_transfer, [frame], [Given(reference, None)])
  assert _ab_error(actual, reference).mean() < 1.5


@pytest.mark.parametrize('shift', [0, 4, 16])
def test_match_vgg16_finds_equal_places(shift):
  scene = _picture((64, 96 + shift))
  reference, frame = scene[:, :96], scene[:, shift:]
  (actual,) = _run(baselines.match_vgg16, [frame], [Given(reference, None)])
  # The borders of a picture affect many of its features.
  inner = (slice(16, -16), slice(24, -24 - shift))
  assert np.median(_ab_error(actual, frame)[inner]) < 1.5
  if shift:
    assert np.median(_ab_error(reference, frame)[inner]) > 2.5


def test_match_vgg16_lets_references_compete():
  left, right = _picture(seed=1), _picture(seed=2)
  given = [Given(left, None), Given(right, None)]
  for frame in (left, right):
    (actual,) = _run(baselines.match_vgg16, [frame], given)
    assert np.median(_ab_error(actual, frame)) < 1.5


def test_match_vgg16_accepts_references_of_other_sizes():
  """References that are rotated, of odd sizes, or above the size limit."""
  frame = _picture((70, 33))
  given = [Given(_picture((151, 101)), None), Given(frame, 0)]
  (actual,) = _run(baselines.match_vgg16, [frame], given)
  assert np.median(_ab_error(actual, frame)) < 1.5
