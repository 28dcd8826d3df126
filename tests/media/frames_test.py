"""frames: prefetching in another thread."""

import itertools
import time

import pytest
from written_videos import threads

from vitexco_jax.errors import UserError
from vitexco_jax.media import video


def test_prefetch_yields_all_items_and_is_limited():
  result = []

  def source():
    for i in range(20):
      result.append(i)
      yield i

  ahead = video.prefetch(source(), size=3)
  assert next(ahead) == 0
  deadline = time.monotonic() + 5
  while len(result) < 4 and time.monotonic() < deadline:
    time.sleep(0.01)
  time.sleep(0.05)
  assert result == [0, 1, 2, 3]
  assert list(ahead) == list(range(1, 20))
  assert not threads()


def test_prefetch_raises_an_exception_at_its_position():
  def source():
    yield 1
    raise UserError('no more')

  ahead = video.prefetch(source())
  assert next(ahead) == 1
  with pytest.raises(UserError, match='no more'):
    next(ahead)
  assert not threads()


def test_closed_or_deleted_prefetch_leaves_no_thread():
  ahead = video.prefetch(itertools.count())
  next(ahead)
  ahead.close()
  assert not threads()
  ahead = video.prefetch(itertools.count())
  next(ahead)
  del ahead
  assert not threads()
