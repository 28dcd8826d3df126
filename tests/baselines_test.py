"""Baselines on pictures whose right colours are known."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage import color as skcolor

from vitexco_jax import baselines, color
from vitexco_jax.models import vgg16
from vitexco_jax.structs import Given

SIZE = (64, 96)
ALL = (
  baselines.grey,
  baselines.chained_flow,
  baselines.color_transfer,
  baselines.match_vgg16,
)


def _noise(size, sigma, seed):
  """Smooth, of unit deviation."""
  noise = np.random.default_rng(seed).standard_normal(size)
  smooth = ndimage.gaussian_filter(noise, sigma)
  return smooth / smooth.std()


def _picture(size=SIZE, seed=0):
  """Fine luminance, and broad colours that do not follow it; uint8."""
  height, width = size
  lab = np.stack(
    [
      50 + 10 * _noise(size, 2, 3 * seed),
      12 * _noise(size, 12, 3 * seed + 1),
      12 * _noise(size, 12, 3 * seed + 2),
    ],
    -1,
  )
  rgb = skcolor.lab2rgb(np.clip(lab, [20, -30, -30], [80, 30, 30]))
  assert rgb.shape == (height, width, 3)
  return np.uint8(np.round(255 * rgb))


def _moving(count=5, step=3):
  """A scene that moves to the left, `step` pixels a frame."""
  height, width = SIZE
  scene = _picture((height, width + step * (count - 1)))
  return [scene[:, step * t : step * t + width] for t in range(count)]


def _run(function, frames, references, size=SIZE):
  found = list(function(lambda: iter(frames), references, size))
  assert len(found) == len(frames)
  for rgb, frame in zip(found, frames, strict=True):
    assert rgb.shape == frame.shape and rgb.dtype == np.uint8
  return found


def _ab_error(found, expected):
  """Distance of the colours, pixel by pixel."""
  found, expected = (skcolor.rgb2lab(rgb)[..., 1:] for rgb in (found, expected))
  return np.linalg.norm(found - expected, axis=-1)


def _chroma(rgb):
  return _ab_error(rgb, np.asarray(color.grey(rgb))).mean()


@pytest.fixture(autouse=True, scope='module')
def thin_vgg16():
  """Random features of few channels: any will do to find equal places."""
  rng = np.random.default_rng(0)
  params, c_in = {}, 3
  for name in [*vgg16.load_vgg16()]:
    kernel = rng.normal(0, (2 / (9 * c_in)) ** 0.5, (3, 3, c_in, 16))
    params[name] = {
      'kernel': np.float32(kernel),
      'bias': np.zeros(16, np.float32),
    }
    c_in = 16
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(vgg16, 'load_vgg16', lambda: params)
    yield


def test_grey_is_lightness_alone():
  frames = _moving(2)
  for found, frame in zip(_run(baselines.grey, frames, []), frames, strict=True):
    np.testing.assert_array_equal(found, color.grey(frame))


@pytest.mark.parametrize('function', ALL)
@pytest.mark.parametrize('size, bound', [((64, 96), (32, 48)), ((90, 61), SIZE)])
def test_keeps_size_and_lightness(function, size, bound):
  frames = [_picture(size, seed) for seed in (0, 1)]
  found = _run(function, frames, [Given(frames[0], 0)], bound)
  for rgb, frame in zip(found, frames, strict=True):
    lightness = [skcolor.rgb2lab(x)[..., 0] for x in (rgb, frame)]
    assert np.abs(lightness[0] - lightness[1]).mean() < 0.3


@pytest.mark.parametrize('function', ALL)
def test_looks_at_lightness_alone(function):
  frames = _moving(3)
  greys = [np.asarray(color.grey(rgb)) for rgb in frames]
  references = [Given(frames[0], 0)]
  found = np.float32(_run(function, greys, references))
  expected = np.float32(_run(function, frames, references))
  # Greys are rounded, so that L differs a little.
  assert np.abs(found - expected).mean() < 1


@pytest.mark.parametrize('index', [0, 2, 4])
def test_chained_flow_follows_what_moves(index):
  frames = _moving()
  found = _run(baselines.chained_flow, frames, [Given(frames[index], index)])
  for t, (rgb, frame) in enumerate(zip(found, frames, strict=True)):
    # Not where the reference's picture ends.
    gone = 8 + 3 * abs(t - index)
    inner = (slice(8, -8), slice(gone, -gone))
    assert _ab_error(rgb, frame)[inner].mean() < 1.5
    if abs(t - index) > 2:
      assert _ab_error(frames[index], frame)[inner].mean() > 4


def test_chained_flow_goes_to_the_nearest_reference():
  frames = [_picture()] * 7
  first, last = [], []
  tint = {'red': (0, 30, 20), 'blue': (0, 0, -40)}
  del first, last
  lab = skcolor.rgb2lab(color.grey(frames[0]))
  red, blue = (
    np.uint8(np.round(255 * skcolor.lab2rgb(lab + tint[name])))
    for name in ('red', 'blue')
  )
  references = [Given(blue, 5), Given(red, 2)]
  found = _run(baselines.chained_flow, frames, references)
  for t, rgb in enumerate(found):
    assert _ab_error(rgb, red if t <= 3 else blue).mean() < 2


@pytest.mark.parametrize('index', [None, -1, 3])
def test_chained_flow_refuses_what_it_cannot_reach(index):
  frames = _moving(3)
  with pytest.raises(ValueError, match=str(index)):
    _run(baselines.chained_flow, frames, [Given(frames[0], index)])
