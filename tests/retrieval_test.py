"""Galleries: what is found is what a slow search finds, and nothing is lost."""

import json
import re

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs.vitexco import get_config
from vitexco_jax import color, gallery, retrieval, retrieve, video
from vitexco_jax.errors import UserError

pytestmark = pytest.mark.usefixtures('quick_compiler')


def _config(**settings):
  config = get_config('tiny')
  config.retrieval.network = 'vit'
  config.retrieval.update(settings)
  return config


def _picture(seed, size=(60, 80)):
  noise = np.random.default_rng(seed).uniform(0, 255, (6, 8, 3))
  large = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
  return np.uint8(np.clip(large, 0, 255))


@pytest.fixture(scope='module')
def embedder():
  return retrieval.Embedder(_config())


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Twelve pictures in two folders, one of them twice; a grey and a broken one."""
  folder = tmp_path_factory.mktemp('images')
  for number in range(12):
    path = folder / f'n0000000{number % 2}/{number:02d}.png'
    path.parent.mkdir(exist_ok=True)
    video.write_image(path, _picture(number, (50 + number, 90 - number)))
  video.write_image(folder / 'again.png', _picture(3, (53, 87)))
  grey = np.repeat(_picture(20)[..., :1], 3, -1)
  video.write_image(folder / 'grey.png', grey)
  (folder / 'broken.JPEG').write_bytes(b'no picture')
  (folder / 'notes.txt').write_text('not looked at')
  return folder


@pytest.fixture(scope='module')
def built(images, tmp_path_factory):
  folder = tmp_path_factory.mktemp('gallery') / 'made'
  return gallery.make_gallery(_config(), str(images), folder)


def _files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_embeddings_are_of_unit_length_and_of_each_picture_alone(embedder):
  pictures = [_picture(i, (40 + i, 70)) for i in range(20)]
  together = embedder(pictures)
  assert together.shape == (20, embedder.size) == (20, 32)
  assert together.dtype == np.float32
  np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
  alone = np.concatenate([embedder([rgb]) for rgb in pictures])
  np.testing.assert_allclose(alone, together, atol=1e-5)


def test_colour_counts_only_where_it_is_asked_for(embedder):
  rgb = _picture(0, (224, 224))  # Scaling and greying do not commute.
  grey = np.asarray(color.grey(rgb))
  np.testing.assert_allclose(*embedder([rgb, grey]), atol=2e-3)
  in_colour = retrieval.Embedder(_config(grey=False))
  assert np.abs(np.subtract(*in_colour([rgb, grey]))).max() > 2e-3


def test_the_middle_of_a_wide_picture_is_seen(embedder):
  rgb = _picture(0, (60, 120))
  changed = rgb.copy()
  changed[:, :20] = 0
  np.testing.assert_array_equal(embedder([rgb]), embedder([changed]))


def test_what_is_in_a_gallery_and_what_is_not(built, images):
  assert built.names == sorted(
    path.relative_to(images).as_posix()
    for path in images.rglob('*.png')
    if path.name != 'grey.png'
  )
  left_out = json.loads((built.folder / 'left_out.json').read_text())
  assert left_out.pop('grey.png') == 'black-and-white'
  assert 'not an image' in left_out.pop('broken.JPEG') and not left_out
  for number, name in enumerate(built.names):
    truth = video.read_image(images / name)
    np.testing.assert_array_equal(built.read(number), truth)


def test_search_finds_what_a_slow_one_does(built, embedder):
  stored = embedder([built.read(number) for number in range(len(built))])
  queries = embedder([_picture(i) for i in range(30, 34)])
  scores, numbers = built.search(queries, 5)
  cosines = queries @ stored.T
  np.testing.assert_allclose(scores, -np.sort(-cosines)[:, :5], atol=1e-4)
  of_numbers = np.take_along_axis(cosines, numbers, 1)
  np.testing.assert_allclose(of_numbers, scores, atol=1e-4)


def test_of_near_duplicates_the_better_is_kept(images, built, embedder):
  twins = {built.names.index('again.png')}
  twins.add(built.names.index('n00000001/03.png'))
  query = embedder([_picture(3)])
  # An untrained ViT finds all of them alike, so only equal ones count.
  settings = _config(near_duplicate=0.99999).retrieval
  opened = retrieval.Gallery(built.folder, settings)
  plain = opened.search(query, 6)[1][0]
  assert set(plain[:2]) == twins
  (best,) = opened.best(query)
  expected = [plain[0], *plain[2:]]
  assert [number for number, _ in best] == expected
  scores = [score for _, score in best]
  assert scores == sorted(scores, reverse=True)


def test_grows_by_what_it_lacks(images, built, tmp_path, monkeypatch):
  small = tmp_path / 'images'
  small.mkdir()
  for name in built.names[:4]:
    video.write_image(small / name.replace('/', '_'), _picture(hash(name) % 99))
  config, folder = _config(), tmp_path / 'gallery'
  before = gallery.make_gallery(config, str(small), folder)
  video.write_image(small / '0first.png', _picture(77))
  embedded = []
  embed = retrieval.Embedder.__call__
  monkeypatch.setattr(
    retrieval.Embedder,
    '__call__',
    lambda self, pictures: embedded.extend(pictures) or embed(self, pictures),
  )
  after = gallery.make_gallery(config, str(small), folder)
  assert after.names == [*before.names, '0first.png']
  assert len(embedded) == 1
  assert after.fingerprint != before.fingerprint


def test_goes_on_after_a_kill(images, built, tmp_path, monkeypatch):
  monkeypatch.setattr(gallery, '_CHUNK', 4)
  config, folder = _config(), tmp_path / 'gallery'
  add, calls = retrieval.GalleryWriter.add, []

  def stop(self, *args):
    calls.append(args)
    if len(calls) == 3:
      raise KeyboardInterrupt
    add(self, *args)

  monkeypatch.setattr(retrieval.GalleryWriter, 'add', stop)
  with pytest.raises(KeyboardInterrupt):
    gallery.make_gallery(config, str(images), folder)
  monkeypatch.setattr(retrieval.GalleryWriter, 'add', add)
  # A kill may leave embeddings without a name, and half a name.
  with (folder / 'embeddings.f32').open('ab') as file:
    file.write(b'x' * 130)
  with (folder / 'pictures.jsonl').open('a') as file:
    file.write('"half')
  gallery.make_gallery(config, str(images), folder)
  ours, theirs = _files(folder), _files(built.folder)
  embeddings = [
    np.frombuffer(x.pop('embeddings.f32'), np.float32) for x in (ours, theirs)
  ]
  np.testing.assert_allclose(*embeddings, atol=1e-5)
  assert ours == theirs


def test_approximate_index_finds_almost_the_same(tmp_path):
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((40, 16))
  vectors = centres[rng.integers(40, size=4000)]
  vectors += 0.3 * rng.standard_normal(vectors.shape)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  vectors = vectors.astype(np.float32)
  claimed = retrieval.write_index(tmp_path, vectors)
  (tmp_path / 'embeddings.f32').write_bytes(vectors.tobytes())
  names = ''.join(f'"{number}"\n' for number in range(4000))
  (tmp_path / 'pictures.jsonl').write_text(names)
  settings = {'images': str(tmp_path), 'size': 16, 'description': {}}
  (tmp_path / 'settings.json').write_text(json.dumps(settings))
  queries = vectors[::37]
  found = retrieval.Gallery(tmp_path, _config(index='ivf').retrieval).search(
    queries, 5
  )[1]
  truth = np.argsort(-(queries @ vectors.T))[:, :5]
  recall = np.mean([np.isin(a, b) for a, b in zip(found, truth, strict=True)])
  assert claimed >= 0.95 and recall > 0.9
  with (tmp_path / 'pictures.jsonl').open('a') as file:
    file.write('"one more"\n')
  with (tmp_path / 'embeddings.f32').open('ab') as file:
    file.write(vectors[:1].tobytes())
  with pytest.raises(UserError, match='of 4000 pictures, not of 4001: run'):
    retrieval.Gallery(tmp_path, _config(index='ivf').retrieval)


def test_pictures_of_a_tfds_data_set(tmp_path, monkeypatch):
  class Pictures(tfds.core.ShardBasedBuilder, skip_registration=True):
    name = 'pictures'
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      image = tfds.features.Image(shape=(None, None, 3))
      features = tfds.features.FeaturesDict({'image': image})
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _shard_iterators_per_split(self, dl_manager):
      def examples():
        for number in range(6):
          bgr = _picture(number, (40, 50))[..., ::-1]
          yield number, {'image': cv2.imencode('.png', bgr)[1].tobytes()}

      return {'train': [examples]}

  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  builder = Pictures(data_dir=str(tmp_path))
  builder.download_and_prepare(file_format='array_record')
  monkeypatch.setattr(
    tfds,
    'data_source',
    lambda name, split: tfds.builder_from_directory(
      str(tmp_path / name / '1.0.0')
    ).as_data_source(split),
  )
  made = gallery.make_gallery(_config(), 'pictures', tmp_path / 'gallery')
  assert made.names == ['0', '1', '2', '3', '4', '5']
  np.testing.assert_array_equal(made.read(4), _picture(4, (40, 50)))


def test_says_that_an_untrained_vit_finds_little(capsys):
  retrieval.Embedder(_config())
  assert 'will be poor' in capsys.readouterr().out


def test_refuses_what_does_not_fit(built, images, tmp_path):
  def refused(sentence, config=None, images_=str(images), folder=built.folder):
    with pytest.raises(UserError, match=sentence):
      gallery.make_gallery(config or _config(), images_, folder)

  refused('grey=True, not False', _config(grey=False))
  other = _config()
  other.seed = 1
  refused('made with weights=', other)
  refused("network is 'vgg'", _config(network='vgg'))
  refused("index is 'tree'", _config(index='tree'))
  refused('no folder, and TFDS has no data set', images_='nowhere')
  (tmp_path / 'empty').mkdir()
  refused('holds no pictures', images_=str(tmp_path / 'empty'))
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  video.write_image(elsewhere / 'a.png', _picture(0))
  refused('has the pictures of', images_=str(elsewhere))
  with pytest.raises(UserError, match='no gallery'):
    retrieval.Gallery(tmp_path, _config().retrieval)
  with pytest.raises(UserError, match='no approximate index'):
    retrieval.Gallery(built.folder, _config(index='ivf').retrieval)
  grey = tmp_path / 'grey'
  grey.mkdir()
  video.write_image(grey / 'a.png', np.repeat(_picture(0)[..., :1], 3, -1))
  refused('none of the 1', images_=str(grey), folder=tmp_path / 'g')


def test_shows_the_best_of_a_picture_and_of_a_video(built, tmp_path, capsys):
  config = _config(near_duplicate=2.0)
  video.write_image(tmp_path / 'in.png', _picture(5, (55, 85)))
  (best,) = retrieve.retrieve(
    config, tmp_path / 'in.png', built.folder, tmp_path / 'out.png'
  )
  names = [built.names[number] for number, _ in best]
  assert names[0] == 'n00000001/05.png' and best[0][1] > 0.9999
  printed = capsys.readouterr().out
  assert [name for name in names if name in printed] == names
  assert re.search(r'1\.000  n00000001/05\.png', printed)
  strip = video.read_image(tmp_path / 'out.png')
  assert strip.shape[1] > 6 * 200

  with video.VideoWriter(tmp_path / 'in.mp4', video.Format(64, 96)) as writer:
    for number in range(12):
      writer.write(video.Frame(_picture(number, (64, 96))))
  found = retrieve.retrieve(
    config, tmp_path / 'in.mp4', built.folder, tmp_path / 'out.png'
  )
  assert len(found) == 3
  assert [built.names[best[0][0]][-6:-4] for best in found] == [
    '02',
    '06',
    '10',
  ]
