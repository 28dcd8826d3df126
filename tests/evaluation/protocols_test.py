"""Protocols: which references a clip gets, and which frames count."""

import types

import numpy as np
import pytest
from small_clips import (
  Brighter,
  read_frames,
  read_row,
  run_evaluate,
)

from configs.vitexco import get_config
from vitexco_jax.evaluation import protocols


@pytest.mark.parametrize(
  'protocol, given, counted',
  [
    ('first-frame', [0], range(12)),
    ('far-frame', [6], [*range(6), *range(7, 12)]),
    ('multi', [0, 11], range(12)),
  ],
)
def test_references_and_counted_frames(folder, protocol, given, counted):
  class _Uneven(Brighter):
    def colorize(self, frames):
      for i, rgb in enumerate(frames):
        yield rgb + np.uint8(1 + i)

  colorizer = _Uneven()
  summary = run_evaluate(folder, colorizer, protocols=[protocol])
  rgb, first = colorizer.references[-1]
  assert first is True
  np.testing.assert_array_equal(rgb, read_frames(folder, 'walk', *given))
  row = read_row(summary, 'walk', protocol)
  # Colors are propagated from the given frame in both directions.
  psnr = [20 * np.log10(255 / (1 + abs(i - given[0]))) for i in range(12)]
  free = [i for i in counted if i not in given]
  for column, frames in (
    ('psnr', counted),
    ('psnr_not_given', free),
    ('psnr_last', list(counted)[-10:]),
  ):
    np.testing.assert_allclose(row[column], np.mean([psnr[i] for i in frames]))


@pytest.mark.parametrize('protocol', ['aged', 'edited-still', 'entering'])
def test_changed_clips_and_stills_are_evaluated(folder, protocol):
  colorizer = Brighter()
  colorizer.config = get_config('tiny')
  colorizer.config.use.fit_stills = False
  summary = run_evaluate(folder, colorizer, protocols=[protocol])
  clip = summary['protocols'][protocol]['clips']['walk']
  assert clip['size'] == ([32, 43] if protocol == 'entering' else [48, 64])
  ((reference,), first) = colorizer.references[-1]
  assert first is True
  (true,) = read_frames(folder, 'walk', 0)
  assert reference.shape != true.shape or (reference != true).any()
  # The truth is changed as well.
  assert clip['methods']['vitexco']['psnr'] > 20


def test_without_a_reference_all_frames_count(folder):
  colorizer = Brighter()
  summary = run_evaluate(
    folder, colorizer, protocols=['none'], compared=['gray', 'transfer']
  )
  assert set(colorizer.references) == {((), False)}
  row = read_row(summary, 'walk', 'none')
  assert row['psnr'] == row['psnr_not_given'] > 20
  clip = summary['protocols']['none']['clips']['walk']
  assert clip['references'] == []
  # Gray needs no reference; a transfer of colors does.
  assert set(clip['methods']) == {'truth', 'vitexco', 'gray'}


def test_retrieved_is_the_most_similar_picture(folder, monkeypatch):
  asked = []
  picture = read_frames(folder, 'walk', 3)[0]

  def embed(pictures):
    asked.extend(pictures)
    return 'queries'

  def best(queries, count):
    assert (queries, count) == ('queries', 1)
    return [[(7, 0.9)]]

  gallery = types.SimpleNamespace(
    best=best,
    read=lambda number: picture,
    name=lambda number: f'n{number}.jpg',
    fingerprint='that',
  )
  monkeypatch.setattr(
    protocols, 'open_with_embedder', lambda *_: (embed, gallery)
  )
  colorizer = Brighter()
  summary = run_evaluate(
    folder,
    colorizer,
    protocols=['retrieved'],
    compared=['gray', 'flow'],
    gallery=folder,
  )
  np.testing.assert_array_equal(
    asked, read_frames(folder, 'boat', 1) + read_frames(folder, 'walk', 6)
  )
  assert all(not first for _, first in colorizer.references)
  np.testing.assert_array_equal(colorizer.references[0][0], [picture])
  clip = summary['protocols']['retrieved']['clips']['walk']
  assert clip['references'] == ['n7.jpg']
  # Flow cannot reach a picture outside the clip.
  assert list(clip['methods']) == ['truth', 'vitexco', 'gray']
