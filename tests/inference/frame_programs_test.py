"""Array functions of the engine: lightness, sizes, and padding."""

import numpy as np
import pytest

from vitexco_jax import color
from vitexco_jax.inference import frame_programs
from vitexco_jax.models import cells, layers
from vitexco_jax.structs import Reference


def test_lightness_levels_span_the_bytes():
  luminance = np.array([-60.0, -50.0, 10.0, 50.0, 60.0])
  levels = frame_programs.lightness_levels(luminance)
  assert levels.dtype == np.uint8
  np.testing.assert_array_equal(levels, [0, 0, 153, 255, 255])


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_frames_are_resized_and_padded_to_the_stride(dtype):
  rgb = np.full((80, 120, 3), np.iinfo(dtype).max, dtype)
  rgb[..., 2] = 0  # Yellow.
  actual = frame_programs.fit_luminance((40, 60), 1, rgb)
  assert actual.shape == (48, 64, 1)
  expected = color.uint8_to_lab(rgb[:1, :1])[0, 0, 0] - 50
  np.testing.assert_allclose(actual, expected, atol=1e-3)
  lab = frame_programs.fit_lab((40, 60), 2, rgb)
  assert lab.shape == (1, 64, 64, 3)  # Multiples of twice the stride.
  np.testing.assert_allclose(lab[..., :1], expected, atol=1e-3)


@pytest.mark.parametrize('in_cells', [False, True])
def test_the_mirrored_part_of_a_reference_is_cut_off(in_cells):
  rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)

  def encode(picture):
    ab = layers.average_pool(picture[..., 1:], 4)
    height, width = ab.shape[1:3]
    ab = ab.reshape(1, height * width, 2)
    return Reference(picture, 2 * ab, ab)

  picture = frame_programs.fit_rgb((40, 60), 1, rgb)
  extended = frame_programs.fit_reference((40, 60), (64, 96), rgb)
  assert extended.shape == (1, 64, 96, 3)
  np.testing.assert_array_equal(extended[:, :48, :64], picture)
  np.testing.assert_array_equal(extended[:, 48:, :64], picture[:, 46:30:-1])
  expected = encode(picture)
  actual = frame_programs.cut_reference((48, 64), in_cells, encode(extended))
  np.testing.assert_array_equal(actual.lab, picture)
  for name in ('keys', 'ab'):
    one, other = (getattr(x, name) for x in (actual, expected))
    one = cells.undivide(one, (12, 16)) if in_cells else one
    np.testing.assert_array_equal(one, other)
