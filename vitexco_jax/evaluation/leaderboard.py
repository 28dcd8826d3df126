"""A leaderboard: one row for each data set, protocol, and method, as CSV.

Rows come from evaluations only (`--mode=evaluate --leaderboard=FILE`). A row is
replaced when the same method is evaluated on the same data again. Rows of the same
data and protocol can be compared: `data` ends with a hash of the names, sizes, and
lengths of the clips.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vitexco_jax
from vitexco_jax import files
from vitexco_jax.errors import UserError

# Values of `summary.json`, with the decimals of the file. Frames that a method got
# as references do not count.
_VALUES = {
  'psnr_not_given': 2,
  'psnr_last': 2,
  'ssim_not_given': 4,
  'lpips_alex': 4,
  'ciede2000': 2,
  'cdc_gap': 6,
  'colorfulness_gap': 1,
  'psnr_wrapped': 2,
}
_KEY = ('data', 'protocol', 'method')
COLUMNS = _KEY + ('clips', 'frames') + tuple(_VALUES) + ('version',)
_BEST_FIRST = 'psnr_not_given'

Row = dict[str, str]


def read(path: Path) -> list[Row]:
  """Reads the rows; none if the file does not exist.

  Raises:
    UserError: the file is not a leaderboard.
  """
  if not path.exists():
    return []
  reader = csv.DictReader(io.StringIO(files.read_text(path)))
  rows = list(reader)
  complete = all(None not in row and None not in row.values() for row in rows)
  if tuple(reader.fieldnames or ()) != COLUMNS or not complete:
    raise UserError(
      f'`leaderboard={path}` is not a leaderboard: name a new file, or one that '
      'this option wrote'
    )
  return rows


def update(path: Path, data: str, summary: Mapping[str, Any]) -> None:
  """Adds the methods of an evaluation, or replaces their rows.

  Args:
    path: of the file, which is created if needed.
    data: name of the data.
    summary: the result of `evaluate.evaluate`.

  Raises:
    UserError: the file is not a leaderboard.
    OSError: it cannot be written.
  """
  rows = {tuple(row[x] for x in _KEY): row for row in read(path)}
  for row in _rows(data, summary):
    rows[tuple(row[x] for x in _KEY)] = row

  def rank(row: Mapping[str, Any]) -> tuple[str, str, float]:
    return row['data'], row['protocol'], -float(row[_BEST_FIRST])

  text = io.StringIO()
  writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
  writer.writeheader()
  writer.writerows(sorted(rows.values(), key=rank))
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write(path, text.getvalue())


def _rows(data: str, summary: Mapping[str, Any]) -> list[Row]:
  rows = []
  for protocol, tables in summary['protocols'].items():
    clips = tables['clips']
    for method, means in tables['mean'].items():
      if 'psnr' not in means:  # The truth.
        continue
      values = {
        name: '' if means[name] is None else f'{means[name]:.{decimals}f}'
        for name, decimals in _VALUES.items()
      }
      rows.append(
        {
          'data': f'{data} {_identity(clips)}',
          'protocol': protocol,
          'method': method,
          'clips': str(len(clips)),
          'frames': str(sum(x['frames'] for x in clips.values())),
          'version': vitexco_jax.__version__,
        }
        | values
      )
  return rows


def _identity(clips: Mapping[str, Any]) -> str:
  """Returns a hash of the clips that does not depend on how they are stored."""
  listed = sorted([name, x['frames'], x['size']] for name, x in clips.items())
  return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:8]
