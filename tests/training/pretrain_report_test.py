"""The report of pretraining; `pretrain_test` writes one."""

from vitexco_jax.training import pretrain_report


def test_the_table_has_a_column_for_each_measured_value():
  report = {
    'kind': 'subpixel',
    'held_out': 32,
    'color': {'level1': 0.5, 'class_token': 0.25},
    'gray': {'level1': 0.4375, 'class_token': 0.125},
    'prior': {'error': 80.0, 'gray': 160.0},
  }
  text = pretrain_report.describe(report)
  assert '| input | level 1 | class token |' in text
  assert '| color | 0.500 | 0.250 |' in text
  assert '| gray | 0.438 | 0.125 |' in text
  assert text.endswith('80.0 with the prior, 160.0 for gray.')
  del report['prior']
  assert 'Mean squared error' not in pretrain_report.describe(report)
