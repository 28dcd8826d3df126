"""Records: round trips of their fields, errors, and TFDS."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from random_records import SIZE, random_motion, random_rgb

from vitexco_jax.data import records
from vitexco_jax.errors import UserError


def _record(example):
  """A record as TFDS returns it, with text as bytes."""
  return records.Record(example | {'video': example['video'].encode()})


def _assert_near(decoded, truth):
  """Equal except for the loss of JPEG."""
  error = np.abs(np.float32(decoded) - truth)
  assert error.mean() < 2 and error.max() < 10


def test_round_trip_of_a_data_set(written):
  result = records.Records(written)
  assert (result.size, len(result)) == (SIZE, 8)
  assert result.settings == {'flow': 'dis'} and result.fingerprint == 'abc'
  assert result.left_out == {'y.mp4': 'too short'}
  assert result.runs == [('x.mp4', 0, 0, 3), ('x.mp4', 3, 3, 5)]
  for i in range(8):
    record = result.read(i)
    assert (record.video, record.index) == ('x.mp4', i)
    assert record.references == [7, 2]
    _assert_near(record.rgb(), random_rgb(i))
    flow, visible = record.motion()
    assert flow.dtype == np.float32 and visible.dtype == np.uint8
    if i in (2, 7):  # The last of their runs.
      assert not visible.any()
    else:
      np.testing.assert_allclose(flow, random_motion(i)[0], atol=1 / 16)
      np.testing.assert_array_equal(visible, random_motion(i)[1])
  for number in (7, 2):
    picture = result.read_reference(number)
    assert (picture.video, picture.index) == (f'{number}.jpg', number)
    _assert_near(picture.rgb(), random_rgb(-number % 99))


def test_tfds_reads_records_without_this_package(written):
  script = (
    'import sys, tensorflow_datasets as tfds\n'
    'data = tfds.data_source("vitexco", split="train", data_dir=sys.argv[1])\n'
    'print(len(data), data[3]["video"].decode(), data[3]["motion"].dtype)\n'
    'print(data.dataset_info.metadata["videos"])\n'
    'print([x for x in ("vitexco_jax", "tensorflow") if x in sys.modules])\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, written],
    capture_output=True,
    text=True,
    cwd=written,
  )
  assert done.stdout == "8 x.mp4 uint16\n['x.mp4']\n[]\n", done.stderr
  data = tfds.data_source('vitexco', split='train', data_dir=str(written))
  _assert_near(data[0]['frame'], random_rgb(0))  # RGB, not BGR.
  flow, visible = random_motion(0)
  planes = data[0]['motion'].astype(np.float32)
  np.testing.assert_allclose((planes[..., :2] - 2**15) / 8, flow, atol=1 / 16)
  np.testing.assert_array_equal(planes[..., 2:], visible)
  assert data.dataset_info.citation and data.dataset_info.description


def test_chroma_is_kept_at_full_resolution():
  # Columns of red and blue of about equal luminance: halved, they turn purple.
  stripes = np.zeros((16, 32, 3), np.uint8)
  stripes[:, ::2], stripes[:, 1::2] = (150, 0, 0), (0, 60, 255)
  frame = _record(records.encode(stripes, 'x', 0)).rgb()
  assert np.abs(np.float32(frame) - stripes).max() < 12


def test_flow_out_of_range_does_not_wrap():
  flow, visible = random_motion(0)
  flow[0, 0] = [1e6, -1e6]
  example = records.encode(random_rgb(0), 'x', 0, (flow, visible))
  flow, _ = _record(example).motion()
  assert flow[0, 0, 0] > 4000 and flow[0, 0, 1] < -4000


def test_a_frame_is_small_enough():
  """Under 200 KB at 224x384, on a picture full of detail and rough motion."""
  detailed = cv2.resize(random_rgb(0, (56, 96)), (384, 224))
  rough = np.random.default_rng(0).normal(0, 5, (28, 48, 2))
  flow = cv2.resize(rough, (384, 224)).astype(np.float32)
  visible = np.ones((224, 384, 1), np.uint8)
  example = records.encode(detailed, 'x', 0, (flow, visible), range(5))
  assert _record(example).bytes < 200_000


def test_broken_records_are_named_and_others_are_read(written):
  (shard,) = (written / 'vitexco/1.0.0').glob('*train*')
  data = bytearray(shard.read_bytes())
  encoded = cv2.imencode('.png', np.zeros((1, 1)))[1].tobytes()[:8]  # PNG.
  data[data.index(encoded) + 200] ^= 0xFF  # In the first record.
  shard.write_bytes(data)
  result = records.Records(written)
  with pytest.raises(records.BrokenRecord, match='record 0 of train: .*hash'):
    result.read(0)
  assert result.read(1).index == 1
  shard.unlink()
  result = records.Records(written)
  with pytest.raises(
    records.BrokenRecord, match='record 1 of train: .*No such'
  ):
    result.read(1)
  assert result.read_reference(7).index == 7


def test_other_files_in_the_place_of_a_data_set_are_refused(written):
  with pytest.raises(FileNotFoundError):
    records.Records(written / 'elsewhere')
  path = written / 'vitexco/1.0.0'
  for name in ('metadata.json', 'dataset_info.json'):
    kept = (path / name).read_text()
    for text in ('{', '{}'):
      (path / name).write_text(text)
      with pytest.raises(UserError, match='not a training set.*prepare again'):
        records.Records(written)
    (path / name).write_text(kept)
