"""Pictures of a folder, and of data sets that TFDS has written."""

import io

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from vitexco_jax.errors import UserError
from vitexco_jax.media import pictures


def test_images_of_a_folder_in_order(tmp_path):
  for name in ('b/2.JPEG', 'b/10.png', 'a.jpg', 'b.webp', 'c/d/e.tif'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(name.encode())
  for other in ('notes.txt', '.hidden.jpg', 'b/jpg', 'clip.mp4'):
    (tmp_path / other).touch()
  (tmp_path / '.cache').mkdir()
  (tmp_path / '.cache/f.jpg').touch()
  folder = pictures.open_pictures(str(tmp_path))
  names = ['a.jpg', 'b.webp', 'b/10.png', 'b/2.JPEG', 'c/d/e.tif']
  assert folder.keys() == names
  assert folder.load('c/d/e.tif') == ('c/d/e.tif', b'c/d/e.tif')
  assert [folder.key(name) for name in names] == names


def test_a_folder_is_identified_by_its_path(tmp_path, monkeypatch):
  (tmp_path / 'here').mkdir()
  monkeypatch.chdir(tmp_path)
  address = pictures.open_pictures('here').address
  assert address == str(tmp_path.resolve() / 'here')
  assert pictures.open_pictures(address).address == address


def test_a_lost_picture_is_named(tmp_path):
  folder = pictures.open_pictures(str(tmp_path))
  with pytest.raises(UserError, match='cannot read .*gone.jpg: No such file'):
    folder.load('gone.jpg')


def _encoded(i):
  rgb = np.full((40, 50 + i, 3), (20 * i, 90, 30), np.uint8)
  return cv2.imencode('.png', rgb)[1].tobytes()


class _Info(tfds.core.DatasetInfo):
  """Of a data set that is nowhere on the web."""

  def initialize_from_bucket(self):
    """Makes no temporary folder, as TFDS does, which nobody removes."""


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Five pictures; subclasses change their metadata."""

  name = 'tiny_pictures'
  VERSION = tfds.core.Version('2.1.0')
  split = 'train'
  features = {
    'image': tfds.features.Image(encoding_format='png'),
    'file_name': tfds.features.Text(),
  }

  def _info(self):
    features = tfds.features.FeaturesDict(self.features)
    return _Info(builder=self, features=features, disable_shuffling=True)

  def _split_generators(self, dl_manager):
    return {self.split: self._generate_examples()}

  def _generate_examples(self):
    for i in range(5):
      example = {
        'image': io.BytesIO(_encoded(i)),
        'file_name': f'n0144_{i}.JPEG',
      }
      yield i, {name: example[name] for name in self.features}


class _Nameless(_Builder, skip_registration=True):
  name = 'nameless_pictures'
  features = {'image': tfds.features.Image(encoding_format='png')}


class _Tests(_Builder, skip_registration=True):
  name = 'test_pictures'
  split = 'test'


class _Texts(_Builder, skip_registration=True):
  name = 'texts'
  features = {'file_name': tfds.features.Text()}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Data sets where TFDS looks for them."""
  folder = str(tmp_path_factory.mktemp('tfds'))
  for builder in (_Builder, _Nameless, _Tests, _Texts):
    result = builder(data_dir=folder)
    result.download_and_prepare(file_format='array_record')
  tfds.core.add_data_dir(folder)


@pytest.mark.parametrize(
  ('address', 'named'),
  [('tiny_pictures', True), ('nameless_pictures', False)],
)
def test_pictures_of_a_data_set(prepared, address, named):
  source = pictures.open_pictures(address)
  keys = [f'train/{i:07d}' for i in range(5)]
  assert source.keys() == keys
  for i, key in enumerate(keys):
    name, data = source.load(key)
    assert name == (f'{key}/n0144_{i}.JPEG' if named else key)
    assert data == _encoded(i)
    assert source.key(name) == key and source.load(name) == (name, data)
  assert source.address == f'{address}:2.1.0'
  assert pictures.open_pictures(source.address).load(name) == (name, data)


def test_a_folder_comes_before_a_data_set(prepared, tmp_path, monkeypatch):
  (tmp_path / 'tiny_pictures').mkdir()
  monkeypatch.chdir(tmp_path)
  assert pictures.open_pictures('tiny_pictures').keys() == []


@pytest.mark.parametrize(
  ('address', 'sentence'),
  [
    ('nowhere/at/all', 'neither a folder nor a TFDS data set'),
    ('no_such_pictures', 'neither a folder nor a TFDS data set'),
    ('test_pictures', 'no images in a split train .* --file_format=array_reco'),
    ('texts', 'no images in a split train'),
  ],
)
def test_other_inputs_are_refused(prepared, address, sentence):
  with pytest.raises(UserError, match=f'`images={address}`.* {sentence}'):
    pictures.open_pictures(address)


def test_a_missing_number_is_named(prepared):
  source = pictures.open_pictures('tiny_pictures')
  with pytest.raises(UserError, match='tiny_pictures:2.1.0 train/0000009'):
    source.load('train/0000009')
