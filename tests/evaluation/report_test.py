"""The report of an evaluation: tables and files of values."""

from vitexco_jax.evaluation import report

_SUMMARY = {
  'settings': {'checkpoint': 'w', 'input': 'gray', 'working_size': (224, 384)},
  'protocols': {
    'first': {
      'mean': {
        'truth': {'colorfulness': 30.0},
        'ours': {'psnr': 31.254, 'colorfulness': 20.0, 'ssim': None},
        'gray': {'psnr': 25.0, 'colorfulness': 0.0},
      },
      'clips': {
        'clip': {
          'frames': 7,
          'size': (48, 64),
          'references': ['frame 0'],
          'methods': {'ours': {'psnr': 31.254}, 'gray': {'psnr': 25.0}},
        }
      },
    }
  },
}


def test_tables_have_the_measured_columns_and_mark_the_best_value():
  text = report.markdown(_SUMMARY)
  assert 'working size within 384x224' in text
  assert '1 clips, 7 frames.' in text
  assert '| method | PSNR, dB | colorfulness |' in text  # No SSIM was measured.
  assert '| truth |  | 30.0 |' in text
  assert '| ours | **31.25** |' in text
  assert '| gray | 25.00 |' in text
  assert '64x48 | 7 | frame 0 | **31.25** | 25.00 |' in text


def test_values_of_frames_are_empty_if_a_method_does_not_have_them():
  methods = {
    'ours': {'psnr': [30.0, 31.0], 'mean': 30.5},
    'truth': {'colorfulness': [9.0, 8.0]},
  }
  results = {'first': {'clip': {'frames': 2, 'methods': methods}}}
  assert report._frames_csv(results).splitlines() == [
    'protocol,clip,method,frame,psnr,colorfulness',
    'first,clip,ours,0,30.0,',
    'first,clip,ours,1,31.0,',
    'first,clip,truth,0,,9.0',
    'first,clip,truth,1,,8.0',
  ]
