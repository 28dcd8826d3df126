"""Array functions of the engine: lightness, sizes, and padding."""

import numpy as np
import pytest

from vitexco_jax import color
from vitexco_jax.inference import frame_programs


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
