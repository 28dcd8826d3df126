"""Means of the metrics of each clip, and over the clips."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vitexco_jax.evaluation import metrics, report

_LAST = 10  # Frames at the end that have a separate mean.


def summarize(results: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the means of each clip and the means over the clips."""
  rows = {}
  for name, result in results.items():
    true = result['methods'][report.TRUTH]
    rows[name] = {
      **{x: result[x] for x in ('size', 'frames', 'references')},
      'methods': {
        method: _means(values, true, result)
        for method, values in result['methods'].items()
      },
    }
  by_method: dict[str, dict[str, list[float | None]]] = collections.defaultdict(
    lambda: collections.defaultdict(list)
  )
  for row in rows.values():
    for method, values in row['methods'].items():
      for key, value in values.items():
        by_method[method][key].append(value)
  means = {
    method: {key: _mean(x) for key, x in values.items()}
    for method, values in by_method.items()
  }
  return {'mean': means, 'clips': rows}


def _means(
  values: Mapping[str, Any],
  true: Mapping[str, Any],
  result: Mapping[str, Any],
) -> dict[str, float | None]:
  """Returns a method's values for a clip."""
  counted = [i for i in range(result['frames']) if i not in result['uncounted']]
  free = [i for i in counted if i not in result['given']]
  row: dict[str, float | None] = {}
  for key, series in values.items():
    if key != 'cdc':
      row[key] = _mean([series[i] for i in counted])
  row['cdc'] = values['cdc']
  if 'psnr' in values:
    for key in ('psnr', 'ssim'):
      row[f'{key}_not_given'] = _mean([values[key][i] for i in free])
    row['psnr_last'] = _mean([values['psnr'][i] for i in counted[-_LAST:]])
    colorfulness = _mean([true['colorfulness'][i] for i in counted])
    assert row['colorfulness'] is not None and colorfulness is not None
    row['colorfulness_gap'] = row['colorfulness'] - colorfulness
    row['cdc_gap'] = abs(values['cdc'] - true['cdc'])
    row['drift'] = metrics.drift(values['chroma'], true['chroma'])
  return row


def _mean(values: Sequence[float | None]) -> float | None:
  """Returns the mean of the values that are not None."""
  known = [x for x in values if x is not None]
  return math.fsum(known) / len(known) if known else None
