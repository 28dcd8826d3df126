"""evaluate with a stand-in colorizer whose results are known."""

import csv
import json

import cv2
import ml_collections
import numpy as np
import pytest
from skimage import color as skcolor
from skimage import metrics as skmetrics

from vitexco_jax import color, evaluate, video
from vitexco_jax.errors import UserError

_CONFIG = ml_collections.ConfigDict(
  {
    'model': {'vit': {'taps': (1, 2), 'gelu': 'tanh'}},
    'use': {'size': (64, 96), 'temperature': 0.01},
  }
)


class _Brighter:
  """Gives each frame back 10 brighter, two frames behind, and keeps count."""

  def __init__(self):
    self.references = []

  def set_reference(self, rgb, first_frame=False):
    assert first_frame
    self.references.append(rgb)

  def colorize(self, frames):
    waiting = []
    for rgb in frames:
      waiting.append(rgb + np.uint8(10))
      if len(waiting) > 2:
        yield waiting.pop(0)
    yield from waiting


def _write_clip(folder, frames, seed=0):
  """Writes smooth colourful frames as PNG; returns them."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(seed)
  clip = []
  for i in range(frames):
    small = rng.integers(20, 220, (4, 5, 3), np.uint8)
    rgb = cv2.resize(small, (40, 32), interpolation=cv2.INTER_LINEAR)
    assert cv2.imwrite(str(folder / f'{i:05}.png'), rgb[..., ::-1])
    clip.append(rgb)
  return np.stack(clip)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'weights').write_text('of the first training')
  _write_clip(tmp_path / 'data' / 'walk', 12)
  _write_clip(tmp_path / 'data' / 'boat', 3, seed=1)
  return tmp_path


def _evaluate(folder, colorizer, config=_CONFIG):
  return evaluate.evaluate(
    config, colorizer, folder / 'weights', folder / 'data', folder / 'out'
  )


def test_values_table_and_files(folder, capsys):
  clip = _write_clip(folder / 'data' / 'zoo', 12, seed=2)
  summary = _evaluate(folder, _Brighter())

  assert list(summary['clips']) == ['boat', 'walk', 'zoo']
  row = summary['clips']['zoo']
  assert (row['frames'], row['size']) == (12, [32, 40])
  # 10 off everywhere.
  for column in ('psnr', 'psnr_without_first', 'psnr_last_ten'):
    np.testing.assert_allclose(row[column], 20 * np.log10(25.5), 1e-9)

  lab = skcolor.rgb2lab(clip)
  grey = np.round(skcolor.lab2rgb(lab * [1, 0, 0]) * 255).astype(np.uint8)
  psnr = [
    skmetrics.peak_signal_noise_ratio(a, b)
    for a, b in zip(clip, grey, strict=True)
  ]
  ssim = [
    skmetrics.structural_similarity(a, b, channel_axis=-1)
    for a, b in zip(clip, grey, strict=True)
  ]
  np.testing.assert_allclose(row['grey_psnr'], np.mean(psnr), 1e-3)
  np.testing.assert_allclose(
    row['grey_psnr_without_first'], np.mean(psnr[1:]), 1e-3
  )
  np.testing.assert_allclose(row['grey_ssim'], np.mean(ssim), 1e-3)

  # A clip counts as much as another, however long.
  np.testing.assert_allclose(
    summary['mean']['grey_psnr'],
    np.mean([r['grey_psnr'] for r in summary['clips'].values()]),
  )
  out = folder / 'out'
  assert json.loads((out / 'summary.json').read_text()) == summary
  assert (summary['protocol'], summary['working_size']) == (
    'first-frame',
    [64, 96],
  )
  printed = capsys.readouterr().out
  assert '96x64' in printed
  assert (
    f'| zoo | 40x32 | 12 | 28.13 | 28.13 | 28.13 | {np.mean(psnr):.2f} |'
    in (printed)
  )
  with (out / 'frames.csv').open() as file:
    frames = list(csv.DictReader(file))
  assert [r['frame'] for r in frames if r['clip'] == 'boat'] == ['0', '1', '2']
  np.testing.assert_allclose(float(frames[-1]['grey_psnr']), psnr[-1], 1e-3)


def test_reference_is_the_first_frame_and_strip_shows_five(folder, monkeypatch):
  drawn = {}

  def strip(rows, labels):
    drawn[len(rows[0])] = dict(zip(labels, rows, strict=True))
    return np.zeros((8, 8, 3), np.uint8)

  monkeypatch.setattr(evaluate.strips, 'strip', strip)
  colorizer = _Brighter()
  _evaluate(folder, colorizer)
  first = cv2.imread(str(folder / 'data' / 'boat' / '00000.png'))[..., ::-1]
  np.testing.assert_array_equal(colorizer.references[0], first)

  # Columns: frames 0, 3, 6, 8, 11.
  last = cv2.imread(str(folder / 'data' / 'walk' / '00011.png'))[..., ::-1]
  rows = drawn[5]
  np.testing.assert_array_equal(rows['truth'][-1], last)
  np.testing.assert_array_equal(rows['grey'][-1], color.grey(last))
  np.testing.assert_array_equal(rows['coloured'][-1], last + 10)


def test_goes_on_with_what_is_missing_or_has_changed(folder):
  first = _evaluate(folder, _Brighter())
  colorizer = _Brighter()
  assert _evaluate(folder, colorizer) == first
  assert not colorizer.references

  _write_clip(folder / 'data' / 'new', 2)
  _evaluate(folder, colorizer)
  assert len(colorizer.references) == 1

  (folder / 'data' / 'boat' / '00002.png').unlink()
  assert _evaluate(folder, colorizer)['clips']['boat']['frames'] == 2
  assert len(colorizer.references) == 2

  (folder / 'weights').write_text('of a further training')
  _evaluate(folder, colorizer)
  assert len(colorizer.references) == 5

  changed = _CONFIG.copy_and_resolve_references()
  changed.model.vit.gelu = 'erf'
  _evaluate(folder, colorizer, changed)
  assert len(colorizer.references) == 8


def test_clips_before_a_broken_one_are_kept(folder):
  _write_clip(folder / 'data' / 'single', 1)
  with pytest.raises(UserError, match='single has fewer than'):
    _evaluate(folder, _Brighter())
  (folder / 'data' / 'single' / '00000.png').unlink()
  (folder / 'data' / 'single').rmdir()
  colorizer = _Brighter()
  _evaluate(folder, colorizer)
  assert len(colorizer.references) == 1  # Only walk; boat came before.


def test_lost_frames_do_not_pass(folder):
  colorizer = _Brighter()
  colorize = colorizer.colorize
  colorizer.colorize = lambda frames: list(colorize(frames))[:-1]
  with pytest.raises(RuntimeError, match='2 of 3 frames'):
    _evaluate(folder, colorizer)


def _write_video(path, frames):
  with video.VideoWriter(path, video.Format(*frames.shape[1:3])) as writer:
    for rgb in frames:
      writer.write(video.Frame(rgb))


def test_a_video_that_is_cut_short_is_refused(folder):
  path = folder / 'data' / 'film.mkv'
  rng = np.random.default_rng(0)  # Noise, as all of the file shall be frames.
  _write_video(path, rng.integers(0, 256, (12, 32, 40, 3), np.uint8))
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 2 // 3])
  with pytest.raises(UserError, match=r'film\.mkv is damaged or cut short \('):
    _evaluate(folder, _Brighter())


def test_videos_are_clips_too(folder):
  _write_video(folder / 'data' / 'film.mkv', _write_clip(folder / 'frames', 7))
  summary = _evaluate(folder, _Brighter())
  assert list(summary['clips']) == ['boat', 'film.mkv', 'walk']
  assert summary['clips']['film.mkv']['frames'] == 7
  assert (folder / 'out' / 'strips' / 'film.mkv.png').exists()


def test_an_output_that_cannot_be_written_is_refused(folder):
  (folder / 'out').touch()
  colorizer = _Brighter()
  with pytest.raises(UserError, match=r'cannot write --output=.*out: File ex'):
    _evaluate(folder, colorizer)
  assert not colorizer.references


def test_folders_without_clips_are_refused(tmp_path):
  (tmp_path / 'weights').write_text('')
  with pytest.raises(UserError, match='not a folder'):
    _evaluate(tmp_path, _Brighter())
  (tmp_path / 'data').mkdir()
  (tmp_path / 'data' / 'notes.txt').write_text('')
  with pytest.raises(UserError, match='no clips'):
    _evaluate(tmp_path, _Brighter())
