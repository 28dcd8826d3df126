"""Records: what goes in comes out, as exactly as promised."""

import numpy as np
import pytest
from scipy import ndimage

from vitexco_jax import records
from vitexco_jax.errors import UserError


def _run(frames=3, height=24, width=40):
  rng = np.random.default_rng(0)
  noise = rng.standard_normal((frames, height, width, 3))
  smooth = ndimage.gaussian_filter(noise, (0, 1, 1, 0))
  return records.Run(
    rgb=np.uint8(np.clip(128 + 200 * smooth, 0, 255)),
    flow=rng.uniform(-50, 50, (frames - 1, height, width, 2)).astype(
      np.float32
    ),
    visible=rng.integers(0, 2, (frames - 1, height, width, 1), np.uint8),
  )


def test_a_run_comes_back():
  run = _run()
  references = tuple(run.rgb[::-1])
  record = records.Record(records.encode(run, references))
  assert (record.frames, record.references) == (3, 3)
  for index in range(3):
    error = np.abs(np.float32(record.frame(index)) - run.rgb[index])
    assert error.mean() < 2 and error.max() < 10
    np.testing.assert_array_equal(
      record.reference(index), record.frame(2 - index)
    )
  for index in range(2):
    flow, visible = record.flow(index)
    assert flow.dtype == np.float32 and visible.dtype == np.uint8
    np.testing.assert_allclose(flow, run.flow[index], atol=1 / 16)
    np.testing.assert_array_equal(visible, run.visible[index])


def test_chroma_is_kept_at_full_resolution():
  # Columns of red and blue of about equal luminance: halved, they turn purple.
  stripes = np.zeros((1, 16, 32, 3), np.uint8)
  stripes[:, :, ::2], stripes[:, :, 1::2] = (150, 0, 0), (0, 60, 255)
  empty = np.zeros((0, 16, 32, 2), np.float32)
  run = records.Run(stripes, empty, np.zeros((0, 16, 32, 1), np.uint8))
  frame = records.Record(records.encode(run)).frame(0)
  assert np.abs(np.float32(frame) - stripes[0]).max() < 12


def test_flow_out_of_range_does_not_wrap():
  run = _run(2)
  run.flow[0, 0, 0] = [1e6, -1e6]
  flow, _ = records.Record(records.encode(run)).flow(0)
  assert flow[0, 0, 0] > 4000 and flow[0, 0, 1] < -4000


def test_shard_appears_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'x.array_record'
  with pytest.raises(ZeroDivisionError), records.ShardWriter(path) as writer:
    writer.write(b'lost')
    assert not path.exists()
    raise ZeroDivisionError
  assert not list(tmp_path.iterdir())
  with records.ShardWriter(path):
    pass
  assert not list(tmp_path.iterdir())
  with records.ShardWriter(path) as writer:
    for run in (_run(3), _run(5)):
      writer.write(records.encode(run))
  assert list(tmp_path.iterdir()) == [path]
  entry = records.Entry(path.name, 1, 'x.mp4', 3, 5)
  assert records.read_record(tmp_path, entry).frames == 5


def test_shard_that_cannot_be_written(tmp_path):
  with (
    pytest.raises(OSError),
    records.ShardWriter(tmp_path / 'missing/x.array_record') as writer,
  ):
    writer.write(b'lost')


def test_manifest_of_another_kind(tmp_path):
  with pytest.raises(FileNotFoundError):
    records.Manifest.read(tmp_path)
  for text in ('{', '{"records": []}', '[]'):
    (tmp_path / 'manifest.json').write_text(text)
    with pytest.raises(UserError, match='not a manifest.*prepare again'):
      records.Manifest.read(tmp_path)
