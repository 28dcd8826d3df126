"""The source: shared frames of stretches are read once."""

import collections
import itertools
from pathlib import Path

import pytest
from films import (
  COUNT,
  lossless,
  make_plan,
  run_film,
)

from vitexco_jax.inference import plan
from vitexco_jax.inference.plan import Choice, Shot
from vitexco_jax.media import video

pytestmark = pytest.mark.usefixtures('small_blocks')


def test_shared_frames_of_stretches_are_read_once(
  tmp_path, source, still, monkeypatch
):
  first = Choice(plan.FIRST_FRAME)
  bound = [still('red', frame=frame) for frame in (3, 6, 9)]
  film_plan = make_plan(
    source,
    Shot(0, 12, (*bound, still('green'))),
    Shot(12, 17, (first,)),
    Shot(17, COUNT, (first,)),
  )
  reads, opened = collections.Counter(), itertools.count()
  read_image, init = video.read_image, video.VideoReader.__init__

  def counted(path, *args):
    reads[Path(path).name] += 1
    return read_image(path, *args)

  def noted(self, path, *args, **kwargs):
    next(opened)
    init(self, path, *args, **kwargs)

  monkeypatch.setattr(video, 'read_image', counted)
  monkeypatch.setattr(video.VideoReader, '__init__', noted)
  run_film(source, film_plan, tmp_path / 'out.mkv', options=lossless())
  assert reads == {'red.png': 3, 'green.png': 1}
  # To look at it, for frames forwards and back, for the first frame.
  assert next(opened) == 4
