"""The writer of records: shards, and nothing incomplete."""

import pytest
from random_records import random_rgb, write_parts

from vitexco_jax.data import records, records_writer


def test_records_are_divided_into_shards_in_order(tmp_path, monkeypatch):
  monkeypatch.setattr(records_writer, '_SHARD_RECORDS', 3)
  contents = write_parts(tmp_path)
  (part,) = contents.frame_parts  # In three pieces, across the shards.
  pieces = [part._replace(first=i, size=n) for i, n in ((0, 1), (1, 4), (5, 3))]
  records_writer.write(tmp_path, contents._replace(frame_parts=pieces))
  result = records.Records(tmp_path)
  assert [result.read(i).index for i in range(8)] == list(range(8))
  shards = sorted(x.name for x in (tmp_path / 'vitexco/1.0.0').glob('*train*'))
  assert shards == [
    f'vitexco-train.array_record-0000{i}-of-00003' for i in range(3)
  ]


def test_a_part_is_complete_or_absent(tmp_path):
  path = tmp_path / 'part'
  example = records.encode(random_rgb(0), 'x', 0)
  with (
    pytest.raises(ZeroDivisionError),
    records_writer.PartWriter(path) as writer,
  ):
    writer.write(example)
    assert not path.exists()
    raise ZeroDivisionError
  with records_writer.PartWriter(path):
    pass
  assert not list(tmp_path.iterdir())
  with records_writer.PartWriter(path) as writer:
    writer.write(example)
  assert list(tmp_path.iterdir()) == [path] and writer.count == 1


def test_a_data_set_is_replaced_atomically(written, monkeypatch):
  contents = write_parts(written, lengths=(4,))
  broken = contents._replace(fingerprint='new')
  missing = [records_writer.Part(written / 'missing', 0, 4)]
  with pytest.raises(OSError):
    records_writer.write(written, broken._replace(frame_parts=missing))
  assert records.Records(written).fingerprint == 'abc'
  records_writer.write(written, broken)
  assert records.Records(written).fingerprint == 'new'
  assert sorted(x.name for x in written.iterdir()) == ['part', 'vitexco']


def test_a_part_that_cannot_be_written_raises(tmp_path):
  with (
    pytest.raises(OSError),
    records_writer.PartWriter(tmp_path / 'missing/part') as writer,
  ):
    writer.write(records.encode(random_rgb(0), 'x', 0))
