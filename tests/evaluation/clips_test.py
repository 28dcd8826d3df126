"""Clips from folders, videos, records, and TFDS data sets."""

import io

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
import written_records

from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import clips
from vitexco_jax.media import video


def _rgb(frames, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (frames, 32, 40, 3), np.uint8)


def _write_folder(folder, rgb):
  folder.mkdir(parents=True)
  for i, frame in enumerate(rgb):
    video.write_image(folder / f'{i:05}.png', frame)


def _write_video(path, rgb):
  with video.VideoWriter(path, video.Format(*rgb.shape[1:3])) as writer:
    for frame in rgb:
      writer.write(video.Frame(frame))


def test_folders_and_videos_of_a_folder(tmp_path):
  rgb = _rgb(5)
  _write_folder(tmp_path / 'walk', rgb)
  _write_video(tmp_path / 'film.mkv', _rgb(7))
  (tmp_path / '.hidden').mkdir()
  (tmp_path / 'notes.txt').touch()
  film, walk = clips.find_clips('data', str(tmp_path))
  assert (film.name, film.count, film.stems) == ('film.mkv', 7, None)
  assert (walk.name, walk.count) == ('walk', 5)
  assert walk.stems == [f'{i:05}' for i in range(5)]
  for _ in range(2):
    np.testing.assert_array_equal(list(walk.read()), rgb)
  np.testing.assert_array_equal(walk.frames(4, 0), rgb[[4, 0]])


def test_a_single_clip(tmp_path):
  _write_folder(tmp_path / 'walk', _rgb(2))
  _write_video(tmp_path / 'film.mkv', _rgb(3))
  for name, count in (('walk', 2), ('film.mkv', 3)):
    (clip,) = clips.find_clips('data', str(tmp_path / name))
    assert (clip.name, clip.count) == (name, count)


def test_fingerprint_changes_with_the_frames(tmp_path):
  _write_folder(tmp_path / 'walk', _rgb(3))

  def fingerprint():
    (clip,) = clips.find_clips('data', str(tmp_path / 'walk'))
    return clip.fingerprint

  before = fingerprint()
  assert fingerprint() == before
  (tmp_path / 'walk/00002.png').unlink()
  assert fingerprint() != before


def test_a_truncated_video_is_refused(tmp_path):
  path = tmp_path / 'film.mkv'
  _write_video(path, _rgb(12))  # Noise, so that frames fill the file.
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 2 // 3])
  (clip,) = clips.find_clips('data', str(path))
  with pytest.raises(UserError, match=r'film\.mkv is damaged or cut short \('):
    list(clip.read())


def test_runs_of_records(tmp_path):
  written_records.write(tmp_path, written_records.moving_runs())
  actual = clips.find_clips('data', str(tmp_path))
  assert len(actual) == len({clip.name for clip in actual}) == 3
  for clip in actual:
    assert clip.count == len(list(clip.read())) > 1


class _Info(tfds.core.DatasetInfo):
  """A local data set that does not exist online."""

  def initialize_from_bucket(self):
    pass


class _Films(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Two videos as a TFDS data set."""

  name = 'films'
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    image = tfds.features.Image(shape=(32, 40, 3), encoding_format='png')
    frames = tfds.features.Sequence(image)
    features = tfds.features.FeaturesDict({'video': {'frames': frames}})
    return _Info(builder=self, features=features, disable_shuffling=True)

  def _split_generators(self, dl_manager):
    return {'validation': self._generate_examples()}

  def _generate_examples(self):
    for seed in range(2):
      frames = [cv2.imencode('.png', x[..., ::-1])[1] for x in _rgb(3, seed)]
      yield seed, {'video': {'frames': [io.BytesIO(x) for x in frames]}}


def test_a_data_set_of_videos(tmp_path):
  builder = _Films(data_dir=tmp_path)
  builder.download_and_prepare(file_format='array_record')
  first, second = clips.find_clips('data', str(builder.data_path))
  assert (first.name, first.count) == ('films_validation_00000', 3)
  for seed, clip in enumerate((first, second)):
    np.testing.assert_array_equal(list(clip.read()), _rgb(3, seed))


def test_inputs_without_clips_are_refused(tmp_path):
  with pytest.raises(
    UserError, match='`data=nowhere` is not a folder of clips'
  ):
    clips.find_clips('data', 'nowhere')
  (tmp_path / 'notes.txt').touch()
  with pytest.raises(UserError, match='`predictions=.*` has no clips: name'):
    clips.find_clips('predictions', str(tmp_path))
