"""ranges: parts of a film, in frames or times."""

import av
import numpy as np
import pytest
from films import COUNT, STAMPS, lossless, make_plan, read_frames, run_film

from vitexco_jax.errors import UserError
from vitexco_jax.inference import ranges
from vitexco_jax.inference.plan import Shot
from vitexco_jax.media import video

SECONDS = [stamp / 1000 for stamp in STAMPS]


@pytest.mark.parametrize(
  'text, numbers',
  [
    ('5:9', range(5, 9)),
    (':9', range(9)),
    ('20:', range(20, COUNT)),
    ('0:00:00.1-0:00.31', range(3, 6)),  # Frame 6 is at 0.31 s.
    ('0.3-', range(5, COUNT)),
    ('-0.08', range(2)),
    ('0:00:00-0:00:01.5', range(COUNT)),  # Ends within a second of the film.
  ],
)
def test_a_range_selects_frames(text, numbers):
  actual = ranges.resolve(ranges.parse(text), SECONDS)
  assert actual == numbers


@pytest.mark.parametrize(
  'text',
  [
    '',
    ':',
    '-',
    '5',
    '5-9',
    'a:b',
    '1:2:3',
    '-1:5',
    '5:-1',
    '٣:٤',
    '1.2.3-4.0',
    '0:00:nan-0:01:00',
    '1e9:2e9',
    '5 : 9',
    '9' * 99 + ':',
  ],
)
def test_what_is_no_range_is_refused(text):
  with pytest.raises(UserError, match='is no range: write frames, such as'):
    ranges.parse(text)


def test_empty_ranges_and_those_outside_are_refused():
  for text in ('9:5', '5:5', '0:02:00-0:01:00'):
    with pytest.raises(UserError, match='ends before it starts'):
      ranges.parse(text)
  assert ranges.parse(None) is None
  for text in ('23:', '5:24', '0:01:00-', '0.5-9.0'):
    with pytest.raises(UserError, match='which has 23 frames and ends at 0:0'):
      ranges.resolve(ranges.parse(text), SECONDS)
  ranges.check(ranges.parse('20:99'), COUNT, 25.0)
  for text in ('30:', '5.0-'):
    with pytest.raises(UserError, match='is not within the video'):
      ranges.check(ranges.parse(text), COUNT, 25.0)


@pytest.mark.usefixtures('small_blocks')
@pytest.mark.parametrize('numbers', [range(9, 16), range(13, 14), range(0, 4)])
def test_a_part_has_the_colors_and_the_sound_of_the_film(
  tmp_path, source, still, numbers
):
  shots = (
    Shot(0, 6, (still('red'),)),
    Shot(6, COUNT, (still('green', frame=12),)),
  )
  film_plan = make_plan(source, *shots)
  options = lossless()
  run_film(source, film_plan, tmp_path / 'whole.mkv', options=options)
  path = tmp_path / 'part.mkv'
  for stop in (2, None):  # It resumes, too.
    _, job = run_film(
      source, film_plan, path, stop, options=options, frames=numbers
    )
  whole = read_frames(tmp_path / 'whole.mkv')
  expected = whole[numbers.start : numbers.stop]
  np.testing.assert_array_equal(read_frames(path), expected)
  assert [x.name for x in tmp_path.glob('part*')] == ['part.mkv']
  with video.VideoReader(path) as reader:
    stamps = [frame.pts * reader.format.tick for frame in reader]
  first = STAMPS[numbers.start]
  assert [round(1000 * x) for x in stamps] == [
    STAMPS[i] - first for i in numbers
  ]
  stop = [*STAMPS, STAMPS[-1] + 500][numbers.stop]
  with av.open(str(path)) as container:
    for packet in container.demux():
      if packet.size and packet.stream.type == 'audio':
        assert 0 <= packet.pts * packet.time_base * 1000 < stop - first
  assert not [*job.unsure()]
  assert np.flatnonzero(~np.isnan(job.confidences)).tolist() == [*numbers]


@pytest.mark.usefixtures('small_blocks')
def test_a_part_leaves_kept_segments_and_fits_into_an_image(
  tmp_path, source, red
):
  run_film(source, red, tmp_path / 'out.mkv', keep_work=True)
  both = {'overwrite': True, 'keep_work': True}
  run_film(source, red, tmp_path / 'out.mkv', frames=range(5), **both)
  assert len(read_frames(tmp_path / 'out.mkv')) == 5
  assert not run_film(source, red, tmp_path / 'out.mkv', **both)[0]
  assert len(read_frames(tmp_path / 'out.mkv')) == COUNT
  run_film(source, red, tmp_path / 'one.png', frames=range(3, 4))
  with pytest.raises(UserError, match='is one image but .* has 2 frames'):
    run_film(source, red, tmp_path / 'two.png', frames=range(3, 5))
