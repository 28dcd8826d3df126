"""image_grid: layout of pictures and labels."""

import numpy as np
import pytest

from vitexco_jax.media import image_grid


def _plain(height, width, rgb):
  return np.broadcast_to(np.uint8(rgb), (height, width, len(rgb)))


def _find(grid, rgb):
  """Bounds (top, bottom, left, right) of the pixels of one color."""
  ys, xs = np.nonzero((grid == np.uint8(rgb)).all(-1))
  return ys.min(), ys.max() + 1, xs.min(), xs.max() + 1


def test_cells_have_the_same_width_and_keep_their_aspect():
  red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
  grid = image_grid.draw(
    [[_plain(40, 80, red), _plain(90, 30, green)], [_plain(10, 20, blue)]],
    ['above', 'below'],
    width=60,
  )
  boxes = [_find(grid, rgb) for rgb in (red, green, blue)]
  sizes = [(bottom - top, right - left) for top, bottom, left, right in boxes]
  assert sizes == [(30, 60), (180, 60), (30, 60)]
  assert boxes[0][0] == boxes[1][0]  # The same row.
  assert boxes[0][3] < boxes[1][2]  # Next to each other, in order.
  assert boxes[0][2] == boxes[2][2]  # The same column.
  assert boxes[1][1] < boxes[2][0]  # The next row is below the highest cell.


def test_each_label_is_above_its_row():
  white = _plain(20, 40, (255, 255, 255))
  grid = image_grid.draw([[white], [white]], ['', 'truth'], width=40)
  inked = np.nonzero((grid < 128).any((1, 2)))[0]
  half = grid.shape[0] // 2
  assert inked.min() > half - 10
  assert inked.max() < half + 22


def test_a_long_label_is_not_truncated():
  cell = _plain(20, 40, (255, 255, 255))
  label = 'colored from the first frame'
  narrow = image_grid.draw([[cell]], [label], width=40)
  wide = image_grid.draw([[cell]], [label], width=400)
  assert (narrow < 128).sum() == (wide < 128).sum() > 0


def test_gray_is_three_equal_channels():
  grid = image_grid.draw([[_plain(8, 8, (77,))]], [''], width=8)
  top, bottom, left, right = _find(grid, (77, 77, 77))
  assert (bottom - top, right - left) == (8, 8)


def test_refuses_floats():
  with pytest.raises(TypeError, match='float32'):
    image_grid.draw([[np.zeros((4, 4, 3), np.float32)]], ['x'])
