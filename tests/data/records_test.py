"""Records: what goes in comes out, as exactly as promised."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy import ndimage

from vitexco_jax.data import records
from vitexco_jax.errors import UserError

_SIZE = (24, 40)


def _rgb(seed, size=_SIZE):
  noise = np.random.default_rng(seed).standard_normal((*size, 3))
  smooth = ndimage.gaussian_filter(noise, (1, 1, 0))
  return np.uint8(np.clip(128 + 200 * smooth, 0, 255))


def _motion(seed):
  rng = np.random.default_rng(seed)
  flow = rng.uniform(-50, 50, (*_SIZE, 2)).astype(np.float32)
  return flow, rng.integers(0, 2, (*_SIZE, 1), np.uint8)


def _record(example):
  """As it comes back from TFDS, which gives text as bytes."""
  return records.Record(example | {'video': example['video'].encode()})


def _contents(folder, lengths=(3, 5), references=(7, 2)):
  """Parts of one video with a run of each length, and references."""
  runs, start = [], 0
  with records.PartWriter(folder / 'part') as writer:
    for frames in lengths:
      runs.append((0, start, frames))
      for i in range(start, start + frames):
        motion = None if i == start + frames - 1 else _motion(i)
        writer.write(records.encode(_rgb(i), 'x.mp4', i, motion, references))
      start += frames
    for number in references:
      writer.write(records.encode(_rgb(-number % 99), f'{number}.jpg', number))
  return records.Contents(
    size=_SIZE,
    settings={'flow': 'dis'},
    videos=['x.mp4'],
    runs=runs,
    references=list(references),
    left_out={'y.mp4': 'too short'},
    fingerprint='abc',
    frame_parts=[records.Part(folder / 'part', 0, start)],
    reference_parts=[records.Part(folder / 'part', start, len(references))],
  )


@pytest.fixture
def written(tmp_path):
  records.write(tmp_path, _contents(tmp_path))
  return tmp_path


def _assert_near(decoded, truth):
  """JPEG's loss, and no more."""
  error = np.abs(np.float32(decoded) - truth)
  assert error.mean() < 2 and error.max() < 10


def test_a_set_comes_back(written):
  made = records.Records(written)
  assert (made.size, len(made)) == (_SIZE, 8)
  assert made.settings == {'flow': 'dis'} and made.fingerprint == 'abc'
  assert made.left_out == {'y.mp4': 'too short'}
  assert made.runs == [('x.mp4', 0, 0, 3), ('x.mp4', 3, 3, 5)]
  for i in range(8):
    record = made.read(i)
    assert (record.video, record.index) == ('x.mp4', i)
    assert record.references == [7, 2]
    _assert_near(record.rgb(), _rgb(i))
    flow, visible = record.motion()
    assert flow.dtype == np.float32 and visible.dtype == np.uint8
    if i in (2, 7):  # The last of their runs.
      assert not visible.any()
    else:
      np.testing.assert_allclose(flow, _motion(i)[0], atol=1 / 16)
      np.testing.assert_array_equal(visible, _motion(i)[1])
  for number in (7, 2):
    picture = made.read_reference(number)
    assert (picture.video, picture.index) == (f'{number}.jpg', number)
    _assert_near(picture.rgb(), _rgb(-number % 99))


def test_tfds_reads_it_without_our_code(written):
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
  _assert_near(data[0]['frame'], _rgb(0))  # RGB, not BGR.
  flow, visible = _motion(0)
  planes = data[0]['motion'].astype(np.float32)
  np.testing.assert_allclose((planes[..., :2] - 2**15) / 8, flow, atol=1 / 16)
  np.testing.assert_array_equal(planes[..., 2:], visible)
  assert data.dataset_info.citation and data.dataset_info.description


