"""Evaluation of fake methods with known results."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scipy
from skimage import color as skcolor
from skimage import metrics as skmetrics
from small_clips import (
  SIZE,
  Brighter,
  read_frames,
  read_row,
  run_evaluate,
  write_clip,
)

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.media import image_grid, video


def test_values_table_and_files(folder, capsys):
  clip = write_clip(folder / 'data' / 'zoo', 12, seed=2)
  summary = run_evaluate(folder, Brighter(), compared=['gray'])
  tables = summary['protocols']['first-frame']

  assert list(tables['clips']) == ['boat', 'walk', 'zoo']
  assert tables['clips']['zoo']['frames'] == 12
  assert tables['clips']['zoo']['size'] == list(SIZE)
  assert tables['clips']['zoo']['references'] == ['frame 0']
  row = read_row(summary, 'zoo')
  # All pixels differ by 10.
  for column in ('psnr', 'psnr_not_given', 'psnr_last', 'psnr_wrapped'):
    np.testing.assert_allclose(row[column], 20 * np.log10(25.5), 1e-9)
  np.testing.assert_allclose(row['lpips_alex'], 40)
  np.testing.assert_allclose(row['lpips_vgg'], 30)

  lab = skcolor.rgb2lab(clip)
  gray = np.round(skcolor.lab2rgb(lab * [1, 0, 0]) * 255).astype(np.uint8)
  pairs = list(zip(clip, gray, strict=True))
  psnr = [skmetrics.peak_signal_noise_ratio(a, b) for a, b in pairs]
  ssim = [
    skmetrics.structural_similarity(a, b, channel_axis=-1) for a, b in pairs
  ]
  delta = [
    skcolor.deltaE_ciede2000(skcolor.rgb2lab(a), skcolor.rgb2lab(b)).mean()
    for a, b in pairs
  ]
  row = read_row(summary, 'zoo', method='gray')
  np.testing.assert_allclose(row['psnr'], np.mean(psnr), 1e-3)
  np.testing.assert_allclose(row['psnr_not_given'], np.mean(psnr[1:]), 1e-3)
  np.testing.assert_allclose(row['psnr_last'], np.mean(psnr[2:]), 1e-3)
  np.testing.assert_allclose(row['ssim'], np.mean(ssim), 1e-3)
  np.testing.assert_allclose(row['ciede2000'], np.mean(delta), 1e-2)
  chroma = np.hypot(lab[..., 1], lab[..., 2]).mean((1, 2))
  slope = scipy.stats.linregress(np.arange(12), -chroma).slope
  np.testing.assert_allclose(row['drift'], 100 * slope, 1e-2)
  true = read_row(summary, 'zoo', method='truth')
  assert row['colorfulness'] < 1 < true['colorfulness']
  assert row['colorfulness_gap'] == row['colorfulness'] - true['colorfulness']
  assert true['cdc'] > 0 and 'psnr' not in true

  # All clips have the same weight, whatever their length.
  np.testing.assert_allclose(
    tables['mean']['gray']['psnr'],
    np.mean(
      [read_row(summary, x, method='gray')['psnr'] for x in tables['clips']]
    ),
  )
  out = folder / 'out'
  assert json.loads((out / 'summary.json').read_text()) == summary
  printed = capsys.readouterr().out
  assert (
    '96x64' in printed and (out / 'report.md').read_text() in printed + '\n'
  )
  assert (
    f'| zoo | 64x48 | 12 | frame 0 | **28.13** | {np.mean(psnr):.2f} |'
    in printed
  )
  with (out / 'frames.csv').open() as file:
    frames = list(csv.DictReader(file))
  assert [
    row['frame']
    for row in frames
    if (row['clip'], row['method']) == ('boat', 'vitexco')
  ] == ['0', '1', '2']
  np.testing.assert_allclose(float(frames[-1]['psnr']), psnr[-1], 1e-3)
  with (out / 'clips.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['method'] for row in rows] == 3 * ['truth', 'vitexco', 'gray']


def test_contact_sheet_has_five_frames_and_video_all(folder, monkeypatch):
  drawn = {}

  def strip(rows, labels):
    drawn[len(rows[0])] = dict(zip(labels, rows, strict=True))
    return np.zeros((8, 8, 3), np.uint8)

  monkeypatch.setattr(image_grid, 'draw', strip)
  run_evaluate(folder, Brighter(), compared=['gray'])
  rows = drawn[5]  # Frames 0, 3, 6, 8, 11.
  (last,) = read_frames(folder, 'walk', 11)
  assert list(rows) == [
    'truth',
    'vitexco',
    'gray',
    'error of vitexco',
    'error of gray',
  ]
  assert rows['error of vitexco'][-1].mean() < rows['error of gray'][-1].mean()
  np.testing.assert_array_equal(rows['truth'][-1], last)
  np.testing.assert_array_equal(rows['vitexco'][-1], last + 10)

  out = folder / 'out/first-frame'
  with video.VideoReader(out / 'walk.mp4') as reader:
    frames = [frame.rgb for frame in reader]
  assert len(frames) == 12
  height, width = SIZE
  assert frames[0].shape[1] == 3 * width
  for place, shift in enumerate((0, 10)):
    shown = frames[-1][-height:, place * width :][:, :width]
    difference = np.float32(shown) - last
    assert np.abs(difference - shift).mean() < 12  # Loss of H.264.
    assert abs(difference.mean() - shift) < 3
  page = (folder / 'out/report.html').read_text()
  assert page.count('<video') == page.count('data:video/mp4;base64') == 2
  assert page.count('data:image/png;base64') == 4
  assert page.count('poster="data:image/jpeg;base64') == 2
  assert 'src="http' not in page and '28.88' in page


def test_only_missing_or_changed_clips_are_evaluated(folder):
  first = run_evaluate(folder, Brighter())
  colorizer = Brighter()
  assert run_evaluate(folder, colorizer) == first
  assert not colorizer.references

  write_clip(folder / 'data' / 'new', 2)
  run_evaluate(folder, colorizer)
  assert len(colorizer.references) == 1

  (folder / 'data' / 'boat' / '00002.png').unlink()
  summary = run_evaluate(folder, colorizer)
  clips = summary['protocols']['first-frame']['clips']
  assert clips['boat']['frames'] == 2
  assert len(colorizer.references) == 2

  (folder / 'weights').write_text('of a further training')
  run_evaluate(folder, colorizer)
  assert len(colorizer.references) == 5

  colorizer.config = get_config('tiny')
  colorizer.config.model.vit.gelu = 'erf'
  run_evaluate(folder, colorizer)
  assert len(colorizer.references) == 8

  run_evaluate(folder, colorizer, compared=['gray'])
  assert len(colorizer.references) == 11

  (folder / 'out/first-frame/boat.mp4').unlink()
  run_evaluate(folder, colorizer, compared=['gray'])
  assert len(colorizer.references) == 12


def test_results_before_a_broken_clip_remain(folder):
  write_clip(folder / 'data' / 'single', 1)
  with pytest.raises(UserError, match='single has fewer than'):
    run_evaluate(folder, Brighter())
  (folder / 'data' / 'single' / '00000.png').unlink()
  (folder / 'data' / 'single').rmdir()
  colorizer = Brighter()
  run_evaluate(folder, colorizer)
  assert len(colorizer.references) == 1  # Only walk; boat came before.


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    ({'protocols': ['last-frame']}, '`protocols=last-frame`: known are first-'),
    ({'protocols': ['retrieved']}, '`protocols=retrieved` needs `gallery`'),
    ({'compared': ['sepia']}, '`compared=sepia`: known are gray, flow'),
    (
      {
        'protocols': ['first-frame', 'retrieved'],
        'gallery': Path('no_such_folder'),
      },
      'no_such_folder',
    ),
  ],
)
def test_invalid_arguments_are_refused_first(folder, arguments, sentence):
  colorizer = Brighter()
  with pytest.raises(UserError, match=sentence):
    run_evaluate(folder, colorizer, **arguments)
  assert not colorizer.references and not (folder / 'out').exists()


def test_an_output_that_cannot_be_written_is_refused(folder):
  (folder / 'out').touch()
  colorizer = Brighter()
  with pytest.raises(UserError, match=r'cannot write `output=.*out`: File ex'):
    run_evaluate(folder, colorizer)
  assert not colorizer.references
