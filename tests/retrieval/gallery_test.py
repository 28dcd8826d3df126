"""gallery: search against sorting; damaged files and other settings."""

import json
import os

import numpy as np
import pytest
from tiny_embedder import make_config
from written_galleries import SETTINGS, Source, unit, write

from vitexco_jax.errors import UserError
from vitexco_jax.retrieval import build, ivf
from vitexco_jax.retrieval.gallery import Gallery, open_with_embedder


def test_a_search_sorts_all_cosines(tmp_path):
  embeddings, queries = unit(300), unit(25, seed=1)
  write(tmp_path, embeddings)
  opened = Gallery.open(tmp_path)
  assert isinstance(opened.embeddings, np.memmap) and len(opened) == 300
  cosines = np.float64(queries) @ np.float64(embeddings).T
  order = np.argsort(-cosines, axis=1)
  for few in (queries, queries[:1]):
    scores, numbers = opened.search(few, 7)
    np.testing.assert_array_equal(numbers, order[: len(few), :7])
    expected = np.take_along_axis(cosines[: len(few)], numbers, 1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
  scores, numbers = opened.search(queries, 1000)
  assert numbers.shape == (25, 300)
  with pytest.raises(TypeError, match=r'expected queries \[q, 8\]'):
    opened.search(unit(2, width=9), 5)


def test_names_by_number(tmp_path):
  writer = build.Writer(tmp_path, SETTINGS, Source)
  names = ['a.jpg', 'Bäume/Ähre 1.jpg', 'x\r.png', 'b/\udcff.jpg', 'c']
  writer.add(names, unit(5))
  opened = Gallery.open(tmp_path)
  assert [opened.name(i) for i in range(5)] == names


def _near(one, cosine, seed):
  """A vector with a given cosine to another."""
  other = unit(1, seed=seed)[0]
  other -= other @ one * one
  other /= np.linalg.norm(other)
  return np.float32(cosine * one + np.sqrt(1 - cosine**2) * other)


def test_the_better_one_of_near_duplicates_remains(tmp_path):
  a, b, c = np.eye(8, dtype=np.float32)[:3]
  query = np.float32(0.8 * a + 0.5 * b + 0.2 * c)[None]
  query /= np.linalg.norm(query)
  twins = [_near(a, 0.98, seed) for seed in range(6)]
  write(tmp_path, np.stack([c, *twins[:3], a, *twins[3:], b]))
  opened = Gallery.open(tmp_path)
  scores = opened.search(query, 9)[0][0]
  ((first, second, third),) = opened.best(query, 3, near_duplicate=0.9)
  assert first[1] == pytest.approx(
    scores[0]
  )  # The best of seven pictures similar to a.
  assert 1 <= first[0] <= 7
  assert [second[0], third[0]] == [8, 0]
  assert second[1] == pytest.approx(float(query[0] @ b), abs=1e-5)
  # Fewer results rather than duplicates.
  assert len(opened.best(query, 5, near_duplicate=0.9)[0]) == 3
  # 1 keeps all pictures, even duplicates.
  numbers = [number for number, _ in opened.best(query, 5)[0]]
  assert numbers == opened.search(query, 5)[1][0].tolist()


def test_best_of_each_query(tmp_path):
  embeddings = unit(50)
  write(tmp_path, embeddings)
  best = Gallery.open(tmp_path).best(embeddings[:4], 2, 0.999)
  assert [rows[0][0] for rows in best] == [0, 1, 2, 3]
  assert all(len(rows) == 2 for rows in best)


def test_incomplete_rows_are_ignored(tmp_path):
  """The files while another process adds to the gallery."""
  write(tmp_path, unit(4))
  whole = Gallery.open(tmp_path)
  with open(tmp_path / 'embeddings.f32', 'ab') as file:
    file.write(bytes(4 * 8 + 5))
  assert len(Gallery.open(tmp_path)) == 4
  with open(tmp_path / 'pictures.txt', 'ab') as file:
    file.write(b'whole\nhalf')
  assert len(Gallery.open(tmp_path)) == 5
  assert len(whole) == 4 and whole.name(3) == 'd/3.jpg'


def test_the_fingerprint_depends_on_pictures_and_settings(tmp_path):
  for name in ('a', 'b', 'c', 'd'):
    write(tmp_path / name, unit(3))
  write(tmp_path / 'c', unit(1))
  settings = tmp_path / 'd/settings.json'
  settings.write_text(settings.read_text().replace('abc', 'abd'))
  prints = [Gallery.open(tmp_path / name).fingerprint for name in 'abcd']
  assert prints[0] == prints[1] and len(set(prints)) == 3


def test_unreadable_galleries_are_refused(tmp_path):
  with pytest.raises(
    UserError, match='is not a gallery: build one with .*--mode=gallery'
  ):
    Gallery.open(tmp_path / 'nowhere')
  build.Writer(tmp_path / 'empty', SETTINGS, Source)
  with pytest.raises(UserError, match='empty has no pictures yet'):
    Gallery.open(tmp_path / 'empty')
  write(tmp_path / 'broken', unit(3))
  (tmp_path / 'broken/settings.json').write_text('{"width"')
  with pytest.raises(UserError, match='broken is damaged'):
    Gallery.open(tmp_path / 'broken')
  with pytest.raises(UserError, match='retrieval.index=hnsw must be one of ex'):
    open_with_embedder(
      make_config(retrieval__index='hnsw'), tmp_path / 'broken'
    )


def test_an_outdated_index_is_refused(tmp_path):
  embeddings = unit(500)
  write(tmp_path, embeddings)
  with pytest.raises(
    UserError, match='has no index ivf: .*retrieval.index=ivf'
  ):
    Gallery.open(tmp_path, 'ivf')
  ivf.build_index(tmp_path, embeddings)
  opened = Gallery.open(tmp_path, 'ivf')
  scores, numbers = opened.search(embeddings[:20], 1)
  np.testing.assert_array_equal(numbers[:, 0], range(20))
  np.testing.assert_allclose(scores, 1, atol=1e-5)
  write(tmp_path, unit(1, seed=2))
  with pytest.raises(UserError, match='has changed since its index ivf'):
    Gallery.open(tmp_path, 'ivf')
  path = tmp_path / 'ivf.index'
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(UserError, match='ivf.index is damaged: remove it'):
    Gallery.open(tmp_path, 'ivf')


def test_numbers_of_missing_pictures_are_refused(tmp_path):
  embeddings = unit(400)
  write(tmp_path, embeddings)
  ivf.build_index(tmp_path, embeddings)
  path = tmp_path / 'ivf.index'
  data = path.read_bytes()
  path.write_bytes(data[:-3200] + b'\x7f' * 3200)  # Some numbers, not all.
  opened = Gallery.open(tmp_path, 'ivf')
  with pytest.raises(UserError, match='is damaged: build it again'):
    opened.search(embeddings, 1)
  embeddings[:] = np.nan
  embeddings.tofile(tmp_path / 'embeddings.f32')
  with pytest.raises(UserError, match='is damaged: build it again'):
    Gallery.open(tmp_path).search(unit(1), 1)


@pytest.mark.parametrize(
  'changed',
  [
    {'width': 0},
    {'width': -8},
    {'width': 10**9},
    {'width': '8'},
    {'width': [8]},
    {'width': True},
    {'weights': None},
    {'network': ['vit']},
    {'sources': {}},
    {'sources': []},
    {'sources': ['here']},
    {'sources': [{'first': 1, 'images': 'x'}]},
    {'sources': [{'first': 0, 'images': 'x'}] * 2},
    {'sources': [{'first': 0, 'images': 3}]},
    {'sources': [{'first': '0', 'images': 'x'}]},
  ],
)
def test_invalid_settings_are_refused(tmp_path, changed):
  write(tmp_path, unit(3))
  path = tmp_path / 'settings.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changed))
  (name,) = changed
  with pytest.raises(UserError, match=f'is damaged: {name} in .*settings.json'):
    Gallery.open(tmp_path)
  with pytest.raises(UserError, match=f'is damaged: {name} in .*settings.json'):
    build.Writer(tmp_path, SETTINGS, Source)


@pytest.mark.parametrize('name', ['pictures.txt', 'embeddings.f32'])
def test_a_pipe_in_a_gallery_is_refused(tmp_path, name):
  write(tmp_path, unit(3))
  (tmp_path / name).unlink()
  os.mkfifo(tmp_path / name)
  with pytest.raises(UserError, match=f'{name}: it is a pipe'):
    Gallery.open(tmp_path)
  with pytest.raises(UserError, match=f'{name}: it is a pipe'):
    build.Writer(tmp_path, SETTINGS, Source)


@pytest.mark.parametrize('line', ['{', '[]', '{}', '[' * 10**5, '\0'])
def test_a_damaged_list_of_skipped_pictures_is_refused(tmp_path, line):
  write(tmp_path, unit(3))
  (tmp_path / 'left_out.jsonl').write_text(f'{line}\n')
  with pytest.raises(UserError, match=r'left_out.jsonl is damaged at line 1'):
    build.Writer(tmp_path, SETTINGS, Source).not_done(['a'])


@pytest.mark.parametrize(
  ('changed', 'sentence'),
  [
    (
      {'network': 'efficientnet_lite0'},
      'retrieval.network=vit, not efficientn',
    ),
    ({'grey': False}, 'config.retrieval.gray=True, not False: set this'),
    ({'weights': 'xyz'}, 'with other weights of vit'),
    ({'variant': 'S/16'}, 'config.model.vit.variant=None, not S/16'),
  ],
)
def test_queries_of_another_network_are_refused(tmp_path, changed, sentence):
  write(tmp_path, unit(3))

  class Embedder:
    settings = SETTINGS | changed

  with pytest.raises(UserError, match=sentence):
    Gallery.open(tmp_path).check(Embedder)


def test_gallery_and_embedder_are_opened_together(tmp_path, embed):
  build.Writer(tmp_path, embed.settings, Source).add(['a'], unit(1, 32))
  _, opened = open_with_embedder(make_config(), tmp_path)
  assert len(opened) == 1
  with pytest.raises(UserError, match='has no index ivf'):
    open_with_embedder(make_config(retrieval__index='ivf'), tmp_path)
  with pytest.raises(UserError, match='config.retrieval.gray=True, not False'):
    open_with_embedder(make_config(retrieval__gray=False), tmp_path)


def test_a_gallery_without_its_pictures_names_their_folder(tmp_path):
  write(tmp_path, unit(3))
  opened = Gallery.open(tmp_path)
  with pytest.raises(UserError, match='lost its picture d/1.jpg .*/nowhere'):
    opened.read(1)


def test_settings_are_stored_as_json(tmp_path):
  write(tmp_path, unit(3))
  kept = json.loads((tmp_path / 'settings.json').read_text())
  assert kept == SETTINGS | {'sources': [{'first': 0, 'images': '/nowhere'}]}
