"""Benchmarks of metrics, retrieval, and the feed at toy size."""

import types

import numpy as np
import pytest
import written_records
from absl import flags

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.retrieval import build
from vitexco_jax.retrieval.gallery import Gallery
from vitexco_jax.tools import benchmark_data


def test_metrics_of_a_frame_take_time(monkeypatch):
  measured = []
  monkeypatch.setattr(
    benchmark_data.measure,
    'measure_frame',
    lambda *frames: measured.append(frames) or ([{'ssim': 1.0}], []),
  )
  (row,) = benchmark_data.metrics_speed(48, 64)
  assert row.value > 0 and row.name == 'metrics of 64x48, a frame'
  for before, frame in measured:
    np.testing.assert_array_equal(  # The clip moves 3 pixels to the right.
      before.true_rgb[:, :-3], frame.true_rgb[:, 3:]
    )
    assert (before.number, frame.number) == (
      0,
      1,
    )  # No LPIPS vgg for these frames.


def test_searches_are_timed_and_correct():
  rows = benchmark_data.retrieval_speed(count=3000, width=16, clusters=40)
  values = {row.name: row.value for row in rows}
  assert len(values) == len(rows)
  name = 'retrieval of 3000 x 16'
  assert values[f'{name}, ivf, recall@5'] > 0.8
  assert values[f'{name}, ivf, lists'] == 64
  assert values[f'{name}, ivf, scanned lists'] < 64
  for index in ('exact', 'ivf'):
    one = values[f'{name}, {index}, one query']  # Milliseconds.
    many = values[f'{name}, {index}, 1000 queries']
    assert 0 < one < 1000 * many
    assert values[f'{name}, {index}, opening'] > 0


class _Searched:
  """A gallery on a circle; the brightness of a picture is its number."""

  # The third synset has too few pictures; the second has a skipped one.
  angles = {
    'n00000001': [0, 0, 2.5, 4, 90, 92],
    'n00000002': [4.5, 60, 61, 91.1],
    'n00000003': [5.2, 120, 121, 122],
  }
  left_out = ['n00000002_9.jpg', 'n00000003x.jpg', 'n000000031_4.jpg']

  def write(self, folder):
    source = types.SimpleNamespace(address='nowhere')
    settings = {'network': '', 'weights': '', 'width': 2, 'grey': True}
    writer = build.Writer(folder, settings, source)
    names = [f'{x}/{x}_{i}.jpg' for x, y in self.angles.items() for i in y]
    angles = np.deg2rad(np.concatenate(list(self.angles.values())))
    self.embeddings = np.stack([np.cos(angles), np.sin(angles)], -1)
    writer.add(names, np.float32(self.embeddings))
    writer.leave_out(dict.fromkeys(self.left_out, 'black-and-white'))
    opened = Gallery.open(folder)
    opened.read = lambda i: np.full((40, 40, 3), 10 * i, np.uint8)
    return opened

  def embed_crops(self, crops):
    assert crops.shape[1:] == (224, 224, 3) and crops.dtype == np.uint8
    return self.embeddings[np.rint(crops[:, 0, 0, 0] / 10).astype(int)]


@pytest.mark.parametrize('gray', [True, False])
def test_quality_is_the_share_with_a_nearest_of_the_same_class(
  tmp_path, monkeypatch, gray
):
  """By hand: the duplicates and the neighbors of 2.5 and 4.5 are right."""
  searched = _Searched()
  opened = searched.write(tmp_path)
  monkeypatch.setattr(
    benchmark_data, 'open_with_embedder', lambda *_: (searched, opened)
  )
  config = get_config('tiny')
  config.retrieval.gray = gray
  rows = benchmark_data.retrieval_quality(config, tmp_path)
  name = f'efficientnet_lite0, 14 pictures in {"gray" if gray else "color"}'
  actual = {row.name.removeprefix(name): row.value for row in rows}
  assert actual.pop(', queries') == 10
  assert actual.pop(', gray queries, nearest of the synset') == 50
  if not gray:
    assert actual.pop(', color queries, nearest of the synset') == 50
  assert not actual
  rows = benchmark_data.retrieval_quality(config, tmp_path, at_most=4)
  assert rows[0].value == 4


def test_quality_needs_synsets(tmp_path, monkeypatch):
  searched = _Searched()
  searched.angles = {'n00000001': [1, 2, 3], 'dogs': [4, 5, 6, 7, 8]}
  opened = searched.write(tmp_path)
  monkeypatch.setattr(
    benchmark_data, 'open_with_embedder', lambda *_: (searched, opened)
  )
  with pytest.raises(
    UserError, match='does not have five pictures of one ImageNet'
  ):
    benchmark_data.retrieval_quality(get_config('tiny'), tmp_path)


def test_the_feed_is_measured_in_all_modes(tmp_path):
  if not flags.FLAGS.is_parsed():  # Grain passes the flags to its processes.
    flags.FLAGS(['test'])
  written_records.write(tmp_path, written_records.moving_runs())
  config = get_config('tiny')
  config.data.records = str(tmp_path)
  rows = benchmark_data.feed(config, batches=3)
  assert [row.name for row in rows] == [
    f'feed, {place}, {state}'
    for place in ('1 threads', '1 processes', '2 processes')
    for state in ('cold', 'warm')
  ]
  assert all(row.value > 0 for row in rows)