def test_records_are_dealt_to_shards_in_order(tmp_path, monkeypatch):
  monkeypatch.setattr(records, '_SHARD_RECORDS', 3)
  contents = _contents(tmp_path)
  (part,) = contents.frame_parts  # In three pieces, across the shards.
  pieces = [
    part._replace(first=i, count=n) for i, n in ((0, 1), (1, 4), (5, 3))
  ]
  records.write(tmp_path, contents._replace(frame_parts=pieces))
  made = records.Records(tmp_path)
  assert [made.read(i).index for i in range(8)] == list(range(8))
  shards = sorted(x.name for x in (tmp_path / 'vitexco/1.0.0').glob('*train*'))
  assert shards == [
    f'vitexco-train.array_record-0000{i}-of-00003' for i in range(3)
  ]


def test_chroma_is_kept_at_full_resolution():
  # Columns of red and blue of about equal luminance: halved, they turn purple.
  stripes = np.zeros((16, 32, 3), np.uint8)
  stripes[:, ::2], stripes[:, 1::2] = (150, 0, 0), (0, 60, 255)
  frame = _record(records.encode(stripes, 'x', 0)).rgb()
  assert np.abs(np.float32(frame) - stripes).max() < 12


def test_flow_out_of_range_does_not_wrap():
  flow, visible = _motion(0)
  flow[0, 0] = [1e6, -1e6]
  example = records.encode(_rgb(0), 'x', 0, (flow, visible))
  flow, _ = _record(example).motion()
  assert flow[0, 0, 0] > 4000 and flow[0, 0, 1] < -4000


def test_a_frame_is_small_enough():
  """Under 200 KB at 224x384, on a picture full of detail and rough motion."""
  detailed = cv2.resize(_rgb(0, (56, 96)), (384, 224))
  rough = np.random.default_rng(0).normal(0, 5, (28, 48, 2))
  flow = cv2.resize(rough, (384, 224)).astype(np.float32)
  visible = np.ones((224, 384, 1), np.uint8)
  example = records.encode(detailed, 'x', 0, (flow, visible), range(5))
  assert _record(example).bytes < 200_000


def test_what_is_broken_is_named_and_the_rest_is_read(written):
  (shard,) = (written / 'vitexco/1.0.0').glob('*train*')
  data = bytearray(shard.read_bytes())
  encoded = cv2.imencode('.png', np.zeros((1, 1)))[1].tobytes()[:8]  # PNG.
  data[data.index(encoded) + 200] ^= 0xFF  # In the first record.
  shard.write_bytes(data)
  made = records.Records(written)
  with pytest.raises(records.BrokenRecord, match='record 0 of train: .*hash'):
    made.read(0)
  assert made.read(1).index == 1
  shard.unlink()
  made = records.Records(written)
  with pytest.raises(
    records.BrokenRecord, match='record 1 of train: .*No such'
  ):
    made.read(1)
  assert made.read_reference(7).index == 7


def test_a_part_appears_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'part'
  example = records.encode(_rgb(0), 'x', 0)
  with pytest.raises(ZeroDivisionError), records.PartWriter(path) as writer:
    writer.write(example)
    assert not path.exists()
    raise ZeroDivisionError
  with records.PartWriter(path):
    pass
  assert not list(tmp_path.iterdir())
  with records.PartWriter(path) as writer:
    writer.write(example)
  assert list(tmp_path.iterdir()) == [path] and writer.count == 1


def test_a_set_appears_whole_or_not_at_all(written, monkeypatch):
  contents = _contents(written, lengths=(4,))
  broken = contents._replace(fingerprint='new')
  missing = [records.Part(written / 'missing', 0, 4)]
  with pytest.raises(OSError):
    records.write(written, broken._replace(frame_parts=missing))
  assert records.Records(written).fingerprint == 'abc'
  records.write(written, broken)
  assert records.Records(written).fingerprint == 'new'
  assert sorted(x.name for x in written.iterdir()) == ['part', 'vitexco']


def test_a_part_that_cannot_be_written(tmp_path):
  with (
    pytest.raises(OSError),
    records.PartWriter(tmp_path / 'missing/part') as writer,
  ):
    writer.write(records.encode(_rgb(0), 'x', 0))


def test_something_else_in_its_place(written):
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
