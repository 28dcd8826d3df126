"""Leaderboards: rows of evaluations in a CSV file."""

import csv
from pathlib import Path

import pytest
from small_clips import Brighter, run_evaluate, write_clip

from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import leaderboard


def _read(board):
  return list(csv.DictReader(board.read_text().splitlines()))


def test_rows_are_the_means_of_evaluations_best_first(folder):
  board = folder / 'boards' / 'board.csv'
  arguments = {'compared': ['gray'], 'board': board}
  summary = run_evaluate(folder, Brighter(), **arguments)
  rows = _read(board)
  assert [row['method'] for row in rows] == ['vitexco', 'gray']
  means = summary['protocols']['first-frame']['mean']
  for row in rows:
    mean = means[row['method']]
    assert row['psnr_not_given'] == f'{mean["psnr_not_given"]:.2f}'
    assert row['cdc_gap'] == f'{mean["cdc_gap"]:.6f}'
    assert (row['clips'], row['frames']) == ('2', '15')
    assert row['data'].startswith('data ')

  # The same again replaces the rows; other clips are other data.
  run_evaluate(folder, Brighter(), **arguments)
  assert _read(board) == rows
  write_clip(folder / 'data' / 'zoo', 4, seed=2)
  run_evaluate(folder, Brighter(), **arguments)
  names = {row['data'] for row in _read(board)}
  assert len(names) == 2


def test_another_file_is_refused_before_the_evaluation(folder):
  board = folder / 'board.csv'
  board.write_text('a,b\n1,2\n')
  colorizer = Brighter()
  with pytest.raises(UserError, match='board.csv` is not a leaderboard'):
    run_evaluate(folder, colorizer, board=board)
  assert not colorizer.references
  assert board.read_text() == 'a,b\n1,2\n'


def test_a_row_that_is_cut_short_is_refused(tmp_path):
  board = tmp_path / 'board.csv'
  board.write_text(','.join(leaderboard.COLUMNS) + '\nDAVIS,first-frame\n')
  with pytest.raises(UserError, match='is not a leaderboard'):
    leaderboard.read(board)


def test_the_published_rows_agree_with_the_readme():
  root = Path(__file__).parents[2]
  rows = leaderboard.read(root / 'docs' / 'leaderboard.csv')
  first = {x['method']: x for x in rows if x['protocol'] == 'first-frame'}
  psnr = {name: float(x['psnr_not_given']) for name, x in first.items()}
  assert psnr['vitexco'] > psnr['flow'] > psnr['gray']
  assert f'ten clips of DAVIS | {psnr["vitexco"]:.2f} dB' in (
    (root / 'README.md').read_text()
  )
