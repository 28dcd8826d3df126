"""Training logs: means, resumed runs, and values that are not finite."""

import json
import struct

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.training import logging

SETTINGS = ml_collections.ConfigDict({'accumulation': 2, 'batch_size': 8})


def _add(log_, *losses, since=0):
  """Adds a micro-step for each loss, numbered from `since`."""
  for micro_step, loss in enumerate(losses, since + 1):
    metrics = {'loss': 2 * loss, 'raw/l1': loss, 'weighted/l1': 2 * loss}
    log_.add(micro_step, {k: jnp.float32(v) for k, v in metrics.items()})


def _rows(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def _board(workdir):
  """Returns (tag, update) of each value in the TensorBoard files."""
  actual = {}
  for path in sorted((workdir / 'tensorboard').glob('events.*')):
    rest = path.read_bytes()
    while rest:  # Length, checksum, event, checksum.
      (length,) = struct.unpack('<Q', rest[:8])
      event = event_pb2.Event.FromString(rest[12 : 12 + length])
      rest = rest[16 + length :]
      for value in event.summary.value:
        actual[value.tag, event.step] = value
  return actual


def test_skipped_samples_are_counted(tmp_path):
  log_ = logging.Log(tmp_path, SETTINGS, 0)
  _add(log_, 1, 2)
  assert log_.flush() == 'loss 3.000'
  _add(log_, 1, 2, since=2)
  assert log_.flush(5) == 'loss 3.000, 5 samples skipped'
  log_.close()
  assert [row['skipped_samples'] for row in _rows(tmp_path)] == [0, 5]


def test_a_section_without_accumulation_has_one_micro_step_per_update(tmp_path):
  log_ = logging.Log(tmp_path, ml_collections.ConfigDict({'batch_size': 8}), 0)
  _add(log_, 1, 2)
  log_.flush()
  log_.close()
  assert [row['update'] for row in _rows(tmp_path)] == [2]


def test_a_row_is_the_mean_since_the_previous_row(tmp_path):
  log_ = logging.Log(tmp_path, SETTINGS, 0)
  _add(log_, 1, 2, 3, 6)
  assert log_.flush() == 'loss 6.000'
  _add(log_, 5, 7, since=4)
  log_.flush()
  assert log_.flush() == ''  # Nothing was added.
  log_.close()
  rows = _rows(tmp_path)
  assert [(row['update'], row['raw/l1']) for row in rows] == [(2, 3), (3, 6)]
  board = _board(tmp_path)
  for row in rows:
    assert row['updates_per_second'] > 0
    assert row['samples_per_second'] == pytest.approx(
      8 * row['updates_per_second']
    )
    for name in row.keys() - {'update'}:
      value = board[name, row['update']].simple_value
      assert value == pytest.approx(row[name])


def test_a_resumed_run_removes_rows_after_its_checkpoint(tmp_path):
  log_ = logging.Log(tmp_path, SETTINGS, 0)
  for update in range(4):
    _add(log_, 1, 1, since=2 * update)
    log_.flush()
  log_.close()
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"upd')  # Incomplete, because the run was killed.
  log_ = logging.Log(tmp_path, SETTINGS, 4)
  assert [row['update'] for row in _rows(tmp_path)] == [1, 2]
  _add(log_, 9, 9, since=4)
  log_.flush()
  log_.close()
  losses = [(row['update'], row['raw/l1']) for row in _rows(tmp_path)]
  assert losses == [(1, 1), (2, 1), (3, 9)]


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_term_that_is_not_finite_is_named_and_not_written(tmp_path, bad):
  log_ = logging.Log(tmp_path, SETTINGS, 0)
  _add(log_, 1, bad)
  with pytest.raises(
    UserError, match=r'because l1 is not finite in micro-step 2:'
  ):
    log_.flush()
  log_.close()
  assert not (tmp_path / 'metrics.jsonl').exists()


def test_a_sum_that_is_not_finite_is_named_if_its_terms_are_finite(tmp_path):
  log_ = logging.Log(tmp_path, SETTINGS, 0)
  log_.add(1, {'raw/l1': jnp.float32(1), 'gradient_norm/vit': jnp.inf})
  with pytest.raises(
    UserError, match='because gradient_norm/vit is not finite'
  ):
    log_.flush()
  log_.close()


def test_contact_sheets_are_written(tmp_path):
  log_ = logging.Log(tmp_path, SETTINGS, 0)
  image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
  log_.strip(7, image)
  log_.close()
  actual = video.read_image(tmp_path / 'strips/000007.png')
  np.testing.assert_array_equal(actual, image)
  shown = _board(tmp_path)['strip', 7].image
  assert (shown.height, shown.width) == (32, 40)


def test_noted_values_are_in_the_next_row(tmp_path):
  log_ = logging.Log(tmp_path, SETTINGS, 0)
  _add(log_, 1, 2)
  log_.note({'follow/warped': 0.456})
  assert log_.flush() == 'loss 3.000, follow/warped 0.46'
  _add(log_, 1, 2, since=2)
  assert log_.flush() == 'loss 3.000, follow/warped 0.46'  # The newest.
  log_.close()
  first, second = _rows(tmp_path)
  assert first['follow/warped'] == 0.456 and 'follow/warped' not in second
  assert ('follow/warped', 1) in _board(tmp_path)
